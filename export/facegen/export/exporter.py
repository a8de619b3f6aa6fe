"""Exports a run: builds the graphs of its family, checks and times them, and writes them."""

import re
from pathlib import Path

from facegen.export.autoencoder_contents import autoencoder_contents
from facegen.export.contents import FamilyContents
from facegen.export.errors import OptionError, RunError
from facegen.export.expression_contents import expression_contents
from facegen.export.mesh_contents import mesh_contents
from facegen.export.options import ExportOptions
from facegen.export.report import ExportReport, GraphReport
from facegen.export.repository import StagedModel, publish
from facegen.export.selection import select_form
from facegen.training import AnyRun, ExpressionRun, Run, load_any_run
from facegen.training.run import MeshRun

__all__ = ["export_run"]

_FAMILY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)

_EVERY_BATCH_SIZE_UP_TO = 33
"""Twice a usual batch and one: every size up to this, and the largest, must give the same bits."""


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
        OptionError: The family, the version, the repository or the aligner cannot be used.
        RunError: The run has no validation pictures or meshes, or is of a kind that no family is
            made of.
        GraphError: A graph fails a check; nothing was written.
        WeightRangeError: float16 cannot hold a weight; nothing was written.
        RepositoryConflictError: Another version of the family has other shapes.
        TrainingError: The run folder or its data cannot be read.
    """
    options = options or ExportOptions()
    family = family or folder.resolve().name
    _check_options(repository, family=family, version=version)
    contents = _contents(load_any_run(folder), family, options, data=data)
    batch_sizes = {*range(1, _EVERY_BATCH_SIZE_UP_TO + 1), options.batching.max_batch_size}
    names = [plan.role.model_name(family) for plan in contents.plans]
    trials = {
        name: select_form(
            plan,
            name,
            batch_sizes=sorted(size for size in batch_sizes if size <= options.picture_count),
            measurement=options.measurement,
        )
        for name, plan in zip(names, contents.plans, strict=True)
    }
    reports = tuple(GraphReport.of(name, trial) for name, trial in trials.items())
    sessions = {name: trial.session for name, trial in trials.items()}
    written = publish(
        repository,
        [
            StagedModel(plan.role, trials[name].model)
            for name, plan in zip(names, contents.plans, strict=True)
        ],
        contents.facts,
        version=version,
        batching=options.batching,
        backend=options.triton_backend,
        files={
            f"{family}.png": contents.picture(sessions),
            f"{family}.md": contents.card(version, reports).encode(),
            f"{family}.html": contents.report,
            **{f"{family}{end}": content for end, content in contents.files.items()},
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


def _contents(
    run: AnyRun, family: str, options: ExportOptions, *, data: Path | None
) -> FamilyContents:
    """Plan the family of a run, by its kind."""
    if isinstance(run, ExpressionRun):
        return expression_contents(run, family, options=options, data=data)
    if options.aligner is not None:
        raise OptionError(
            "--aligner",
            str(options.aligner),
            expected="nothing: only families of expressions align",
        )
    if isinstance(run, Run):
        return autoencoder_contents(run, family, options=options, data=data)
    if isinstance(run, MeshRun):
        return mesh_contents(run, family, options=options, data=data)
    raise RunError(
        run.paths.folder,
        f'a run of kind "{run.config.model.kind}", which no family is made of; '
        "give one of an autoencoder, an expression model or a mesh autoencoder",
    )
