"""Renders shards on a Ray cluster: a worker is an actor, on the nodes that are there and that come.

The actors are the driver's: when it ends, of kill -9 too, Ray ends them. What they had under way
leaves no more than staged files.
"""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from facegen.serving.errors import StoppedError, WorkerError, WorkerLostError
from facegen.serving.rendering.crews.crew import Crew, Progress
from facegen.serving.rendering.crews.ray_actor import (
    Failed,
    Opened,
    RayActor,
    Stopped,
    from_anywhere,
)
from facegen.serving.rendering.crews.ray_connection import RayConnection, RemoteActor
from facegen.serving.rendering.crews.ray_share import share_of
from facegen.serving.rendering.job import RunConfig
from facegen.serving.rendering.output.records import ShardOrder, ShardRecord
from facegen.serving.rendering.plan import Plan
from facegen.serving.rendering.renderer import CONCURRENT_SHARDS

__all__ = ["RayCrew"]

_LOGGER = logging.getLogger(__name__)

_LOOK_S, _ASK_S, _WARN_S = 2.0, 1.0, 30.0
# Longer than a worker takes to notice that its node is lost, and to end.
_DOUBT_S = 5.0
# That new workers end so often, one look after the other, is not the fault of a node.
_MOST_EARLY_ENDS = 3


class RayCrew(Crew):
    """Renderers on the nodes of a Ray cluster; it grows and shrinks with the cluster.

    Args:
        plan: What is rendered.
        config: How.

    Raises:
        InputError: The configuration names no address, or Ray is not installed.
        ServerError: The cluster cannot be reached or started.
    """

    def __init__(self, plan: Plan, config: RunConfig) -> None:
        self.worker_count = 0
        self._workers: list[_Worker] = []
        self._stopped = False
        self._look_at, self._warn_at = 0.0, time.monotonic() + _WARN_S
        self._early_end, self._early_end_count = "", 0
        self._cluster = RayConnection(config.ray)
        self._share = share_of(config, self._cluster.nodes())
        self._most, self._shard_count = config.workers, plan.shard_count
        shared_plan, config = from_anywhere(plan, config)
        config = config.model_copy(update={"threads": self._share.cpus})
        self._arguments = shared_plan, config, plan.digest

    @property
    def capacity(self) -> int:
        """How many shards it takes at a time; 0 while no worker is ready.

        Raises:
            WorkerError: A worker cannot open its models or the data set, or the cluster is gone.
        """
        self._follow()
        return self.worker_count * CONCURRENT_SHARDS

    def submit(self, order: ShardOrder) -> Future[ShardRecord]:
        """Begin a shard on the worker that has the fewest; see `Crew.submit`."""
        worker = min(self._workers, key=lambda it: (not it.ready, it.shard_count))
        return worker.submit(order)

    def progress(self) -> Mapping[int, Progress]:
        """Tell how far the shards under way were about a second ago.

        Raises:
            WorkerError: As of `capacity`.
        """
        self._follow()
        return {
            number: progress
            for worker in self._workers
            for number, progress in worker.progress.items()
        }

    def stop(self) -> None:
        """Stop what is under way."""
        self._stopped = True
        for worker in self._workers:
            worker.stop()

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        self._stopped = True
        for worker in self._workers:
            worker.close()
        self._workers = []
        self._cluster.close()

    def _follow(self) -> None:
        """Take what workers have answered, drop those that are lost, and begin new ones."""
        if self._stopped:
            return
        for worker in self._workers:
            if worker.look():
                self._early_end_count = 0
        for lost in [worker for worker in self._workers if worker.loss]:
            self._drop(lost)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_S
            self._check_early_ends()
            self._grow()
        self.worker_count = sum(worker.ready for worker in self._workers)

    def _drop(self, lost: "_Worker") -> None:
        self._workers.remove(lost)
        lost.close()
        if not lost.node:
            self._early_end = lost.loss
            return
        # A node takes all its workers with it, but not all at once.
        for other in self._workers:
            if other.node == lost.node:
                other.doubt()

    def _check_early_ends(self) -> None:
        """Give up where workers end before they are open, again and again."""
        if not self._early_end:
            return
        self._early_end_count += 1
        if self._early_end_count >= _MOST_EARLY_ENDS:
            raise WorkerError(
                f"new workers have ended {_MOST_EARLY_ENDS} times before they were ready, at last "
                f"because {self._early_end}; look at Ray's logs on its nodes"
            )
        self._early_end = ""

    def _grow(self) -> None:
        """Begin workers, as many as there is room for, or those that the configuration demands.

        Those without room wait in the cluster, where an autoscaler sees them; one always does.
        """
        nodes = self._cluster.nodes()
        room = sum(self._share.fits(node) for node in nodes)
        count = min(self._most or max(1, room), self._shard_count)
        while len(self._workers) < count:
            actor = self._cluster.start(
                RayActor,
                *self._arguments,
                cpus=self._share.cpus,
                gpus=self._share.gpus,
                # One more tells of progress, and one stops.
                calls=CONCURRENT_SHARDS + 2,
            )
            self._workers.append(_Worker(actor))
        if not any(worker.host for worker in self._workers) and time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + _WARN_S
            _LOGGER.warning(
                "no worker is ready, the cluster may lack room nodes=%d cpus=%d gpus=%d",
                len(nodes),
                self._share.cpus,
                self._share.gpus,
            )


class _Worker:
    """What is known here of an actor; nothing waits for it.

    Args:
        actor: A `RayActor`.

    Attributes:
        host: The machine that it is on; empty until it is open.
        node: Ray's name of that; empty likewise.
        loss: Why it ended; empty while it is there.
        progress: Of its shards.
    """

    def __init__(self, actor: RemoteActor) -> None:
        self._actor = actor
        self.host = self.node = self.loss = ""
        self.progress: Mapping[int, Progress] = {}
        self._under_way: set[Future[Any]] = set()
        self._doubted = False
        self._asked: Future[Any] | None = actor.call("open")
        self._ask_at = 0.0

    @property
    def ready(self) -> bool:
        """Whether it takes shards."""
        return bool(self.host) and not self.loss and not self._doubted

    @property
    def shard_count(self) -> int:
        """How many shards it has under way."""
        return len(self._under_way)

    def submit(self, order: ShardOrder) -> Future[ShardRecord]:
        """Begin a shard."""
        future: Future[ShardRecord] = Future()
        answer = self._actor.call("render", order)
        self._under_way.add(answer)
        answer.add_done_callback(lambda it: self._take(it, future))
        return future

    def look(self) -> bool:
        """Take what it has answered, and ask again.

        Returns:
            Whether it has just opened.

        Raises:
            WorkerError: It cannot open its models or the data set, or the cluster is gone.
        """
        if self._asked is None:
            if time.monotonic() >= self._ask_at:
                self._asked = self._actor.call("progress")
                self._ask_at = time.monotonic() + _ASK_S
            return False
        if not self._asked.done():
            return False
        asked, self._asked = self._asked, None
        try:
            answer = asked.result()
        except WorkerLostError as error:
            self.loss = str(error)
            return False
        if isinstance(answer, Failed):
            raise WorkerError(answer.message)
        if isinstance(answer, Opened):
            self.host, self.node = answer.host, answer.node
            return True
        self.progress, self._doubted = answer, False
        return False

    def doubt(self) -> None:
        """Give it no shards until it answers some seconds from now."""
        self._doubted, self._asked = True, None
        self._ask_at = time.monotonic() + _DOUBT_S

    def stop(self) -> None:
        """Stop what it has under way."""
        if self.host:
            self._actor.call("stop")

    def close(self) -> None:
        """End it."""
        self._actor.kill()

    def _take(self, answer: Future[Any], future: Future[ShardRecord]) -> None:
        self._under_way.discard(answer)
        error = answer.exception()
        if isinstance(error, WorkerLostError):
            self.loss = str(error)
            error = WorkerLostError(f"a worker on {self.host} ended: {self.loss}")
        if error is not None:
            future.set_exception(error)
            return
        match answer.result():
            case Failed(message):
                future.set_exception(WorkerError(message))
            case Stopped():
                future.set_exception(StoppedError())
            case record:
                future.set_result(record)
