"""How numbers were found: as fields for machines and as a sentence for people."""

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dlib

from facegen.training.callbacks.record import run_facts
from facegen.training.data import FaceArrays
from facegen.training.data.points import SEARCHED_PX
from facegen.training.evaluation.comparing import Comparison
from facegen.training.evaluation.draws import SEED
from facegen.training.evaluation.likelihood import ACTIVE_THRESHOLD
from facegen.training.evaluation.measuring import LATENT_PICTURES, Measured
from facegen.training.evaluation.neighbours import DENSITY_NEIGHBOURS, PRECISION_NEIGHBOURS
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.sets import PCA_PICTURES
from facegen.training.evaluation.subject import SubjectFacts
from facegen.training.evaluation.timing import BATCH_SIZES

__all__ = [
    "comparison_fields",
    "comparison_sentence",
    "package_versions",
    "processor_name",
    "protocol_fields",
    "protocol_sentence",
]

_PACKAGES = ("facegen", "numpy", "scipy", "scikit-learn", "torch", "torchmetrics", "pillow")


def protocol_fields(
    facts: SubjectFacts, faces: FaceArrays, measured: Measured, options: EvaluationOptions
) -> dict[str, Any]:
    """Everything that decides the numbers of a model, as JSON values by name."""
    sets = measured.sets
    return {
        "subject": {
            "name": facts.title,
            "source": facts.source,
            "kind": facts.kind,
            "latent_size": facts.latent_size,
            "priors": list(facts.priors),
            **facts.details,
        },
        "samples": {
            "count": len(sets.real),
            "seed": SEED,
            "main_prior": sets.main,
            "temperatures": [1.0, *options.temperatures],
        },
        **comparison_fields(faces, measured, options),
        "latents": {
            "active_unit_threshold": ACTIVE_THRESHOLD,
            "training_pictures": min(len(sets.train), LATENT_PICTURES),
        },
        "likelihood": "evidence bound, one posterior sample a picture, deviation fitted to the "
        "floor's training pictures, uniform dequantisation of 8 bits",
        "labels": {"count": options.label_count, "minimum": options.label_minimum},
        "timings": {"threads": 1, "batch_sizes": list(BATCH_SIZES), "statistic": "median"},
    }


def comparison_fields(
    faces: FaceArrays, comparison: Comparison, options: EvaluationOptions
) -> dict[str, Any]:
    """Everything that decides how far pictures are from real ones, as JSON values by name."""
    sets, known = comparison.sets, run_facts(seed=SEED, accelerator="cpu")
    count, size_px, _, channels = sets.real.shape
    return {
        "data": {
            "reader": faces.dataset.name,
            "split": "validation",
            "selection": "the first of the split",
            "count": count,
            "crop": faces.dataset.crop,
            "crop_of": "central square, side as a fraction of the shorter side",
            "image_size_px": size_px,
            "channels": channels,
            "resize": "Pillow bicubic",
            "antialias": True,
            "bits": 8,
            "floor": f"{len(sets.fake['floor'])} training pictures, drawn without replacement",
            "sha256": hashlib.sha256(sets.real.tobytes()).hexdigest(),
        },
        "pca": {
            "components": sets.pca_components,
            "pictures": min(len(sets.train), PCA_PICTURES),
            "solver": "randomized",
            "seed": SEED,
        },
        "feature_networks": {
            it.network.name: {
                "description": it.network.description,
                "sha256": it.network.sha256,
                "resize": "bicubic" if it.network.name == "dlib" else "bilinear",
                "antialias": True,
                "batch_norm": "eval",
                "count": min(it.limit, count),
            }
            for it in comparison.judges
        },
        "precision_recall_neighbours": PRECISION_NEIGHBOURS,
        "density_coverage_neighbours": DENSITY_NEIGHBOURS,
        "found": {
            "detector": f"dlib {dlib.__version__}, histograms of oriented gradients",
            "searched_px": SEARCHED_PX,
            "count": min(options.searched_count, count),
        },
        "threads": known["threads"],
        "processor": processor_name(),
        "versions": package_versions(_PACKAGES),
        "commit": known["commit"],
    }


def protocol_sentence(faces: FaceArrays, measured: Measured, options: EvaluationOptions) -> str:
    """The same of a model in a few lines, as model cards print it."""
    compared = comparison_sentence(
        faces, measured, options, made=f"{len(measured.sets.real)} samples, seed {SEED}"
    )
    return (
        f"{compared} PSNR: mean over pictures; SSIM: Gaussian window of 11. Bits per dimension: "
        "evidence bound, deviation fitted to training pictures, uniform dequantisation."
    )


def comparison_sentence(
    faces: FaceArrays, comparison: Comparison, options: EvaluationOptions, *, made: str
) -> str:
    """How pictures were compared with real ones, in a few lines.

    Args:
        faces: The real pictures.
        comparison: What was compared.
        options: Counts.
        made: What the pictures are, and how many.
    """
    sets = comparison.sets
    count, size_px = sets.real.shape[:2]
    networks = "; ".join(
        f"{it.network.description}"
        + ("" if index == 0 else f" (…_{it.network.name}, {min(it.limit, count)} pictures)")
        for index, it in enumerate(comparison.judges)
    )
    return (
        f"{count} validation pictures of {faces.dataset.name}, central square of "
        f"{faces.dataset.crop:.4g} of the shorter side, {size_px} × {size_px}, 8 bits. "
        "Sharpness: Laplacian variance over the real pictures', weave: power of a period of two "
        "pixels likewise, spectrum: mean squared logarithm of the power of cosines likewise. "
        f"Fréchet and kernel distance (× 1000): against {made}, features of {networks}; "
        f"floor: {len(sets.fake['floor'])} training pictures. PCA: fitted to "
        f"{min(len(sets.train), PCA_PICTURES)} training pictures, "
        f"{sets.pca_components} components. Precision and recall: k = {PRECISION_NEIGHBOURS}. "
        f"Faces found: by dlib's detector in {min(options.searched_count, count)} pictures."
    )


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """The versions of Python and of installed packages, by name."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def processor_name() -> str:
    """What the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (it.partition(":")[2].strip() for it in lines if it.startswith("model name"))
    return next(names, platform.processor())
