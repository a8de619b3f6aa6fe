"""An evaluation as one HTML page that people will want to show."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from facegen.training.evaluation import gallery
from facegen.training.evaluation.explanations import explain, grouped
from facegen.training.evaluation.measuring import Measured
from facegen.training.evaluation.nearest import nearest_faces
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.subject import Subject, SubjectFacts
from facegen.training.pages import Bar, Section, bars, histogram, page, shaded, table, terms, tile

__all__ = ["report_page"]

_KINDS = {"vae": "variational autoencoder", "autoencoder": "autoencoder"}
_NETWORKS = {
    "": "As EfficientNet-Lite0 sees them",
    "_lite2": "As EfficientNet-Lite2 sees them",
    "_dlib": "As face recognition sees them, which is made to know people, not to notice blur",
}


def report_page(
    subject: Subject,
    measured: Measured,
    results: Mapping[str, Any],
    *,
    options: EvaluationOptions,
    curves: str = "",
    public: bool = False,
) -> str:
    """Make the page.

    Args:
        subject: The model, which draws more pictures.
        measured: What was found, and with what.
        results: The same as it is written to metrics.json.
        options: What was asked for.
        curves: Finished HTML of the training's course; empty: none.
        public: Show nobody of the data set: what needs people is left out, or done with samples.

    Returns:
        HTML with its style and pictures inside.
    """
    starts = (
        gallery.drawn_starts(subject, measured) if public else gallery.validation_starts(measured)
    )
    kind = "Drawn" if public else "Validation"
    pairs = Section("Reconstructions", gallery.reconstructions(measured), _PAIRS_NOTE)
    sections = [
        *([] if public else [pairs]),
        Section("Samples", gallery.samples(subject, measured), _SAMPLES_NOTE),
        Section("How far from real faces?", _distances(measured), _DISTANCES_NOTE),
        Section("Realism and variety", _neighbourhoods(measured), _NEIGHBOURS_NOTE),
        Section(
            "Temperature",
            gallery.temperatures(subject, measured, options.temperatures)
            + _temperatures(measured, options),
            _TEMPERATURE_NOTE,
        ),
        Section("Labels", _labels(subject, measured), _LABELS_NOTE),
        *([] if public else _people(subject, measured)),
        Section("What the latent space holds", gallery.axes(subject, measured), _AXES_NOTE),
        Section("Directions", gallery.directions(subject, starts), f"{kind} {_DIRECTIONS_NOTE}"),
        Section(
            "Between two faces", gallery.interpolations(subject, starts), f"{kind} {_BETWEEN_NOTE}"
        ),
        Section("Training", curves, _CURVES_NOTE),
        Section("All numbers", _numbers(measured)),
        Section("Protocol", _protocol(results)),
    ]
    return page(_title(subject.facts), _lead(subject.facts, measured, public=public), sections)


def _people(subject: Subject, measured: Measured) -> list[Section]:
    found = nearest_faces(subject, measured)
    return [
        Section("From best to worst", _spread(measured), _SPREAD_NOTE),
        Section(
            "Does it remember?",
            gallery.nearest(found),
            f"Each row: a sample, then the nearest of {found.searched:,} training faces, with "
            "their distances in the network's features. An unseen real face is usually "
            f"{found.usual:.1f} from its nearest: a model that copied would be far nearer.",
        ),
    ]


_PAIRS_NOTE = (
    "The first validation faces as they come, chosen by nobody: the original left, what comes back "
    "from its latent right."
)
_SAMPLES_NOTE = (
    "Faces of people who do not exist, the first of a seed, chosen by nobody. The same place has "
    "the same noise under each prior."
)
_DISTANCES_NOTE = (
    "Fréchet distance to unseen real faces; shorter is better. The floor is what other real faces "
    "reach. PCA's Gaussian is the cheap rival: no network at all."
)
_NEIGHBOURS_NOTE = (
    "Precision: samples that lie among real faces. Recall: real faces that lie among samples. "
    "Density and coverage are the same without the pull of odd pictures. The detector is dlib's, "
    "which took no part in training. Real faces are the ceiling."
)
_TEMPERATURE_NOTE = "Less noise gives plainer, safer faces; the variety pays for it."
_LABELS_NOTE = (
    "Each label has a prior of its own. Its samples are compared with real validation faces of the "
    "label, beside training faces of the label (floor) and samples of the main prior."
)
_SPREAD_NOTE = "Reconstructions by peak signal-to-noise ratio."
_AXES_NOTE = (
    "The mean face, moved along the principal axes of the latents by up to two and a half standard "
    "deviations to either side."
)
_DIRECTIONS_NOTE = "faces moved by strengths of −1, −½, 0, ½ and 1."
_BETWEEN_NOTE = "faces at the ends; between them the decoded path of their latents, spherical."
_CURVES_NOTE = (
    "One point an epoch; terms are sums over an image. At a dotted line one run went on from "
    "another, and its loss may weigh other terms."
)


def _title(facts: SubjectFacts) -> str:
    return f"{facts.title}: how good are its faces?"


def _lead(facts: SubjectFacts, measured: Measured, *, public: bool) -> str:
    where = f" on a server at {facts.details['address']}" if "address" in facts.details else ""
    words = (
        f"A {_KINDS.get(facts.kind, facts.kind)} of {facts.latent_size} values for faces of "
        f"{facts.image_size} × {facts.image_size} pixels, trained on {facts.reader}{where}, "
        f"measured on {len(measured.sets.real):,} validation pictures that it has not seen."
    )
    caution = (
        f"This page shows faces of the data set {facts.reader}: mind its terms before you pass it "
        "on, and do not publish it."
    )
    if public:
        caution = "All faces on this page are made: nobody of the data set is shown."
    return (
        f"<p class=lead>{escape(words)}</p><div class=tiles>{''.join(_tiles(measured))}</div>"
        f"<p class=caution>{escape(caution)}</p>"
    )


def _tiles(measured: Measured) -> list[str]:
    it, main = measured.numbers, measured.sets.main
    ratio = it[f"frechet_{main}_to_pca_gaussian"]
    tiles = [
        tile(
            f"{it[f'frechet_{main}']:.1f}",
            "Fréchet distance of samples",
            f"real faces reach {it['frechet_floor']:.1f}, "
            f"PCA's Gaussian {it['frechet_pca_gaussian']:.1f}",
        ),
        tile(f"{ratio:.2f}", "of the cheap rival's distance", "below 1 beats it", filled=ratio),
        tile(
            f"{it['psnr_db']:.1f} dB",
            "reconstruction, PSNR",
            f"PCA with as many values {it['pca_psnr_db']:.1f} dB",
        ),
        tile(
            f"{it['sharpness_reconstruction']:.2f}",
            "of real sharpness, reconstructed",
            f"PCA {it['sharpness_pca_reconstruction']:.2f}; samples {it[f'sharpness_{main}']:.2f}",
            filled=it["sharpness_reconstruction"],
        ),
        tile(
            f"{it[f'precision_{main}']:.2f}",
            "precision: samples among real faces",
            f"real faces {it['precision_floor']:.2f}",
            filled=it[f"precision_{main}"],
        ),
        tile(
            f"{it[f'recall_{main}']:.2f}",
            "recall: real faces among samples",
            f"real faces {it['recall_floor']:.2f}",
            filled=it[f"recall_{main}"],
        ),
    ]
    if "bits_per_dimension" in it:
        units = f"{it['active_units']:.0f} latent dimensions in use"
        tiles.append(tile(f"{it['bits_per_dimension']:.2f}", "bits per dimension, at most", units))
    decode = next((name for name in it if name.endswith("decode_ms_batch_64")), None)
    if decode:
        encode_ms = it[decode.replace("decode", "encode")]
        how = "calls" if decode.startswith("call_") else "one thread"
        note = f"to decode, {how}, 64 at once; to encode {encode_ms:.2f} ms"
        tiles.append(tile(f"{it[decode]:.2f} ms", "a face", note))
    return tiles


def _distances(measured: Measured) -> str:
    it, main = measured.numbers, measured.sets.main
    rows = {
        "floor": ("real faces (floor)", "floor"),
        "reconstruction": ("reconstructions", "own"),
        main: (f"samples, {main}", "own"),
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
    return "".join(parts)


def _neighbourhoods(measured: Measured) -> str:
    it, main = measured.numbers, measured.sets.main
    titles = {
        main: f"samples, {main}",
        "normal": "samples, N(0, I)",
        "pca_gaussian": "PCA's Gaussian",
        "floor": "real faces",
    }
    kinds = {name: name for name in ("precision", "recall", "density", "coverage")}
    if f"found_{main}" in it:
        kinds["found"] = "a detector finds a face"
    rows = [
        [title, *(shaded(it[f"{kind}_{name}"]) for kind in kinds)] for name, title in titles.items()
    ]
    return table(["", *kinds.values()], rows, last_is_mean=True)


def _temperatures(measured: Measured, options: EvaluationOptions) -> str:
    it, main = measured.numbers, measured.sets.main
    rows = []
    for temperature in sorted({*options.temperatures, 1.0}):
        name = main if temperature == 1.0 else f"{main}_temperature_{temperature:g}"
        cells = [_cell(it[f"frechet_{name}"]), _cell(it[f"kernel_{name}"])]
        cells += [shaded(it[f"{kind}_{name}"]) for kind in ("precision", "recall")]
        rows.append([f"{temperature:g}", *cells])
    return table(["temperature", "Fréchet", "kernel × 1000", "precision", "recall"], rows)


def _labels(subject: Subject, measured: Measured) -> str:
    it, main = measured.numbers, measured.sets.main
    rows = [
        [
            name,
            *(
                _cell(it[f"{kind}_{name}{end}"])
                for kind in ("frechet", "kernel")
                for end in ("_floor", "", f"_by_{main}")
            ),
        ]
        for name in subject.facts.priors
        if f"frechet_{name}_floor" in it
    ]
    columns = ["label"]
    for kind in ("Fréchet", "kernel × 1000"):
        columns += [f"{kind}, floor", f"{kind}, own prior", f"{kind}, {main}"]
    return table(columns, rows) if rows else ""


def _spread(measured: Measured) -> str:
    chart = histogram(measured.psnr, title="Faces by quality", x_title="PSNR, dB")
    return f"{gallery.extremes(measured)}<div class=charts>{chart}</div>"


def _numbers(measured: Measured) -> str:
    parts: list[str] = []
    for group, names in grouped(measured.numbers).items():
        rows = [(name, f"{measured.numbers[name]:.4g}", explain(name)[1]) for name in names]
        opened = "" if parts else " open"
        parts.append(f"<details{opened}><summary>{escape(group)}</summary>{terms(rows)}</details>")
    return "".join(parts)


def _cell(value: float) -> str:
    return f"<td>{value:,.1f}</td>".replace("-", "−")


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
