"""What a family is made of, before its graphs are built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime

from facegen.export.config import FamilyFacts
from facegen.export.datasets import dataset_terms
from facegen.export.errors import RunError
from facegen.export.plans import GraphPlan
from facegen.export.report import GraphReport
from facegen.export.runtime import Array
from facegen.training import ExpressionRun, Run

__all__ = ["FamilyContents", "Sessions", "family_facts", "repeated"]

Sessions = Mapping[str, onnxruntime.InferenceSession]
"""Open graphs by their names in the model repository."""


@dataclass(frozen=True, slots=True)
class FamilyContents:
    """What a family is made of.

    Attributes:
        facts: What it says of itself.
        plans: Its graphs.
        picture: Draws the card's picture, a PNG, with the open graphs; none of it is a picture of
            the data set.
        card: Writes the card, given the version and the measured graphs.
        report: An HTML page of its evaluation that shows nobody of the data set; None: there is
            none.
    """

    facts: FamilyFacts
    plans: tuple[GraphPlan, ...]
    picture: Callable[[Sessions], bytes]
    card: Callable[[int, Sequence[GraphReport]], str]
    report: bytes | None = None


def family_facts(
    run: Run | ExpressionRun,
    family: str,
    *,
    template: tuple[tuple[float, float], ...] = (),
    face_frame: tuple[float, float, float] | None = None,
) -> FamilyFacts:
    """Gather what a family says of itself.

    Args:
        run: The run it was trained by.
        family: Its name.
        template: See `FamilyFacts`.
        face_frame: Likewise.
    """
    model, reader = run.config.model, run.config.data.reader
    metrics = {
        name: float(value)
        for name, value in run.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return FamilyFacts(
        family=family,
        kind=model.kind,
        latent_size=model.latent_size,
        image_size=(model.image_size, model.image_size, model.channels),
        crop=float(run.facts.get("crop", 1.0)),
        dataset=reader,
        data_license=dataset_terms(reader).terms,
        metrics=metrics,
        protocol=str(run.metrics.get("protocol", "")),
        commit=str(run.facts.get("commit", "")),
        template=template,
        face_frame=face_frame,
    )


def repeated(run: Run | ExpressionRun, images: Array, *, count: int) -> Array:
    """Repeat a run's validation pictures until they are so many rows.

    Raises:
        RunError: There is none.
    """
    if not len(images):
        raise RunError(run.paths.folder, "its data set has no validation pictures to check with")
    return np.resize(images, (count, *images.shape[1:]))
