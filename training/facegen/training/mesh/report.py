"""An evaluation of a mesh autoencoder as one HTML page that people will want to show."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.training.mesh.explanations import explain, split_title
from facegen.training.mesh.gallery import MeshPictures
from facegen.training.mesh.measuring import (
    THRESHOLDS_MM,
    MeasuredMeshes,
    cumulative_error,
)
from facegen.training.mesh.protocol import SYNTHESISED
from facegen.training.pages import (
    Bar,
    Line,
    Section,
    animation,
    bars,
    line_chart,
    number,
    page,
    picture,
    table,
    terms,
    tile,
)
from facegen.training.run import MeshRun

__all__ = ["mesh_report_page"]

Picture = NDArray[np.uint8]

_SHOWN_SHARE = 0.995
"""The cumulative curves are drawn as far as this share of the vertices of all of them."""


def mesh_report_page(
    run: MeshRun,
    measured: MeasuredMeshes,
    results: Mapping[str, Any],
    *,
    pictures: MeshPictures,
    curves: str = "",
    hidden: bool = False,
) -> str:
    """Make the page.

    Args:
        run: The model and its facts.
        measured: What was found, and with what.
        results: The same as it is written to metrics.json.
        pictures: What it shows.
        curves: Finished HTML of the training's course; empty: none.
        hidden: Show nobody of the data set.

    Returns:
        HTML with its style and pictures inside.
    """
    ends = "samples of the mixture" if hidden else f"meshes of the split {measured.main}"
    sections = [
        *([] if hidden else _people(measured, pictures)),
        Section("How far off is it?", _errors(measured), _ERRORS_NOTE),
        Section("How many vertices are how near?", _cumulative(measured), _CUMULATIVE_NOTE),
        Section("Where it errs", _drawn(pictures.errors), _TEMPLATE_NOTE),
        Section("Samples", _samples(pictures), _SAMPLES_NOTE),
        Section("Are samples like the data?", _generation(measured), _GENERATION_NOTE),
        Section("What the latent space holds", _axes(pictures), _AXES_NOTE),
        Section(
            "Between two faces",
            _drawn(pictures.drawn_walks if hidden else pictures.walks),
            f"At the ends {ends}; between them the decoded path of their latents, spherical.",
        ),
        Section("Training", curves, _CURVES_NOTE),
        Section("All numbers", _numbers(measured)),
        Section("Protocol", _protocol(results)),
    ]
    title = f"{run.paths.folder.resolve().name}: how good are its meshes?"
    return page(title, _lead(run, measured, hidden=hidden), sections)


_FIRST_NOTE = (
    "The first meshes of each test split as they come, chosen by nobody: the mesh, what comes back "
    "from its latent, and in colour how far each vertex is from where it should be. Below stands "
    "the mean."
)
_RANKED_NOTE = "By the mean error of a mesh."
_ERRORS_NOTE = (
    "Distances between vertices of the same place in millimetres, over all vertices and meshes. "
    "PCA keeps as many values of a mesh as the latent has, and was fitted to all training meshes; "
    "a ratio below 1 beats it. The mean mesh is what no model at all gives."
)
_CUMULATIVE_NOTE = (
    "Share of vertices that lie within a distance of where they should; higher is better."
)
_TEMPLATE_NOTE = (
    "Each vertex's mean error over the meshes of a split, drawn on the mean mesh, all on one scale."
)
_SAMPLES_NOTE = (
    "Faces that nobody has, the first of a seed, chosen by nobody. The same place has the same "
    "noise under each prior."
)
_GENERATION_NOTE = (
    "Specificity: how far samples are from the nearest training mesh, by root mean square over the "
    "vertices. The floor is what unseen meshes of the data set reach: farther is unlike it, much "
    "nearer is copied. Variety: how far the unseen meshes are from the nearest sample, and as "
    "floor from the nearest of as many training meshes; less is more variety."
)
_AXES_NOTE = (
    "The mean latent of the mixture, moved along its principal axes by up to two standard "
    "deviations to either side. Shares are of the latents' variance."
)
_CURVES_NOTE = (
    "One point an epoch. The loss of an autoencoder is its error over the data's deviation, that "
    "of a VAE its evidence bound for each coordinate; the distance is that of validation meshes."
)


def _people(measured: MeasuredMeshes, pictures: MeshPictures) -> list[Section]:
    first = "".join(
        f"<h3>{escape(_heading(name))}</h3>{_drawn(sheet)}"
        for name, sheet in pictures.first.items()
    )
    main = f"Meshes of the split {measured.main}. {_RANKED_NOTE}"
    return [
        Section("What comes back", first, _FIRST_NOTE),
        Section("From best to worst", _drawn(pictures.ranked), main),
    ]


def _lead(run: MeshRun, measured: MeasuredMeshes, *, hidden: bool) -> str:
    model, reader = run.config.model, run.config.data.reader
    kind = "variational autoencoder" if model.variational else "autoencoder"
    count = sum(len(it.vertices) for it in measured.tests.values())
    words = (
        f"A mesh {kind} of {model.latent_size} values for faces of {len(run.model.template):,} "
        f"vertices, trained on {run.facts.get('train_meshes', 0):,} meshes "
        f"({_convolution(run)}), measured on {count:,} that it has not seen."
    )
    caution = (
        f"This page shows faces of the data set {Path(run.config.data.root).name} (reader "
        f"{reader}): mind its terms before you pass it on, and do not publish it."
    )
    if hidden:
        caution = "All faces on this page are made: nobody of the data set is shown."
    if reader == "ict":
        caution = SYNTHESISED
    return (
        f"<p class=lead>{escape(words)}</p><div class=tiles>{''.join(_tiles(run, measured))}</div>"
        f"<p class=caution>{escape(caution)}</p>"
    )


def _convolution(run: MeshRun) -> str:
    model = run.config.model
    if model.convolution == "chebyshev":
        return f"Chebyshev convolutions of {model.order} terms"
    return "GraphSAGE convolutions"


def _tiles(run: MeshRun, measured: MeasuredMeshes) -> list[str]:
    it = measured.numbers
    tiles = [
        tile(
            f"{it[f'vertex_error_mm_{name}']:.2f} mm",
            f"error on {split_title(name)}",
            f"PCA with as many values {it[f'pca_vertex_error_mm_{name}']:.2f} mm",
        )
        for name in measured.tests
    ]
    ratio = it[f"vertex_error_to_pca_{measured.main}"]
    tiles.append(tile(f"{ratio:.2f}", "of PCA's error", "below 1 beats it", filled=ratio))
    tiles.append(
        tile(
            f"{it['specificity_mm_mixture']:.2f} mm",
            "from samples to training meshes",
            f"from unseen meshes {it['specificity_mm_floor']:.2f} mm",
        )
    )
    tiles.append(
        tile(f"{it['parameters']:,.0f}", "parameters", f"PCA has {measured.pca.directions.size:,}")
    )
    if "epoch_seconds" in it:
        where = f"{run.facts.get('device', '')}, {run.facts.get('threads', 1)} threads"
        if run.facts.get("threads") == 1:
            where = f"{run.facts.get('device', '')}, one thread"
        tiles.append(tile(f"{it['epoch_seconds']:,.1f} s", "an epoch", where))
    tiles.append(
        tile(
            f"{it['decode_ms_batch_16']:.2g} ms",
            "to decode a mesh",
            f"16 at once, one thread; to encode {it['encode_ms_batch_16']:.2g} ms",
        )
    )
    return tiles


def _errors(measured: MeasuredMeshes) -> str:
    it = measured.numbers
    kinds = ("", "_median", "_std")
    rows = [
        [
            _heading(name),
            *(
                number(it[f"{prefix}vertex_error{kind}_mm_{name}"])
                for prefix in ("", "pca_")
                for kind in kinds
            ),
            number(it[f"vertex_error_to_pca_{name}"]),
            number(it[f"template_vertex_error_mm_{name}"]),
            number(it[f"noisy_vertex_error_mm_{name}"]),
            number(it[f"pca_noisy_vertex_error_mm_{name}"]),
            f"<td>{len(split.vertices):,}</td>",
        ]
        for name, split in measured.splits.items()
    ]
    columns = ["split", "mean", "median", "deviation", "PCA, mean", "PCA, median"]
    columns += ["PCA, deviation", "ratio", "mean mesh", "with noise", "PCA with noise"]
    columns += ["meshes"]
    return table(columns, rows)


def _cumulative(measured: MeasuredMeshes) -> str:
    shares = {
        name: {
            "model": cumulative_error(split.errors),
            "PCA": cumulative_error(split.pca_errors),
        }
        for name, split in measured.splits.items()
    }
    reached = [
        sum(it < _SHOWN_SHARE for it in line) for of in shares.values() for line in of.values()
    ]
    shown = max(2, min(len(THRESHOLDS_MM), max(reached) + 1))
    charts = []
    for split, of in shares.items():
        lines = [
            Line(name, THRESHOLDS_MM[:shown], line[:shown], color)
            for color, (name, line) in enumerate(of.items(), start=1)
        ]
        charts.append(line_chart(lines, title=_heading(split), x_title="within so many mm"))
    return f"<div class=charts>{''.join(charts)}</div>"


def _samples(pictures: MeshPictures) -> str:
    titles = {
        "mixture": "The fitted mixture",
        "normal": "N(0, I)",
        "pca_gaussian": "PCA's Gaussian, for comparison",
    }
    return "".join(
        f"<h3>{escape(title)}</h3>{_drawn(pictures.samples[name])}"
        for name, title in titles.items()
    )


def _generation(measured: MeasuredMeshes) -> str:
    sets = {
        "floor": ("unseen meshes (floor)", "floor"),
        "mixture": ("mixture", "own"),
        "normal": ("N(0, I)", "own"),
        "pca_gaussian": ("PCA's Gaussian", "rival"),
    }
    parts = []
    for kind in ("specificity", "variety"):
        rows = [
            Bar(label, measured.numbers[f"{kind}_mm_{name}"], color)
            for name, (label, color) in sets.items()
        ]
        parts.append(f"<div><h3>{kind.capitalize()}, mm</h3>{bars(rows, digits=2)}</div>")
    return f"<div class=columns>{''.join(parts)}</div>"


def _drawn(sheet: Picture | None) -> str:
    if sheet is None:
        return ""
    return f"<div class=drawn>{picture(sheet, 'faces')}</div>"


def _axes(pictures: MeshPictures) -> str:
    moving = animation(pictures.moving, "faces that move along the latents' axes")
    return f"<div class=drawn>{moving}</div>{_drawn(pictures.still)}"


def _numbers(measured: MeasuredMeshes) -> str:
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name, value in measured.numbers.items():
        group, meaning = explain(name)
        groups.setdefault(group, []).append((name, f"{value:,.4g}", meaning))
    return "".join(
        f"<details><summary>{escape(group)}</summary>{terms(rows)}</details>"
        for group, rows in groups.items()
    )


def _protocol(results: Mapping[str, Any]) -> str:
    left_out: Mapping[str, str] = results["left_out"]
    missing = "".join(
        f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in left_out.items()
    )
    missing = f"<h3>Left out</h3><ul>{missing}</ul>" if missing else ""
    fields = json.dumps(results["protocol_fields"], indent=2, ensure_ascii=False)
    return (
        f"<p>{escape(results['protocol'])}</p>{missing}"
        f"<details><summary>Every field of the protocol</summary><pre>{escape(fields)}</pre>"
        "</details>"
    )


def _heading(split: str) -> str:
    title = split_title(split)
    return title if title == split else f"{title} ({split})"
