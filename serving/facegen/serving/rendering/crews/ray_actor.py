"""The worker of a Ray cluster, on its node: a renderer that is asked from afar."""

import socket
from dataclasses import dataclass, replace
from pathlib import Path

from facegen.errors import FacegenError
from facegen.serving.errors import StoppedError, WorkerError
from facegen.serving.rendering.crews.crew import Progress
from facegen.serving.rendering.crews.ray_connection import current_node
from facegen.serving.rendering.job import ReconstructJob, RunConfig, TransferJob
from facegen.serving.rendering.output.journal import Journal
from facegen.serving.rendering.output.places import open_place
from facegen.serving.rendering.output.records import ShardOrder, ShardRecord
from facegen.serving.rendering.plan import Plan
from facegen.serving.rendering.renderer import Renderer

__all__ = ["Failed", "Opened", "RayActor", "Stopped", "from_anywhere"]

_ONNX = "onnx:"


@dataclass(frozen=True, slots=True)
class Opened:
    """A worker that can render.

    Attributes:
        host: The machine that it is on.
        node: Ray's name of that.
    """

    host: str
    node: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An error of ours; it goes as text, because our errors are made of facts and do not unpickle.

    Attributes:
        message: The error's.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """A shard that was stopped."""


class RayActor:
    """Renders shards on a node; several threads ask at a time.

    Args:
        plan: What is rendered.
        config: How.
        digest: Of the plan as it lies at the data set's place.
    """

    def __init__(self, plan: Plan, config: RunConfig, digest: str) -> None:
        self._plan, self._config, self._digest = plan, config, digest
        self._progress: dict[int, Progress] = {}
        self._renderer: Renderer

    def open(self) -> Opened | Failed:
        """Load the models; once, and before anything is rendered."""
        host = socket.gethostname()
        try:
            self._check(host)
            self._renderer = Renderer(self._plan, self._config, threads=self._config.threads)
        except FacegenError as error:
            return Failed(f"on {host}: {error}")
        return Opened(host, current_node())

    def render(self, order: ShardOrder) -> ShardRecord | Failed | Stopped:
        """Render a shard."""
        try:
            return self._renderer.render(order, self._report)
        except StoppedError:
            return Stopped()
        except FacegenError as error:
            return Failed(str(error))
        finally:
            self._progress.pop(order.number, None)

    def progress(self) -> dict[int, Progress]:
        """Tell how far the shards under way are, by their numbers."""
        return dict(self._progress)

    def stop(self) -> None:
        """Stop what is under way."""
        self._renderer.stop()

    def _check(self, host: str) -> None:
        """Refuse folders of the driver's machine that are not this machine's too."""
        remedy = "use a folder that all machines mount, or a URL such as s3://bucket/faces"
        lying = Journal(self._config.out).plan()
        if lying is None or lying.digest != self._digest:
            raise WorkerError(f"{self._config.out} is not the data set's folder here; {remedy}")
        if isinstance(self._plan.job, ReconstructJob | TransferJob):
            files, root = open_place(self._plan.job.input, field="input")
            if not files.isdir(root):
                raise WorkerError(f"there is no {self._plan.job.input} here; {remedy}")

    def _report(self, number: int, done: int, fault_count: int) -> None:
        self._progress[number] = done, fault_count


def from_anywhere(plan: Plan, config: RunConfig) -> tuple[Plan, RunConfig]:
    """Make the paths of a run absolute: a worker has another working directory."""
    job = plan.job
    if isinstance(job, ReconstructJob | TransferJob):
        job = job.model_copy(update={"input": _absolute(job.input)})
    engine = config.engine
    if engine.startswith(_ONNX):
        engine = _ONNX + _absolute(engine.removeprefix(_ONNX))
    out = _absolute(config.out)
    return replace(plan, job=job), config.model_copy(update={"engine": engine, "out": out})


def _absolute(url: str) -> str:
    # What begins with ~ is so already: fsspec knows.
    known = "://" in url or "::" in url or url.startswith("~")
    return url if known else str(Path(url).absolute())
