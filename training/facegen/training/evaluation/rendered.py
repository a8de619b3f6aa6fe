"""A rendered data set, or any folder of pictures, measured against real faces."""

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facegen.training.data import load_faces, read_dataset
from facegen.training.data.cache import decode_dataset
from facegen.training.errors import DatasetError
from facegen.training.evaluation.comparing import (
    Comparison,
    check_faces,
    compare,
    write_metrics,
)
from facegen.training.evaluation.draws import SEED, draw
from facegen.training.evaluation.inception import InceptionDistance
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.protocol import comparison_fields, comparison_sentence
from facegen.training.evaluation.rendered_report import rendered_page
from facegen.training.evaluation.sets import RENDERED, beside_rivals
from facegen.training.evaluation.subject import Pixels
from facegen.training.pages import write_whole
from facegen.training.run import RunPaths

__all__ = ["evaluate_rendered"]

_PCA_COMPONENTS = 128
"""Values of a latent of every preset, so that the rows are those of `facegen evaluate RUN`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Rendered:
    """Pictures drawn from a data set.

    Attributes:
        pixels: (N, H, W, C) uint8, in the draw's order.
        picture_count: All that the data set has.
        corrupt_count: Those of the draw that could not be decoded.
    """

    pixels: Pixels
    picture_count: int
    corrupt_count: int


def evaluate_rendered(
    rendered: Path,
    data: Path,
    *,
    reader: str,
    folder: Path,
    size_px: int = 64,
    options: EvaluationOptions | None = None,
    report: Path | None = None,
) -> dict[str, Any]:
    """Measure rendered pictures beside validation pictures of a data set, and write a page.

    Args:
        rendered: The pictures: what `facegen render` wrote, or whatever the reader `folder` takes.
        data: The folder that holds the real data set.
        reader: That data set's reader.
        folder: Where metrics.json goes.
        size_px: Side of the squares to which all pictures are reduced.
        options: Counts, and what costs more.
        report: Where the page goes; evaluation.html in that folder by default.

    Returns:
        What metrics.json holds: numbers by name as `evaluate_subject` has them of samples, those of
        the rendered pictures named `…_rendered`; and `protocol`, `protocol_fields`, `left_out`.

    Raises:
        DatasetError: Either has fewer than two pictures, or cannot be read.
        ConfigurationError: Inception is asked for and is not there.
    """
    options, begun = options or EvaluationOptions(), time.perf_counter()
    inception = InceptionDistance() if options.inception else None  # refused now or never
    channels = 1 if reader.startswith("fer") else 3
    faces = load_faces(reader, data, size_px=size_px, channels=channels)
    check_faces(faces, options)
    count = min(options.count, len(faces.pixels["validation"]))
    found = _drawn(rendered, count, size_px=size_px, channels=channels)
    real = np.asarray(faces.pixels["validation"][: len(found.pixels)])
    train = faces.pixels["train"]
    draws = draw(len(real), _PCA_COMPONENTS, len(train))
    made = {RENDERED: found.pixels}
    comparison = Comparison(sets=beside_rivals(made, real, train, main=RENDERED, draws=draws))
    compare(comparison, faces.dataset, options, inception=inception)
    name = rendered.resolve().name
    words = f"{len(real)} of {found.picture_count} rendered pictures, drawn with seed {SEED}"
    results = write_metrics(
        RunPaths(folder).metrics,
        comparison,
        protocol=comparison_sentence(faces, comparison, options, made=words),
        fields={
            "subject": _subject_fields(name, found),
            **comparison_fields(faces, comparison, options),
        },
    )
    page = report or folder / "evaluation.html"
    write_whole(page, rendered_page(name, comparison, results))
    _log.info("evaluated seconds=%.0f page=%s", time.perf_counter() - begun, page)
    return results


def _drawn(folder: Path, count: int, *, size_px: int, channels: int) -> _Rendered:
    dataset = read_dataset("folder", folder)
    picture_count = len(dataset.pictures)
    # At random: what comes at equal steps may all be of one expression.
    random = np.random.default_rng(SEED)
    rows = np.sort(random.permutation(picture_count)[:count])  # as they lie, to be read fast
    chosen = tuple(replace(dataset.pictures[row], split="train") for row in rows)
    decoded = decode_dataset(replace(dataset, pictures=chosen), size_px=size_px, channels=channels)
    if len(decoded.pixels) < 2:
        raise DatasetError(
            "rendered pictures",
            looked_for=f"at least 2 that can be read, not {len(decoded.pixels)} of {len(chosen)},",
            where=folder,
            remedy="Render more of them.",
        )
    pixels = decoded.pixels[random.permutation(len(decoded.pixels))]
    return _Rendered(pixels, picture_count, len(decoded.corrupt))


def _subject_fields(name: str, found: _Rendered) -> dict[str, Any]:
    return {
        "name": name,
        "source": RENDERED,
        "pictures": found.picture_count,
        "count": len(found.pixels),
        "corrupt": found.corrupt_count,
        "selection": "drawn without replacement",
        "seed": SEED,
        "sha256": hashlib.sha256(found.pixels.tobytes()).hexdigest(),
    }
