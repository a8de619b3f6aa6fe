"""An evaluation as one HTML page that people will want to show."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from facegen.training.evaluation import gallery, sections
from facegen.training.evaluation.measuring import Measured
from facegen.training.evaluation.nearest import nearest_faces
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.subject import Pixels, Subject, SubjectFacts
from facegen.training.pages import Section, histogram, page, shaded, table, tile

__all__ = ["report_page"]

_KINDS = {"vae": "variational autoencoder", "autoencoder": "autoencoder"}


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
    shown = [
        *([] if public else [pairs]),
        Section("Samples", gallery.samples(subject, measured), _SAMPLES_NOTE),
        sections.distances(measured),
        sections.neighbourhoods(measured),
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
        sections.numbers(measured),
        sections.protocol(results),
    ]
    return page(_title(subject.facts), _lead(subject.facts, measured, public=public), shown)


def _people(subject: Subject, measured: Measured) -> list[Section]:
    def distances(queries: Pixels) -> NDArray[np.float64]:
        return np.asarray(cdist(subject.encode(queries).mean, measured.latents.mean))

    return [
        Section("From best to worst", _spread(measured), _SPREAD_NOTE),
        sections.remembered(nearest_faces(measured, distances=distances)),
    ]


_PAIRS_NOTE = (
    "The first validation faces as they come, chosen by nobody: the original left, what comes back "
    "from its latent right."
)
_SAMPLES_NOTE = (
    "Faces of people who do not exist, the first of a seed, chosen by nobody. The same place has "
    "the same noise under each prior."
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
    tiles = [
        *sections.distance_tiles(measured),
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
        *sections.variety_tiles(measured),
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


def _cell(value: float) -> str:
    return f"<td>{value:,.1f}</td>".replace("-", "−")
