"""What a job makes of its items, chunk by chunk; several threads render chunks at the same time."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.errors import InferenceError, InputError
from facegen.serving.rendering.rows import Chunk, Column, Fault, Rendered

__all__ = ["Work", "fault_of"]


class Work(ABC):
    """Renders chunks of a job's items; what comes depends on the job and these items alone.

    Attributes:
        columns: The facts of its rows and their types, beside `key` and `index`, in their order.
        chunk_size: Items of a chunk.
        latent_size: Coordinates of a row's latent; 0: rows have none.
    """

    columns: Mapping[str, Column]
    chunk_size: int
    latent_size: int

    def render(self, chunk: Chunk, *, context: CallContext) -> Rendered:
        """Render a chunk; where the runtime fails on it, item by item.

        Raises:
            CallCancelledError: The run is stopped.
            InferenceError: The runtime fails on every item.
            ServingError: The engine fails, whatever the items.
        """
        try:
            return self._render(chunk, context)
        except InferenceError:
            if chunk.count == 1:
                raise
        return self._render_alone(chunk, context)

    @abstractmethod
    def _render(self, chunk: Chunk, context: CallContext) -> Rendered:
        """Render a chunk at once."""

    @abstractmethod
    def _index(self, place: int) -> int:
        """Give the index of the item at a place in the job."""

    def _render_alone(self, chunk: Chunk, context: CallContext) -> Rendered:
        parts: list[Rendered] = []
        failure: InferenceError | None = None
        for row in range(chunk.count):
            one = Chunk(chunk.first + row, 1, chunk.inputs[row : row + 1])
            try:
                parts.append(self._render(one, context))
            except InferenceError as error:
                failure = error
                source = one.inputs[0] if one.inputs else ""
                parts.append(Rendered((), (fault_of(error, self._index(one.first), source),)))
        if failure and not any(part.rows or part.rejected_count for part in parts):
            raise failure
        return joined(parts)


def joined(parts: Sequence[Rendered]) -> Rendered:
    """Put what became of several runs of items together."""
    return Rendered(
        tuple(row for part in parts for row in part.rows),
        tuple(fault for part in parts for fault in part.faults),
        sum(part.rejected_count for part in parts),
    )


def fault_of(error: FacegenError, index: int, source: str = "") -> Fault:
    """Record an error that concerns one item."""
    message = str(error)
    if isinstance(error, InputError):
        # The field is the input's name, which is recorded beside it.
        message = message.removeprefix(f"{error.field}: ")
    return Fault(index, source, type(error).__name__, message)
