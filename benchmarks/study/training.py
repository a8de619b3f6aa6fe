"""Trains a row of ours within its minutes."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study.rows import Row, Stage
from facegen.training import Run, load_run, train_run
from facegen.training.config import load_config

__all__ = ["train_row"]

_log = logging.getLogger(__name__)


def train_row(
    row: Row, folder: Path, *, data: Path, minutes: float, threads: int
) -> tuple[Run, ...]:
    """Train a row's stages, as many whole passes each as its share of the minutes allows.

    An epoch of each stage is timed first, in a run of its own beside the rows, unless another row's
    stage of the same cost was. The learning rate's schedule has to know its end; the probe's minute
    is not counted. Precision is the peers' unless a row says otherwise.

    Args:
        row: The row.
        folder: Where the run folders go; finished stages there are kept.
        data: The folder that holds CelebA.
        minutes: Of training, on so many threads.
        threads: CPU threads.

    Returns:
        The stages' runs.
    """
    runs: list[Run] = []
    for index, stage in enumerate(row.stages):
        start = (f"start_from='{runs[-1].paths.folder}'",) if runs else ()
        run = _train_stage(
            stage,
            folder / f"stage-{index}",
            settings=(f"data.root='{data}'", "precision='32'", *start, *stage.settings),
            seconds=60 * minutes * stage.share,
            threads=threads,
        )
        runs.append(run)
    return tuple(runs)


def _train_stage(
    stage: Stage, folder: Path, *, settings: Sequence[str], seconds: float, threads: int
) -> Run:
    if (folder / "model.safetensors").is_file():
        return load_run(folder)
    probe = folder.parent.parent / f"probe-{stage.cost}"
    if not (probe / "model.safetensors").is_file():
        _run(stage, probe, (*settings, "epochs=1", "prior.components=1"), threads)
    facts = load_run(probe).facts
    epoch_seconds = float(facts["epoch_seconds"])
    other_seconds = float(facts["seconds"]) - epoch_seconds
    epochs = max(1, round((seconds - other_seconds) / epoch_seconds))
    _log.info("training %s: %d epochs of %.1f s", folder, epochs, epoch_seconds)
    return _run(stage, folder, (*settings, f"epochs={epochs}"), threads)


def _run(stage: Stage, folder: Path, settings: Sequence[str], threads: int) -> Run:
    began = time.monotonic()
    config = load_config(stage.preset, settings)
    run = train_run(config, folder, device="cpu", threads=threads)
    _log.info("trained %s in %.0f s", folder, time.monotonic() - began)
    return run
