"""How numbers of meshes were found: as fields for machines and as a sentence for people."""

import hashlib
from typing import Any

from facegen.training.callbacks.record import run_facts
from facegen.training.evaluation.draws import SEED
from facegen.training.evaluation.likelihood import ACTIVE_THRESHOLD
from facegen.training.evaluation.protocol import package_versions, processor_name
from facegen.training.mesh.arrays import MeshArrays
from facegen.training.mesh.measuring import (
    NOISE_MM,
    THRESHOLDS_MM,
    TIMED_BATCHES,
    MeasuredMeshes,
    MeshEvaluationOptions,
)
from facegen.training.run import MeshRun

__all__ = ["SYNTHESISED", "mesh_protocol_fields", "mesh_protocol_sentence"]

SYNTHESISED = (
    "All meshes are synthesised: ICT-FaceKit's identities, which were scanned, combined with its "
    "blend shapes by weights drawn from a seed. None was captured."
)

_PACKAGES = ("facegen", "numpy", "scipy", "torch", "embreex", "pillow")
_RUN_FACTS = ("commit", "seed", "torch", "device", "threads", "epochs", "epoch_seconds", "seconds")


def mesh_protocol_fields(
    run: MeshRun, meshes: MeshArrays, measured: MeasuredMeshes, options: MeshEvaluationOptions
) -> dict[str, Any]:
    """Everything that decides the numbers, as JSON values by name."""
    known, config = run_facts(seed=SEED, accelerator="cpu"), run.config
    return {
        "subject": {
            "name": run.paths.folder.resolve().name,
            "source": "run",
            "kind": config.model.kind,
            "variational": config.model.variational,
            "latent_size": config.model.latent_size,
            **{name: run.facts[name] for name in _RUN_FACTS if name in run.facts},
        },
        "data": {
            **config.data.model_dump(mode="json", exclude={"root"}),
            "seed": config.seed,
            "vertices": len(run.model.template),
            "train": len(meshes.vertices["train"]),
            "refused": len(meshes.refused),
            "selection": "evenly over each split",
            "splits": {
                name: {
                    "meshes": len(meshes.vertices[name]),
                    "measured": len(it.vertices),
                    "sha256": hashlib.sha256(it.vertices.tobytes()).hexdigest(),
                }
                for name, it in measured.splits.items()
            },
        },
        "errors": {
            "latent": "the posterior's mean",
            "thresholds_mm": [THRESHOLDS_MM[0], THRESHOLDS_MM[-1]],
            "noise_mm": NOISE_MM,
        },
        "pca": {
            "components": len(measured.pca.directions),
            "meshes": len(meshes.vertices["train"]),
            "solver": "subspace iteration",
        },
        "samples": {
            "count": measured.sample_count,
            "most": options.sample_count,
            "seed": SEED,
            "main_prior": "mixture",
            "unseen": measured.main,
            "distance": "root mean square over vertices",
        },
        "latents": {"split": "validation", "active_unit_threshold": ACTIVE_THRESHOLD},
        "timings": {"threads": 1, "batch_sizes": list(TIMED_BATCHES), "statistic": "median"},
        "threads": known["threads"],
        "processor": processor_name(),
        "versions": package_versions(_PACKAGES),
        "commit": known["commit"],
    }


def mesh_protocol_sentence(run: MeshRun, meshes: MeshArrays, measured: MeasuredMeshes) -> str:
    """The same in a few lines, as model cards print it."""
    train, count = len(meshes.vertices["train"]), measured.sample_count
    counts = ", ".join(f"{len(it.vertices)} {name}" for name, it in measured.splits.items())
    synthesised = f" {SYNTHESISED}" if run.config.data.reader == "ict" else ""
    return (
        f"Meshes of {run.config.data.reader} with {len(run.model.template)} vertices, evenly over "
        f"each split: {counts}.{synthesised} Vertex error: distance in millimetres between "
        "vertices of the same place, over all vertices and meshes, decoded from posterior means; "
        f"noisy: of meshes seen with normal noise of {NOISE_MM:g} mm on every coordinate. "
        f"PCA: fitted to all {train} training meshes, {len(measured.pca.directions)} components. "
        f"Specificity: mean over {count} samples, seed {SEED}, of the root mean square distance of "
        f"vertices to the nearest of all training meshes; floor: {count} unseen meshes of "
        f"{measured.main}. Variety: mean over those of the distance to the nearest of {count} "
        "samples; floor: as many training meshes. Times: median, one thread, PyTorch."
    )
