"""What runs a model: one interface, implemented on ONNX Runtime here and by remote servers.

An engine is called from threads. `submit` never blocks; `infer` waits for it.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.statistics import ModelStatistics

__all__ = [
    "Array",
    "Done",
    "Engine",
    "InferRequest",
    "ModelInfo",
    "TensorSpec",
    "Tensors",
    "VersionState",
]

Array = NDArray[Any]
Tensors = Mapping[str, Array]
Done = Callable[[dict[str, Array] | FacegenError], None]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: Its name in the graph.
        dtype: Its element type; `ml_dtypes.bfloat16` for BF16, `object` (elements are bytes) for
            BYTES.
        shape: Its axes as a caller gives them, after the batch axis where the model has one; -1
            where any length goes.
        optional: Whether a request may leave it out.
        labels: Of an output, what its values mean, in their order (`label_filename`).
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    optional: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model repository says of one version of one model.

    Attributes:
        name: The model's name in the repository.
        version: The version, a decimal number.
        inputs: Its inputs.
        outputs: Its outputs.
        max_batch_size: The most rows of one execution; 0: its tensors have no batch axis.
        parameters: The `parameters` of its config.pbtxt, `facegen.…` among them.
        config: Its complete `ModelConfig` (tritonclient's), defaults and what the graph tells
            filled in.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    parameters: Mapping[str, str] = field(default_factory=dict)
    config: Any = None


@dataclass(frozen=True, slots=True)
class VersionState:
    """One line of a repository's index.

    Attributes:
        name: The model's name.
        version: The version; empty if the model as a whole could not be read.
        state: As Triton names it.
        reason: Why it does not serve, or why its latest load failed while the one before serves;
            empty if all is well.
    """

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """Rows to run through a model.

    Attributes:
        model: The model's name.
        inputs: For every input that is not optional an array of its dtype: (rows, *shape) where the
            model batches, at least one row, more than `max_batch_size` allowed; else (*shape).
            Values, NaN too, are not looked at.
        version: The version; empty means the newest ready one.
        outputs: The outputs wanted; empty means all.
        context: Deadline, cancellation, client, priority, trace.
    """

    model: str
    inputs: Tensors
    version: str = ""
    outputs: tuple[str, ...] = ()
    context: CallContext = field(default_factory=CallContext)


class Engine(ABC):
    """Runs the models of one repository; safe to call from several threads."""

    @abstractmethod
    def models(self) -> Sequence[ModelInfo]:
        """List every version of every model that is ready, by name, then version rising."""

    @abstractmethod
    def model(self, name: str, version: str = "") -> ModelInfo:
        """Describe a ready model; an empty version means the newest.

        Raises:
            ModelNotFoundError: No such model or version is ready.
        """

    @abstractmethod
    def index(self) -> Sequence[VersionState]:
        """List every version of every model that the repository has, ready or not, and why."""

    @abstractmethod
    def submit(self, request: InferRequest, done: Done) -> None:
        """Run a request, batched with other callers' rows, and call back with what came of it.

        `done` is called exactly once, from any thread, at once for bad requests, and must be quick.
        It gets the wanted outputs, row i from row i of the inputs, or one of these errors:

        ModelNotFoundError: No such model or version. Never right.
        InputError: A name, dtype, shape, row count or priority is wrong. Never right.
        QueueFullError: Too many rows wait. Retry later.
        DeadlineError: The deadline passed first; rows that had not begun never run.
        CallCancelledError: The context was cancelled; likewise.
        EngineClosedError: The engine is shutting down, or cannot be reached. Retry elsewhere.
        InferenceError: The runtime failed on these rows.
        """

    def infer(
        self,
        model: str,
        inputs: Tensors,
        *,
        version: str = "",
        outputs: tuple[str, ...] = (),
        context: CallContext | None = None,
    ) -> dict[str, Array]:
        """Run a model and wait; arguments as in `InferRequest`, errors raised as `submit` names."""
        answers: list[dict[str, Array] | FacegenError] = []
        answered = threading.Lock()
        answered.acquire()

        def done(answer: dict[str, Array] | FacegenError) -> None:
            answers.append(answer)
            answered.release()

        self.submit(InferRequest(model, inputs, version, outputs, context or CallContext()), done)
        answered.acquire()
        answer = answers[0]
        if isinstance(answer, FacegenError):
            raise answer
        return answer

    @abstractmethod
    def load(
        self, model: str, *, config: str = "", files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load or reload a model, warm, beside what serves under its name, then swap; blocks.

        Args:
            model: Its name.
            config: A ModelConfig in JSON that replaces config.pbtxt; empty: the repository's.
            files: Files that replace the repository's, by `<version>/<file>`; needs `config`.

        Raises:
            ModelNotFoundError: The repository has no such model.
            RepositoryError: It cannot be served; what served before still does, `index` tells why.
            CapabilityError: This engine loads nothing.
        """

    @abstractmethod
    def unload(self, model: str) -> None:
        """Stop serving a model; what is queued for it still runs. Blocks until it has.

        Raises:
            ModelNotFoundError: The repository has no such model.
            CapabilityError: This engine unloads nothing.
        """

    @abstractmethod
    def statistics(self, model: str = "", version: str = "") -> Sequence[ModelStatistics]:
        """Tell what ready models did; empty names mean all.

        Raises:
            ModelNotFoundError: No such model or version is ready.
        """

    @abstractmethod
    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, from any thread, after the models that are ready have changed."""

    @abstractmethod
    def close(self) -> None:
        """Finish what is queued, refuse what comes, free the models; again is no harm. Blocks."""
