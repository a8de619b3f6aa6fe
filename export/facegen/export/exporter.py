"""Exports a run: builds its four graphs, checks and times them, and writes them as a family."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facegen.export.card import family_card
from facegen.export.config import BatchingOptions, FamilyFacts
from facegen.export.datasets import dataset_terms
from facegen.export.errors import OptionError, RunError
from facegen.export.flavour import TritonBackend
from facegen.export.half_storage import Storage
from facegen.export.picture import SampleSheet, draw_samples, to_png
from facegen.export.plans import GraphPlan, Reference, plan_decoder, plan_encoder, plan_priors
from facegen.export.report import ExportReport, GraphReport
from facegen.export.repository import StagedModel, publish
from facegen.export.selection import GraphTrial, Measurement, select_form
from facegen.training import Run, load_run

__all__ = ["ExportOptions", "export_run"]

_FAMILY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)

_EVERY_BATCH_SIZE_UP_TO = 33
"""Twice a usual batch and one: every size up to this, and the largest, must give the same bits."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    Attributes:
        encoder_storage: How the encoder's file keeps its weights, most of a family's bytes.
        decoder_storage: How the decoder's file keeps its weights.
        picture_count: Rows to check with, made from as many real validation pictures as there are.
        measurement: How to time the forms of a graph.
        batching: What config.pbtxt says of batching.
        triton_backend: The backend of Triton that shall run the graphs; facegen's server reads what
            is written for `onnxruntime`.
    """

    encoder_storage: Storage = "float16"
    decoder_storage: Storage = "float32"
    picture_count: int = 64
    measurement: Measurement = field(default_factory=Measurement)
    batching: BatchingOptions = field(default_factory=BatchingOptions)
    triton_backend: TritonBackend = "onnxruntime"


def export_run(
    folder: Path,
    repository: Path,
    *,
    family: str = "",
    version: int = 1,
    data: Path | None = None,
    options: ExportOptions | None = None,
) -> ExportReport:
    """Export a finished run to a model repository.

    Args:
        folder: The run folder.
        repository: The model repository; made if it is not there.
        family: The family's name; empty takes the run folder's.
        version: The version to write; the same version is replaced, others are kept.
        data: Where the data set lies now; None takes the folder it was trained from.
        options: How to export; None takes the defaults.

    Returns:
        What was written and measured.

    Raises:
        OptionError: The family, the version or the repository cannot be used.
        RunError: The run has no validation pictures.
        GraphError: A graph fails a check; nothing was written.
        WeightRangeError: float16 cannot hold a weight; nothing was written.
        RepositoryConflictError: Another version of the family has other shapes.
        TrainingError: The run folder or its data cannot be read.
    """
    options = options or ExportOptions()
    family = family or folder.resolve().name
    _check_options(repository, family=family, version=version)
    run = load_run(folder)
    plans = _plans(run, options, data=data)
    batch_sizes = {*range(1, _EVERY_BATCH_SIZE_UP_TO + 1), options.batching.max_batch_size}
    names = [plan.role.model_name(family) for plan in plans]
    trials = {
        name: select_form(
            plan,
            name,
            batch_sizes=sorted(size for size in batch_sizes if size <= options.picture_count),
            measurement=options.measurement,
        )
        for name, plan in zip(names, plans, strict=True)
    }
    reports = tuple(GraphReport.of(name, trial) for name, trial in trials.items())
    facts = _facts(run, family)
    written = publish(
        repository,
        [
            StagedModel(plan.role, trials[name].model)
            for name, plan in zip(names, plans, strict=True)
        ],
        facts,
        version=version,
        batching=options.batching,
        backend=options.triton_backend,
        files={
            f"{family}.png": _sample_picture(run, trials, family),
            f"{family}.md": family_card(run, facts, version=version, graphs=reports).encode(),
        },
    )
    return ExportReport(family=family, version=version, graphs=reports, written=written)


def _check_options(repository: Path, *, family: str, version: int) -> None:
    """Refuse what can be refused before any work."""
    if repository.exists() and not repository.is_dir():
        raise OptionError("--to", str(repository), expected="a folder")
    if not _FAMILY.fullmatch(family):
        raise OptionError(
            "--family", family, expected="lower-case letters and digits, in words joined by hyphens"
        )
    if version < 1:
        raise OptionError("--version", version, expected="1 or more")


def _plans(run: Run, options: ExportOptions, *, data: Path | None) -> tuple[GraphPlan, ...]:
    images = run.validation_images(options.picture_count, data=data)
    if not len(images):
        raise RunError(run.paths.folder, "its data set has no validation pictures to check with")
    reference = Reference.of(
        run.model, np.resize(images, (options.picture_count, *images.shape[1:]))
    )
    return (
        plan_encoder(run.model, reference, storage=options.encoder_storage),
        plan_decoder(run.model, reference, storage=options.decoder_storage),
        *plan_priors(run.prior, count=options.picture_count),
    )


def _facts(run: Run, family: str) -> FamilyFacts:
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
    )


def _sample_picture(run: Run, trials: Mapping[str, GraphTrial], family: str) -> bytes:
    """Draw the same faces from both priors; no picture of the data set is on it."""
    captions = {"mixture": "fitted mixture (default)", "normal": "N(0, I)"}
    return to_png(
        [
            SampleSheet(
                caption,
                draw_samples(
                    trials[f"{family}-prior-{prior}"].session,
                    trials[f"{family}-decoder"].session,
                    latent_size=run.config.model.latent_size,
                ),
            )
            for prior, caption in captions.items()
        ]
    )
