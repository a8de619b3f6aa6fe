"""The contract of those who render shards."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Self

from facegen.serving.rendering.output.records import ShardOrder, ShardRecord

__all__ = ["Crew", "Progress"]

Progress = tuple[int, int]
"""Items of a shard that are done so far, and faults among them."""


class Crew(ABC):
    """Renders shards, wherever; use from one thread, then `close`.

    Attributes:
        worker_count: How many renderers there are now.
    """

    worker_count: int

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many shards it takes at a time; it may change from call to call."""

    @abstractmethod
    def submit(self, order: ShardOrder) -> Future[ShardRecord]:
        """Begin a shard; never blocks for long.

        The future gets the record of the shard, which is journalled, or one of these errors:

        WorkerLostError: Its worker ended. Begin it again: what it wrote is replaced by the same.
        StoppedError: `stop` was called.
        FacegenError: Another worker would meet it too.
        """

    @abstractmethod
    def progress(self) -> Mapping[int, Progress]:
        """Tell how far the shards under way are, by their numbers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop what is under way: its futures get StoppedError soon."""

    @abstractmethod
    def close(self) -> None:
        """End all workers; again is no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
