"""Renders shards in processes of this machine, each with an engine of its own.

One process's Python keeps about eight CPUs busy. A process that ends, of memory or a fault of a
library, takes its shards with it; they are begun again in a new one.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from facegen.errors import FacegenError
from facegen.serving.errors import StoppedError, WorkerError, WorkerLostError
from facegen.serving.rendering.crews.crew import Crew, Progress
from facegen.serving.rendering.crews.threads import ThreadCrew
from facegen.serving.rendering.job import RunConfig
from facegen.serving.rendering.output.records import ShardOrder, ShardRecord
from facegen.serving.rendering.plan import Plan
from facegen.serving.rendering.renderer import CONCURRENT_SHARDS

__all__ = ["ProcessCrew"]

# What goes through a pipe: to a process orders, and None for stop; from it what came of them, with
# the shard's number, or progress.
_DONE, _FAILED, _STOPPED, _PROGRESS, _READY = "done", "failed", "stopped", "progress", "ready"


class ProcessCrew(Crew):
    """Renderers in processes.

    Args:
        plan: What is rendered.
        config: How; its threads are of each process.
        process_count: How many.
    """

    def __init__(self, plan: Plan, config: RunConfig, process_count: int) -> None:
        self._plan, self._config = plan, config
        self.worker_count = process_count
        self._stopped = False
        self._workers = [_Worker(plan, config) for _ in range(process_count)]

    @property
    def capacity(self) -> int:
        """How many shards it takes at a time."""
        return self.worker_count * CONCURRENT_SHARDS

    def submit(self, order: ShardOrder) -> Future[ShardRecord]:
        """Begin a shard in the process that has the fewest; see `Crew.submit`."""
        for place, worker in enumerate(self._workers):
            if worker.ended:
                worker.close()
                self._workers[place] = _Worker(self._plan, self._config)
        worker = min(self._workers, key=lambda it: it.shard_count)
        return worker.submit(order)

    def progress(self) -> Mapping[int, Progress]:
        """Tell how far the shards under way are."""
        return {
            number: progress
            for worker in self._workers
            for number, progress in dict(worker.progress).items()
        }

    def stop(self) -> None:
        """Stop what is under way."""
        for worker in self._workers:
            worker.stop()

    def close(self) -> None:
        """End the processes."""
        self.stop()
        for worker in self._workers:
            worker.close()


class _Worker:
    """A process, and a thread that listens to it."""

    def __init__(self, plan: Plan, config: RunConfig) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, plan, config), daemon=True)
        self._process.start()
        theirs.close()
        self._futures: dict[int, Future[ShardRecord]] = {}
        self._changing = threading.Lock()
        self.progress: dict[int, Progress] = {}
        self.ended = False
        self._failure = ""
        threading.Thread(target=self._listen, name="worker", daemon=True).start()

    @property
    def shard_count(self) -> int:
        """How many shards it has under way."""
        return len(self._futures)

    def submit(self, order: ShardOrder) -> Future[ShardRecord]:
        """Send it a shard."""
        future: Future[ShardRecord] = Future()
        with self._changing:
            if self.ended:
                future.set_exception(self._loss())
                return future
            self._futures[order.number] = future
        self._send(order)
        return future

    def stop(self) -> None:
        """Let it stop what it has under way."""
        self._send(None)

    def close(self) -> None:
        """End it."""
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def _send(self, message: ShardOrder | None) -> None:
        with suppress(OSError):  # It ended; the listener tells of it.
            self._pipe.send(message)

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._take(*self._pipe.recv())
        with self._changing:
            self.ended = True
            lost, self._futures = self._futures, {}
        self._process.join(timeout=5)
        for future in lost.values():
            future.set_exception(self._loss())

    def _take(self, kind: str, number: int, answer: Any) -> None:
        if kind == _PROGRESS:
            self.progress[number] = answer
            return
        if kind == _FAILED and number < 0:
            self._failure = answer
            return
        with self._changing:
            future = self._futures.pop(number)
        self.progress.pop(number, None)
        if kind == _DONE:
            future.set_result(answer)
        else:
            future.set_exception(StoppedError() if kind == _STOPPED else WorkerError(answer))

    def _loss(self) -> FacegenError:
        if self._failure:
            return WorkerError(self._failure)
        code = self._process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with status {code}"
        return WorkerLostError(f"process {self._process.pid} ended {how}")


def _serve(pipe: Connection, plan: Plan, config: RunConfig) -> None:
    """Render the shards that come through a pipe, until it is closed or stop comes."""
    # The terminal interrupts the whole group; it is the run that stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sending = threading.Lock()

    def send(kind: str, number: int, answer: Any = None) -> None:
        with sending:
            pipe.send((kind, number, answer))

    try:
        crew = ThreadCrew(plan, config, told=lambda number, it: send(_PROGRESS, number, it))
    except FacegenError as error:
        send(_FAILED, -1, str(error))
        return

    def tell(order: ShardOrder, future: Future[ShardRecord]) -> None:
        error = future.exception()
        if error is None:
            send(_DONE, order.number, future.result())
        elif isinstance(error, StoppedError):
            send(_STOPPED, order.number)
        else:
            send(_FAILED, order.number, str(error))

    try:
        while (order := pipe.recv()) is not None:
            crew.submit(order).add_done_callback(partial(tell, order))
    except EOFError:
        # The run was killed: nobody takes what would come.
        os._exit(1)
    crew.close()
