"""Runs a job: shards go to a crew, what is lost goes again, and all of it becomes a manifest."""

import logging
import platform
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from facegen.serving.errors import StoppedError, WorkerError, WorkerLostError
from facegen.serving.onnx.cpus import available_cpu_count
from facegen.serving.rendering.crews.crew import Crew
from facegen.serving.rendering.inputs import InputFile, InputFolder
from facegen.serving.rendering.job import Job, ReconstructJob, RunConfig, TransferJob
from facegen.serving.rendering.output.journal import Journal
from facegen.serving.rendering.output.records import ShardOrder, ShardRecord
from facegen.serving.rendering.plan import Plan

__all__ = ["Observer", "Run", "State", "find_inputs", "open_crew", "process_count"]

_LOGGER = logging.getLogger(__name__)

_LOOK_S = 0.2
# A shard that ends this many workers is to blame itself.
_MOST_LOSSES = 3
_CPUS_PER_PROCESS = 8


@dataclass(frozen=True, slots=True)
class State:
    """How far a run is.

    Attributes:
        item_count: Items of the whole job.
        done_count: Those that are done, in shards under way too, and those of earlier runs.
        earlier_count: Those of earlier runs.
        fault_count: Items that could not be rendered.
        shard_count: Shards of the whole job.
        done_shard_count: Those that are in their places.
        worker_count: Who works now.
        elapsed_s: Since the run began.
    """

    item_count: int
    done_count: int
    earlier_count: int
    fault_count: int
    shard_count: int
    done_shard_count: int
    worker_count: int
    elapsed_s: float

    @property
    def items_per_s(self) -> float:
        """How many items this run does in a second, in the mean."""
        return (self.done_count - self.earlier_count) / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float | None:
        """How long the rest takes at this pace; None: nobody knows yet."""
        speed = self.items_per_s
        return (self.item_count - self.done_count) / speed if speed else None


class Observer(Protocol):
    """Told of a run, in its thread."""

    def moved(self, state: State) -> None:
        """See how far it is, several times a second."""
        ...

    def finished(self, record: ShardRecord, state: State) -> None:
        """See a shard that is done."""
        ...

    def lost(self, order: ShardOrder, error: WorkerLostError) -> None:
        """See a shard that goes to another worker."""
        ...


class Run:
    """A run of a job.

    Args:
        plan: What is rendered.
        journal: Tells of what is done.
        names: Of all input files, if the job reads some.
        crew: Renders.
        observer: Is told.
    """

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        names: Sequence[str],
        *,
        done: Mapping[int, ShardRecord],
        crew: Crew,
        observer: Observer,
    ) -> None:
        self._plan, self._journal, self._crew, self._observer = plan, journal, crew, observer
        self._records = dict(done)
        self._earlier_count = sum(record.item_count for record in done.values())
        self._waiting = deque(
            order for order in plan.orders(names) if order.number not in self._records
        )
        self._under_way: dict[Future[ShardRecord], ShardOrder] = {}
        self._losses: Counter[int] = Counter()
        self._stopping = threading.Event()
        self._started = time.monotonic()

    def stop(self) -> None:
        """Stop soon; call it from any thread, or a signal's handler."""
        self._stopping.set()

    def finish(self) -> dict[str, Any]:
        """Render what is not done yet; blocks.

        Returns:
            The manifest.

        Raises:
            StoppedError: `stop` was called. What is done is kept.
            FacegenError: It cannot go on. What is done is kept.
        """
        try:
            while self._waiting or self._under_way:
                if self._stopping.is_set():
                    raise StoppedError
                self._submit()
                if self._under_way:
                    ended, _ = wait(self._under_way, _LOOK_S, FIRST_COMPLETED)
                    for future in ended:
                        self._take(future)
                else:  # no worker is ready yet
                    self._stopping.wait(_LOOK_S)
                self._observer.moved(self.state())
        finally:
            self._crew.stop()
            wait(self._under_way)
        elapsed_s = time.monotonic() - self._started
        return self._journal.finish(
            self._plan,
            self._records,
            timings={
                "duration_s": round(elapsed_s, 3),
                "items_per_s": round(self.state().items_per_s, 1),
                "resumed_after_items": self._earlier_count,
                "shards_s": round(sum(it.duration_s for it in self._records.values()), 3),
            },
            environment={
                "python": platform.python_version(),
                "platform": platform.platform(),
                "workers": self._crew.worker_count,
                "cpus": available_cpu_count(),
            },
        )

    def state(self) -> State:
        """Tell how far it is."""
        under_way = self._crew.progress()
        numbers = {order.number for order in self._under_way.values()}
        parts = [it for number, it in under_way.items() if number in numbers]
        done_count = sum(record.item_count for record in self._records.values())
        fault_count = sum(len(record.faults) for record in self._records.values())
        return State(
            self._plan.item_count,
            done_count + sum(done for done, _ in parts),
            self._earlier_count,
            fault_count + sum(faults for _, faults in parts),
            self._plan.shard_count,
            len(self._records),
            self._crew.worker_count,
            time.monotonic() - self._started,
        )

    def _submit(self) -> None:
        while self._waiting and len(self._under_way) < self._crew.capacity:
            order = self._waiting.popleft()
            self._under_way[self._crew.submit(order)] = order

    def _take(self, future: Future[ShardRecord]) -> None:
        order = self._under_way.pop(future)
        try:
            record = future.result()
        except WorkerLostError as error:
            self._losses[order.number] += 1
            if self._losses[order.number] >= _MOST_LOSSES:
                raise WorkerError(
                    f"shard {order.number} was lost {_MOST_LOSSES} times, at last because {error}; "
                    "look at what it reads, and at the memory of the machines"
                ) from error
            self._observer.lost(order, error)
            self._waiting.appendleft(order)
            return
        self._records[order.number] = record
        self._observer.finished(record, self.state())


def find_inputs(job: Job, suffixes: Sequence[str]) -> list[InputFile]:
    """List what a job reads; nothing if it draws.

    Raises:
        InputError: There is nothing to read.
    """
    if not isinstance(job, ReconstructJob | TransferJob):
        return []
    return InputFolder(job.input).find(suffixes)


def process_count(plan: Plan, config: RunConfig) -> int:
    """Tell how many processes of this machine render a job."""
    shared = config.engine.startswith("triton:") or config.device == "cuda"
    cpus = config.threads or available_cpu_count()
    count = config.processes or (1 if shared else -(-cpus // _CPUS_PER_PROCESS))
    return min(count, plan.shard_count)


def open_crew(plan: Plan, config: RunConfig) -> Crew:
    """Open the crew that a configuration names.

    Raises:
        FacegenError: Its engine cannot be opened, or there is no such cluster.
    """
    if config.ray:
        from facegen.serving.rendering.crews.ray_cluster import RayCrew

        return RayCrew(plan, config)
    count = process_count(plan, config)
    if count == 1:
        from facegen.serving.rendering.crews.threads import ThreadCrew

        return ThreadCrew(plan, config)
    from facegen.serving.rendering.crews.processes import ProcessCrew

    cpus = config.threads or available_cpu_count()
    each = config.model_copy(update={"threads": max(1, cpus // count)})
    return ProcessCrew(plan, each, count)
