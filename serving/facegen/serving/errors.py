"""The errors of serving.

FacegenError
└── ServingError
    ├── InputError              a request that can never succeed, with its field
    ├── ModelNotFoundError      no such model, family or version here
    ├── QueueFullError          too many rows wait; retry after `retry_after_s`
    ├── DeadlineError           the timeout passed before the answer
    ├── EngineClosedError       shutting down; retry elsewhere
    ├── InferenceError          the runtime failed on these rows
    ├── RepositoryError         a model repository that cannot be served
    └── DeviceError             a device that was asked for and is not there
"""

from collections.abc import Sequence
from pathlib import Path

from facegen.errors import FacegenError

__all__ = [
    "DeadlineError",
    "DeviceError",
    "EngineClosedError",
    "InferenceError",
    "InputError",
    "ModelNotFoundError",
    "QueueFullError",
    "RepositoryError",
    "ServingError",
]


class ServingError(FacegenError):
    """The root of serving's errors."""


class InputError(ServingError):
    """A request that can never succeed as it is.

    Attributes:
        field: The field or tensor at fault, for example `latent`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class ModelNotFoundError(ServingError):
    """No such model, family or version is served here.

    Attributes:
        name: The name asked for.
        version: The version asked for; empty if none was.
    """

    def __init__(self, name: str, version: str = "", *, available: Sequence[str] = ()) -> None:
        wanted = f'"{name}" version "{version}"' if version else f'"{name}"'
        served = ", ".join(available) if available else "none"
        super().__init__(f"no model {wanted} is served; ready: {served}")
        self.name = name
        self.version = version


class QueueFullError(ServingError):
    """Too many rows wait for a model; a retry helps.

    Attributes:
        retry_after_s: Seconds after which the queue may have room, an estimate.
    """

    def __init__(
        self, model: str, rows: int, *, queued: int, limit: int, retry_after_s: float
    ) -> None:
        super().__init__(
            f'{rows} rows for model "{model}" do not fit its queue ({queued} of {limit} wait); '
            f"retry in {retry_after_s:.2f} s"
        )
        self.retry_after_s = retry_after_s


class DeadlineError(ServingError):
    """The timeout passed before the answer was there; its waiting rows are dropped."""

    def __init__(self, model: str, *, timeout_s: float) -> None:
        super().__init__(
            f'model "{model}" did not answer within {timeout_s:.3f} s; '
            "allow more time or send fewer rows"
        )


class EngineClosedError(ServingError):
    """The engine, or the model, is shutting down; a retry elsewhere helps."""

    def __init__(self, what: str = "the engine") -> None:
        super().__init__(f"{what} is shutting down; retry on another server")


class InferenceError(ServingError):
    """The runtime failed on rows that were right by shape; its own message is passed on."""

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(f'model "{model}" failed: {problem}')


class RepositoryError(ServingError):
    """A model repository that cannot be served as it is.

    Attributes:
        path: The folder or file at fault.
    """

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path = path


class DeviceError(ServingError):
    """A device was asked for that cannot be used; there is no silent fall-back."""

    def __init__(self, device: str, problem: str, remedy: str) -> None:
        super().__init__(f'device "{device}" cannot be used: {problem}; {remedy}')
