"""A run from its configuration to its end: engine asked, plan settled, lock held, signals heard."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from facegen.serving.errors import StoppedError
from facegen.serving.imaging import ImagingPool, PictureLimits
from facegen.serving.rendering.engines import open_run_engine
from facegen.serving.rendering.inputs import InputFile
from facegen.serving.rendering.job import Job, RunConfig, TransferJob
from facegen.serving.rendering.media.meshes import MESH_SUFFIXES
from facegen.serving.rendering.media.pictures import PICTURE_SUFFIXES
from facegen.serving.rendering.output.journal import Journal
from facegen.serving.rendering.plan import Plan, find, settle
from facegen.serving.rendering.renderer import work_of
from facegen.serving.rendering.run import Observer, Run, find_inputs, open_crew

__all__ = ["Prepared", "prepare", "render"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that is settled and checked.

    Attributes:
        plan: What is rendered.
        names: Of all input files, if the job reads some.
    """

    plan: Plan
    names: tuple[str, ...]


def prepare(job: Job, config: RunConfig) -> Prepared:
    """Settle a job by its engine's models and its input files; nothing is written.

    Raises:
        FacegenError: The job cannot be rendered so.
    """
    kind = "expression" if isinstance(job, TransferJob) else ""
    # On the CPU, since a cluster's GPUs may all be on other machines.
    here = config.model_copy(update={"device": "cpu"})
    engine = open_run_engine(here, job.family, kind=kind, threads=1)
    imaging = ImagingPool(1, PictureLimits())
    try:
        of_meshes = find(job, engine).kind == "mesh"
        files: Sequence[InputFile] = find_inputs(
            job, MESH_SUFFIXES if of_meshes else PICTURE_SUFFIXES
        )
        device = "triton" if config.engine.startswith("triton:") else config.device
        plan = settle(job, engine, device=device, files=files)
        work_of(plan, engine, imaging)  # which refuses what the family cannot do
    finally:
        imaging.close()
        engine.close()
    return Prepared(plan, tuple(file.name for file in files))


def render(prepared: Prepared, config: RunConfig, observer: Observer) -> dict[str, Any]:
    """Render a job, or what is left of it.

    Returns:
        The manifest.

    Raises:
        StoppedError: SIGTERM or SIGINT came. What is done is kept.
        FacegenError: It cannot be rendered, or not to its end. What is done is kept.
    """
    plan = prepared.plan
    journal = Journal(config.out)
    journal.look(plan, resume=config.resume)  # before the lock, which would leave a trace
    with journal.locked():
        done = journal.begin(plan, resume=config.resume)
        manifest = journal.manifest()
        if manifest is not None and len(done) == plan.shard_count:
            journal.clean()
            return manifest
        with open_crew(plan, config) as crew:
            run = Run(plan, journal, prepared.names, done=done, crew=crew, observer=observer)
            with _stopped_by_signals(run):
                return run.finish()


@contextmanager
def _stopped_by_signals(run: Run) -> Iterator[None]:
    """Let signals stop a run; a second one is heard as ever."""
    before: dict[int, Any] = {}
    heard = 0

    def stop(number: int, frame: object) -> None:
        nonlocal heard
        heard = number
        signal.signal(number, before[number])
        run.stop()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        before[signal_number] = signal.signal(signal_number, stop)
    try:
        yield
    except StoppedError as error:
        raise StoppedError(heard) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
