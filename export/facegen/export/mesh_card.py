"""The model card of a family of meshes, in Markdown."""

from collections.abc import Mapping, Sequence

from facegen.export.card_sections import (
    graphs_section,
    machine_words,
    not_evaluated,
    table_row,
    table_text,
    training_command,
    training_time,
)
from facegen.export.config import FamilyFacts
from facegen.export.datasets import DatasetTerms, dataset_terms
from facegen.export.report import GraphReport
from facegen.training.mesh.explanations import explain, split_title
from facegen.training.run import MeshRun

__all__ = ["COMPARISON", "PICTURE_COUNT", "TRAVERSALS", "mesh_card"]

COMPARISON, TRAVERSALS = "-comparison.png", "-traversals.gif"
"""What the names of the evaluation's pictures end with, after the family's."""

PICTURE_COUNT = 16
"""Faces on the picture."""

_ERROR = "vertex_error_mm_"
_CONVOLUTIONS = {
    "chebyshev": "Chebyshev polynomials of the Laplacian with {order} terms",
    "sage": "GraphSAGE's means over neighbours",
}


def mesh_card(
    run: MeshRun, facts: FamilyFacts, *, version: int, graphs: Sequence[GraphReport]
) -> str:
    """Write the card of a family.

    Args:
        run: The run it was trained by.
        facts: What the family says of itself.
        version: Its version.
        graphs: Its graphs as measured.

    Returns:
        Markdown that shows the picture `<family>.png` beside it.
    """
    terms = dataset_terms(facts.dataset)
    sections = [
        _head(run, facts, version=version),
        _data(run, terms),
        _training(run, facts),
        _quality(run, facts),
        graphs_section(graphs),
        _limits(run, terms),
    ]
    return "\n".join(sections)


def _head(run: MeshRun, facts: FamilyFacts, *, version: int) -> str:
    model = run.model
    kind = "A variational mesh autoencoder" if model.config.variational else "A mesh autoencoder"
    vertices, triangles = len(model.template), len(model.hierarchy.faces[0])
    synthesised = _is_synthesised(run)
    source = ",\ntrained on synthesised combinations, not on captured faces" if synthesised else ""
    return f"""\
# {facts.family}

{kind} of faces{source}.
{vertices:,} vertices and {triangles:,} triangles, always the same; {facts.latent_size} values in a
latent. Coordinates are millimetres: x to the right, y up, z to the
viewer. Version {version}.

![Faces drawn from the fitted mixture]({facts.family}.png)

Faces 0 to {PICTURE_COUNT - 1} of seed 0 at temperature 1, drawn by the graphs of this version from
the mixture fitted to the latents. None of them is a mesh of the data set. The same from a server:

```
facegen mesh generate --family {facts.family} --count {PICTURE_COUNT} --seed 0
facegen mesh reconstruct face.ply --family {facts.family}
facegen mesh interpolate --seeds 1,2 --count 9 --family {facts.family}
```

[{facts.family}.ply]({facts.family}.ply) is the mean mesh: what is given must have its vertices, in
its order.
"""


def _data(run: MeshRun, terms: DatasetTerms) -> str:
    source = f", {terms.url}" if terms.url else ""
    names = {"train_meshes": "to train", "validation_meshes": "to validate"}
    counts = [f"{run.facts[key]:,} {verb}" for key, verb in names.items() if key in run.facts]
    meshes = f" Meshes: {', '.join(counts)}." if counts else ""
    return f"""\
## Data

{terms.title}{source}.{meshes}{_combinations(run)}

Terms: {terms.terms}
"""


def _combinations(run: MeshRun) -> str:
    if not _is_synthesised(run):
        return ""
    it = run.config.data.combinations
    return f"""
All of them are synthesised: {it.identity_count:,} identities, drawn along the {it.identity_modes}
largest modes of scanned people, with {it.expression_count:,} expressions of its blend shapes, at
strengths between none and all, simplified to {len(run.model.template):,} vertices. No mesh is the
scan of a person, no motion was captured. Validation has people and expressions of its own, tests
what their names say."""


def _is_synthesised(run: MeshRun) -> bool:
    return run.config.data.reader == "ict"


def _training(run: MeshRun, facts: FamilyFacts) -> str:
    config = run.config
    model = config.model
    levels = "-".join(f"{count:,}" for count in run.model.hierarchy.vertex_counts)
    rows = {
        "time": training_time(run.facts, start_from=config.start_from),
        "machine": machine_words(run.facts),
        "commit": facts.commit or "unknown",
        "seed": str(config.seed),
        "epochs, batch": f"{config.epochs}, {config.batch_size}",
        "parameters": f"{run.model.parameter_count:,}",
        "convolutions": _CONVOLUTIONS[model.convolution].format(order=model.order),
        "vertices by level": levels,
        "features": "-".join(map(str, model.filters)),
        "loss": _loss(run),
        "noise": f"{config.data.noise_mm:g} mm on what the encoder sees",
        "weights": f"moving average, decay {config.ema_decay:g}",
        "prior": f"{len(run.prior.weights)} Gaussians with full covariances",
    }
    table = "\n".join(table_row(row) for row in rows.items())
    return f"""\
## Training

```
{training_command(config)}
```

| | |
| --- | --- |
{table}
"""


def _loss(run: MeshRun) -> str:
    loss = run.config.loss
    error = "absolute error" if loss.reconstruction == "l1" else "distance of vertices"
    if not run.config.model.variational:
        return error
    return f"likelihood by the {error}, with a learned scale + {loss.beta:g} · KL"


def _quality(run: MeshRun, facts: FamilyFacts) -> str:
    metrics = facts.metrics
    if not metrics:
        return not_evaluated(f"facegen evaluate mesh {run.paths.folder.name}")
    page = f"{facts.family}.html"
    shown = run.paths.public_page.is_file()
    link = f"[{page}]({page}) shows all of it, with pictures.\n\n" if shown else ""
    return f"""\
## Quality

{link}{_errors_table(metrics)}
{_pictures(run, facts.family)}
{_rest_table(metrics)}

{facts.protocol}
"""


def _pictures(run: MeshRun, family: str) -> str:
    """Unseen meshes beside what comes back, and walks along the latents, where they were drawn."""
    captions = {
        COMPARISON: (run.paths.comparison, "Unseen meshes, what comes back, and how far it is off"),
        TRAVERSALS: (run.paths.traversals, "Walks along the principal axes of the latents"),
    }
    shown = [
        f"\n![{caption}]({family}{end})\n"
        for end, (path, caption) in captions.items()
        if path.is_file()
    ]
    return "".join(shown)


def _errors_table(metrics: Mapping[str, float]) -> str:
    """Vertex errors by split, beside PCA's."""
    splits = [name.removeprefix(_ERROR) for name in metrics if name.startswith(_ERROR)]
    columns = {
        "error in mm": _ERROR,
        "median": "vertex_error_median_mm_",
        "deviation": "vertex_error_std_mm_",
        "PCA's error": f"pca_{_ERROR}",
        "to PCA's": "vertex_error_to_pca_",
        "mean mesh's error": f"template_{_ERROR}",
        "error with 1 mm of noise": f"noisy_{_ERROR}",
        "PCA's with it": f"pca_noisy_{_ERROR}",
    }
    rows: list[Sequence[str]] = [("meshes", *columns)]
    for split in splits:
        values = (metrics.get(prefix + split) for prefix in columns.values())
        rows.append((split_title(split), *("–" if v is None else f"{v:.3g}" for v in values)))
    return table_text(rows)


def _rest_table(metrics: Mapping[str, float]) -> str:
    """What is of no split, with its meaning."""
    rows: list[Sequence[str]] = [("metric", "value", "")]
    for name, value in metrics.items():
        group, meaning = explain(name)
        if not group.startswith("Reconstruction"):
            number = f"{value:,.0f}" if name == "parameters" else f"{value:.4g}"
            rows.append((name, number, meaning))
    return table_text(rows)


def _limits(run: MeshRun, terms: DatasetTerms) -> str:
    vertices = len(run.model.template)
    return f"""\
## Limits

- {terms.limits}
- Meshes of this topology alone: a scan has to be registered to the {vertices:,} vertices first, and
  stand where the mean mesh stands; nothing is aligned here.
- Shape alone: no colours, no texture, no eyes, teeth or hair that the data does not have.
- {len(run.prior.weights)} Gaussians say which latents are likely; a drawn face may resemble a real
  person by chance. Do not pass it off as one.
- Not for recognising, ranking or judging people.
"""
