"""Renders shards in this process."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from facegen.serving.rendering.crews.crew import Crew, Progress
from facegen.serving.rendering.job import RunConfig
from facegen.serving.rendering.output.records import ShardOrder, ShardRecord
from facegen.serving.rendering.plan import Plan
from facegen.serving.rendering.renderer import CONCURRENT_SHARDS, Renderer

__all__ = ["ThreadCrew"]


class ThreadCrew(Crew):
    """One renderer in this process.

    Args:
        plan: What is rendered.
        config: How.
        told: Told of progress too, with the shard's number.
    """

    worker_count = 1

    def __init__(
        self,
        plan: Plan,
        config: RunConfig,
        *,
        told: Callable[[int, Progress], None] = lambda number, progress: None,
    ) -> None:
        self._renderer = Renderer(plan, config, threads=config.threads)
        self._shards = ThreadPoolExecutor(CONCURRENT_SHARDS, "shards")
        self._told = told
        self._progress: dict[int, Progress] = {}

    @property
    def capacity(self) -> int:
        """How many shards it takes at a time."""
        return CONCURRENT_SHARDS

    def submit(self, order: ShardOrder) -> Future[ShardRecord]:
        """Begin a shard; see `Crew.submit`."""
        future = self._shards.submit(self._renderer.render, order, self._report)
        future.add_done_callback(lambda _: self._progress.pop(order.number, None))
        return future

    def progress(self) -> Mapping[int, Progress]:
        """Tell how far the shards under way are."""
        return dict(self._progress)

    def stop(self) -> None:
        """Stop what is under way."""
        self._renderer.stop()

    def close(self) -> None:
        """End it."""
        self._renderer.stop()
        self._shards.shutdown(wait=True, cancel_futures=True)
        self._renderer.close()

    def _report(self, number: int, done: int, fault_count: int) -> None:
        self._progress[number] = done, fault_count
        self._told(number, (done, fault_count))
