"""What runs a model: one small protocol, implemented on ONNX Runtime here and by remote servers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Engine", "ModelInfo", "TensorSpec", "Tensors"]

Array = NDArray[Any]
Tensors = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: Its name in the graph.
        dtype: Its element type.
        shape: Its axes after the batch axis; -1 where any length goes.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model repository says of one version of one model.

    Attributes:
        name: The model's name in the repository.
        version: The version, a decimal number.
        inputs: Its inputs, all with a batch axis in front.
        outputs: Its outputs, likewise.
        max_batch_size: The most rows of one execution.
        parameters: The `parameters` of its config.pbtxt, `facegen.…` among them.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    parameters: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """Runs the models of one repository."""

    async def models(self) -> Sequence[ModelInfo]:
        """List every version of every model that is ready, by name and version."""
        ...

    async def infer(
        self, model: str, inputs: Tensors, *, version: str = "", timeout_s: float | None = None
    ) -> dict[str, Array]:
        """Run a model on any number of rows, batched with other callers' rows.

        Args:
            model: The model's name.
            inputs: For every input of the model an array (rows, *shape) of its dtype; at least one
                row, more than `max_batch_size` allowed. Values, NaN too, are not looked at.
            version: The version; empty means the newest ready one.
            timeout_s: Seconds until the answer is of no use; None waits for ever. Cancelling the
                awaiting task drops rows that have not begun to run.

        Returns:
            Every output of the model, (rows, *shape), row i from row i of the inputs.

        Raises:
            ModelNotFoundError: No such model or version. Never right.
            InputError: A name, dtype, shape or row count is wrong. Never right.
            QueueFullError: Too many rows wait. Retry later.
            DeadlineError: The timeout passed first.
            EngineClosedError: The engine is shutting down. Retry elsewhere.
            InferenceError: The runtime failed on these rows.
        """
        ...

    async def load(self, model: str) -> None:
        """Load or reload a model from the repository, warmed up before it serves."""
        ...

    async def unload(self, model: str) -> None:
        """Stop serving a model; what is queued for it still runs."""
        ...

    async def close(self) -> None:
        """Finish what is queued, refuse what comes, free the models."""
        ...
