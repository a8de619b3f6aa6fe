"""Parts of a page about pictures that were compared with real ones."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from facegen.training.evaluation import gallery
from facegen.training.evaluation.comparing import Comparison
from facegen.training.evaluation.explanations import explain, grouped
from facegen.training.evaluation.nearest import Nearest
from facegen.training.evaluation.sets import RENDERED
from facegen.training.pages import Bar, Section, bars, shaded, table, terms, tile

__all__ = [
    "distance_tiles",
    "distances",
    "neighbourhoods",
    "numbers",
    "protocol",
    "remembered",
    "variety_tiles",
]

_NETWORKS = {
    "": "As EfficientNet-Lite0 sees them",
    "_lite2": "As EfficientNet-Lite2 sees them",
    "_dlib": "As face recognition sees them, which is made to know people, not to notice blur",
}
_DISTANCES_NOTE = (
    "Fréchet distance to unseen real faces; shorter is better. The floor is what other real faces "
    "reach. PCA's Gaussian is the cheap rival: no network at all."
)
_NEIGHBOURS_NOTE = (
    "Precision: samples that lie among real faces. Recall: real faces that lie among samples. "
    "Density and coverage are the same without the pull of odd pictures. The detector is dlib's, "
    "which took no part in training. Real faces are the ceiling."
)


def distance_tiles(comparison: Comparison) -> list[str]:
    """How far the main set is from real faces, and over the cheap rival's distance."""
    it, main = comparison.numbers, comparison.sets.main
    ratio = it[f"frechet_{main}_to_pca_gaussian"]
    return [
        tile(
            f"{it[f'frechet_{main}']:.1f}",
            "Fréchet distance of samples",
            f"real faces reach {it['frechet_floor']:.1f}, "
            f"PCA's Gaussian {it['frechet_pca_gaussian']:.1f}",
        ),
        tile(f"{ratio:.2f}", "of the cheap rival's distance", "below 1 beats it", filled=ratio),
    ]


def variety_tiles(comparison: Comparison) -> list[str]:
    """Precision and recall of the main set."""
    it, main = comparison.numbers, comparison.sets.main
    names = {
        "precision": "precision: samples among real faces",
        "recall": "recall: real faces among samples",
    }
    return [
        tile(
            f"{it[f'{kind}_{main}']:.2f}",
            name,
            f"real faces {it[f'{kind}_floor']:.2f}",
            filled=it[f"{kind}_{main}"],
        )
        for kind, name in names.items()
    ]


def distances(comparison: Comparison) -> Section:
    """Bars of every set's distance, a chart a network."""
    it, main = comparison.numbers, comparison.sets.main
    rows = {
        "floor": ("real faces (floor)", "floor"),
        "reconstruction": ("reconstructions", "own"),
        main: (_title(main), "own"),
        "normal": ("samples, N(0, I)", "own"),
        "pca_reconstruction": ("PCA, reconstructions", "rival"),
        "pca_gaussian": ("PCA's Gaussian", "rival"),
    }
    parts = []
    for suffix, network in _NETWORKS.items():
        found = [
            Bar(label, it[f"frechet_{name}{suffix}"], kind)
            for name, (label, kind) in rows.items()
            if f"frechet_{name}{suffix}" in it
        ]
        if found:
            digits = 3 if suffix == "_dlib" else 1
            parts.append(f"<h3>{network}</h3>{bars(found, digits=digits)}")
    return Section("How far from real faces?", "".join(parts), _DISTANCES_NOTE)


def neighbourhoods(comparison: Comparison) -> Section:
    """A table of realism and variety, real faces last."""
    it, main = comparison.numbers, comparison.sets.main
    titles = {
        main: _title(main),
        "normal": "samples, N(0, I)",
        "pca_gaussian": "PCA's Gaussian",
        "floor": "real faces",
    }
    kinds = {name: name for name in ("precision", "recall", "density", "coverage")}
    if f"found_{main}" in it:
        kinds["found"] = "a detector finds a face"
    rows = [
        [title, *(shaded(it[f"{kind}_{name}"]) for kind in kinds)]
        for name, title in titles.items()
        if name in comparison.sets.drawn
    ]
    content = table(["", *kinds.values()], rows, last_is_mean=True)
    return Section("Realism and variety", content, _NEIGHBOURS_NOTE)


def remembered(found: Nearest) -> Section:
    """Pictures, and the training faces nearest to them."""
    return Section(
        "Does it remember?",
        gallery.nearest(found),
        f"Each row: a sample, then the nearest of {found.searched:,} training faces, with "
        "their distances in the network's features. An unseen real face is usually "
        f"{found.usual:.1f} from its nearest: a model that copied would be far nearer.",
    )


def numbers(comparison: Comparison) -> Section:
    """Every number with what it means."""
    parts: list[str] = []
    for group, names in grouped(comparison.numbers).items():
        rows = [(name, f"{comparison.numbers[name]:.4g}", explain(name)[1]) for name in names]
        opened = "" if parts else " open"
        parts.append(f"<details{opened}><summary>{escape(group)}</summary>{terms(rows)}</details>")
    return Section("All numbers", "".join(parts))


def protocol(results: Mapping[str, Any]) -> Section:
    """How the numbers were found, and which were not."""
    left_out: Mapping[str, str] = results["left_out"]
    missing = "".join(
        f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in left_out.items()
    )
    missing = f"<h3>Left out</h3><ul>{missing}</ul>" if missing else ""
    fields = json.dumps(results["protocol_fields"], indent=2, ensure_ascii=False)
    content = (
        f"<p>{escape(results['protocol'])}</p>{missing}"
        f"<details><summary>Every field of the protocol</summary><pre>{escape(fields)}</pre>"
        "</details>"
    )
    return Section("Protocol", content)


def _title(main: str) -> str:
    return "rendered pictures" if main == RENDERED else f"samples, {main}"
