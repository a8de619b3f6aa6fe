"""What a family is made of, before its graphs are built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnxruntime

from facegen.export.config import FamilyFacts
from facegen.export.datasets import dataset_terms
from facegen.export.errors import RunError
from facegen.export.plans import GraphPlan
from facegen.export.report import GraphReport
from facegen.export.runtime import Array
from facegen.training import ExpressionRun, Run
from facegen.training.run import MeshRun

__all__ = ["FamilyContents", "Sessions", "family_facts", "repeated"]

Sessions = Mapping[str, onnxruntime.InferenceSession]
"""Open graphs by their names in the model repository."""


@dataclass(frozen=True, slots=True)
class FamilyContents:
    """What a family is made of.

    Attributes:
        facts: What it says of itself.
        plans: Its graphs.
        picture: Draws the card's picture, a PNG, with the open graphs; none of it is a picture or a
            mesh of the data set.
        card: Writes the card, given the version and the measured graphs.
        report: An HTML page of its evaluation that shows nobody of the data set; None: there is
            none.
        files: What else lies beside its models: contents by the end of a name, after the family's;
            None: there is no such file.
    """

    facts: FamilyFacts
    plans: tuple[GraphPlan, ...]
    picture: Callable[[Sessions], bytes]
    card: Callable[[int, Sequence[GraphReport]], str]
    report: bytes | None = None
    files: Mapping[str, bytes | None] = field(default_factory=dict)


def family_facts(
    run: Run | ExpressionRun | MeshRun,
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
    facts = FamilyFacts(
        family=family,
        kind=model.kind,
        latent_size=model.latent_size,
        dataset=reader,
        data_license=dataset_terms(reader).terms,
        metrics=metrics,
        protocol=str(run.metrics.get("protocol", "")),
        commit=str(run.facts.get("commit", "")),
        template=template,
        face_frame=face_frame,
    )
    if isinstance(run, MeshRun):
        return replace(
            facts, mesh_size=(len(run.model.template), len(run.model.hierarchy.faces[0]))
        )
    size_px, channels = run.config.model.image_size, run.config.model.channels
    crop = float(run.facts.get("crop", 1.0))
    return replace(facts, image_size=(size_px, size_px, channels), crop=crop)


def repeated(
    run: Run | ExpressionRun | MeshRun, rows: Array, *, count: int, what: str = "pictures"
) -> Array:
    """Repeat a run's validation pictures, or what else it has, until they are so many rows.

    Raises:
        RunError: There is none.
    """
    if not len(rows):
        raise RunError(run.paths.folder, f"its data set has no validation {what} to check with")
    return np.resize(rows, (count, *rows.shape[1:]))
