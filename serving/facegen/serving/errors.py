"""The errors of serving.

FacegenError
└── ServingError
    ├── InputError              a request that can never succeed, with its field
    │   ├── UnknownFamilyError      a request for a family or version that is not served
    │   ├── LatentSizeError         a latent of the wrong length
    │   ├── PictureError            bytes that are no picture, or a broken one
    │   ├── PictureSizeError        a picture of more pixels than allowed
    │   ├── RequestSizeError        pictures of more pixels together than allowed
    │   ├── ResponseSizeError       pictures or meshes whose answer would be larger than a message
    │   │                           may be
    │   ├── NoFaceError             a photo in which no face is found
    │   ├── FaceTooSmallError       a face of too few pixels to be drawn anew
    │   ├── TooManyFacesError       a photo of more faces than the request allows
    │   ├── MeshError               bytes that are no mesh, or a broken one
    │   └── TopologyError           a mesh of another topology than the family's
    ├── CapabilityError         a request that this family, engine or build can never fulfil
    ├── UnsupportedError        a method or option that this server does not have
    ├── UnauthenticatedError    no credentials, or wrong ones
    ├── ForbiddenError          credentials that do not allow this
    ├── RateLimitError          this client calls too much; retry after `retry_after_s`
    ├── RegionError             a shared memory region that is there already, or is not
    ├── ServerError             a server that cannot start
    ├── ModelNotFoundError      no such model, family or version here
    ├── QueueFullError          too many rows wait; retry after `retry_after_s`
    │   ├── QueueTooLongError       what waits takes longer than the request has
    │   └── RemoteQueueFullError    too many wait at the server behind this one
    ├── DeadlineError           the timeout passed before the answer
    ├── CallCancelledError      the caller went away
    ├── NotReadyError           what was asked for is still loading; a retry helps
    ├── EngineClosedError       shutting down; retry elsewhere
    │   └── UnreachableError        the server behind this one cannot be reached
    ├── InferenceError          the runtime failed on these rows
    ├── RepositoryError         a model repository that cannot be served
    │   └── BackendError            a model that another backend must serve
    ├── FamilyError             models of a family that do not fit together
    ├── DeviceError             a device that was asked for and is not there
    ├── OutputError             a place that a data set cannot be written to or read from
    │   └── ChangedJobError         a data set of another job than the one to go on with
    ├── StoppedError            a run that was told to stop; it can go on
    └── WorkerError             a worker of a run that failed
        └── WorkerLostError         a worker that ended; its shards are done by others
"""

from collections.abc import Sequence
from pathlib import Path

from facegen.errors import FacegenError

__all__ = [
    "BackendError",
    "CallCancelledError",
    "CapabilityError",
    "ChangedJobError",
    "DeadlineError",
    "DeviceError",
    "EngineClosedError",
    "FaceTooSmallError",
    "FamilyError",
    "ForbiddenError",
    "InferenceError",
    "InputError",
    "LatentSizeError",
    "MeshError",
    "ModelNotFoundError",
    "NoFaceError",
    "NotReadyError",
    "OutputError",
    "PictureError",
    "PictureSizeError",
    "QueueFullError",
    "QueueTooLongError",
    "RateLimitError",
    "RegionError",
    "RemoteQueueFullError",
    "RepositoryError",
    "RequestSizeError",
    "ResponseSizeError",
    "ServerError",
    "ServingError",
    "StoppedError",
    "TooManyFacesError",
    "TopologyError",
    "UnauthenticatedError",
    "UnknownFamilyError",
    "UnreachableError",
    "UnsupportedError",
    "WorkerError",
    "WorkerLostError",
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


class UnknownFamilyError(InputError):
    """A request names a family, or a version of one, that is not served."""

    def __init__(self, field: str, wanted: str, *, available: Sequence[str]) -> None:
        served = ", ".join(available) or "none"
        super().__init__(field, f'no "{wanted}" is served; served: {served}')


class LatentSizeError(InputError):
    """A latent has the wrong number of values."""

    def __init__(self, field: str, family: str, *, expected: int, got: int) -> None:
        super().__init__(field, f'has {got} values, family "{family}" needs {expected}')


class PictureError(InputError):
    """Bytes that are no picture of a known format, or a broken or truncated one."""


class PictureSizeError(InputError):
    """A picture has more pixels than are decoded; found from its header."""

    def __init__(self, field: str, *, limit: int, size_px: tuple[int, int]) -> None:
        super().__init__(
            field,
            f"is a picture of {size_px[0]} x {size_px[1]} pixels above the limit of {limit} pixels "
            "(--max-picture-pixels); reduce it",
        )


class RequestSizeError(InputError):
    """A request's pictures have more pixels together than are decoded; found from their headers."""

    def __init__(self, field: str, *, pixels: int, limit: int) -> None:
        super().__init__(
            field,
            f"brings the request's pictures to {pixels} pixels, above the limit of {limit} pixels "
            "(--max-request-pixels); send fewer or smaller ones in a request",
        )


class ResponseSizeError(InputError):
    """What a request asks for makes more bytes than a message may have.

    Args:
        field: The field at fault.
        limit: The most bytes.
        made: What it makes.
        remedy: What to do beside sending fewer in a request.
    """

    def __init__(
        self,
        field: str,
        *,
        limit: int,
        made: str = "pictures",
        remedy: str = "ask for less of each, or for image/jpeg",
    ) -> None:
        super().__init__(
            field,
            f"make {made} of more than {limit} bytes together, the limit of a response "
            f"(--max-message-bytes); send fewer in a request, {remedy}",
        )


class NoFaceError(InputError):
    """No face is found in a photo."""

    def __init__(self, field: str, *, remedy: str) -> None:
        super().__init__(
            field, f"shows no face seen from the front; send a photo that does, or {remedy}"
        )


class FaceTooSmallError(InputError):
    """A face in a photo has too few pixels to be drawn anew."""

    def __init__(self, field: str, *, index: int, side_px: float, least_px: int) -> None:
        super().__init__(
            field,
            f"face {index} of it is {side_px:.0f} pixels a side, at least {least_px} are needed; "
            "send a larger photo, or cut it to the faces that are meant",
        )


class TooManyFacesError(InputError):
    """A photo shows more faces than the request allows."""

    def __init__(self, field: str, *, count: int, limit: int, most: int) -> None:
        remedy = f"raise it (at most {most}) or cut the photo" if limit < most else "cut the photo"
        super().__init__(
            field, f"shows {count} faces, above the limit of {limit} (max_faces); {remedy}"
        )


class MeshError(InputError):
    """Bytes that are no mesh of a known format, or a broken one."""


class TopologyError(InputError):
    """A mesh that is not of its family's topology: other vertices, or other triangles."""

    def __init__(self, field: str, family: str, *, problem: str) -> None:
        super().__init__(
            field,
            f'{problem}; meshes of family "{family}" all have its topology, which GetTopology '
            "gives: bring the mesh into it first",
        )


class CapabilityError(ServingError):
    """What was asked for exists, but not on this family, model, engine or build."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")


class UnsupportedError(ServingError):
    """A method or an option that this server does not have, whatever the model."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")


class UnauthenticatedError(ServingError):
    """A call came without credentials, or with wrong ones. The message tells nothing of either."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")


class ForbiddenError(ServingError):
    """The caller is known, and may not do this."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")


class RateLimitError(ServingError):
    """One client calls too often, or has too many calls under way; a retry helps.

    Attributes:
        retry_after_s: Seconds after which a call may be taken.
    """

    def __init__(self, problem: str, *, retry_after_s: float) -> None:
        super().__init__(f"{problem}; retry in {retry_after_s:.2f} s")
        self.retry_after_s = retry_after_s


class RegionError(ServingError):
    """A shared memory region that cannot be registered or is not registered.

    Attributes:
        exists: Whether it is the name that is taken.
    """

    def __init__(self, name: str, problem: str, *, exists: bool = False) -> None:
        super().__init__(f'shared memory region "{name}" {problem}')
        self.exists = exists


class ServerError(ServingError):
    """The server cannot start as configured."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")


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


class QueueTooLongError(QueueFullError):
    """What waits for a model takes longer than the request has: refused now rather than then."""

    def __init__(self, model: str, *, wait_s: float, left_s: float) -> None:
        ServingError.__init__(
            self,
            f'model "{model}" would begin in about {wait_s:.2f} s, too late for an answer within '
            f"{left_s:.2f} s; retry in {wait_s:.2f} s, or allow more time",
        )
        self.retry_after_s = wait_s


class RemoteQueueFullError(QueueFullError):
    """Too many rows wait at the server behind this one, or it takes no more calls."""

    def __init__(self, problem: str, *, retry_after_s: float) -> None:
        ServingError.__init__(self, f"{problem}; retry in {retry_after_s:.2f} s")
        self.retry_after_s = retry_after_s


class DeadlineError(ServingError):
    """The timeout passed before the answer was there; its waiting rows are dropped."""

    def __init__(self, model: str, *, timeout_s: float) -> None:
        super().__init__(
            f'model "{model}" did not answer within {timeout_s:.3f} s; '
            "allow more time or send fewer rows"
        )


class CallCancelledError(ServingError):
    """The caller cancelled the call or went away; rows of it that had not begun never run."""

    def __init__(self) -> None:
        super().__init__("the caller cancelled the call")


class NotReadyError(ServingError):
    """What was asked for is still loading, or being exchanged; a retry helps."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is loading; retry")


class EngineClosedError(ServingError):
    """The engine, or the model, is shutting down; a retry elsewhere helps."""

    def __init__(self, what: str = "the engine") -> None:
        super().__init__(f"{what} is shutting down; retry on another server")


class UnreachableError(EngineClosedError):
    """The server behind this one is away; it is called again as soon as it is back."""

    def __init__(self, address: str, problem: str) -> None:
        ServingError.__init__(self, f"{address} cannot be reached: {problem}; retry later")


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


class BackendError(RepositoryError):
    """A model of another backend; it is passed over, and the others are served."""

    def __init__(self, path: Path, backend: str) -> None:
        super().__init__(
            path,
            f'its backend is "{backend}"',
            'only "onnxruntime" runs here: serve it with Triton',
        )


class FamilyError(ServingError):
    """Models of a family whose parameters are missing, wrong or contradict each other."""

    def __init__(self, family: str, problem: str) -> None:
        super().__init__(f'family "{family}": {problem}; export it again')


class DeviceError(ServingError):
    """A device was asked for that cannot be used; there is no silent fall-back."""

    def __init__(self, device: str, problem: str, remedy: str) -> None:
        super().__init__(f'device "{device}" cannot be used: {problem}; {remedy}')


class OutputError(ServingError):
    """A place that a data set cannot be written to or read from as it is."""

    def __init__(self, where: object, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}; {remedy}")


class ChangedJobError(OutputError):
    """A data set that was begun by another job, or other models, than those it is to go on with."""

    def __init__(self, where: object, differences: Sequence[str]) -> None:
        super().__init__(
            where,
            f"holds another job: {'; '.join(differences)}",
            "go on with the same job, or choose another folder",
        )


class StoppedError(ServingError):
    """A run was told to stop; what is done is kept, and it can go on.

    Attributes:
        signal_number: The signal that told it; 0 if none did.
    """

    def __init__(self, signal_number: int = 0) -> None:
        super().__init__("the run was told to stop")
        self.signal_number = signal_number


class WorkerError(ServingError):
    """A worker of a run failed; the message is its own."""


class WorkerLostError(WorkerError):
    """A worker of a run ended; what it had under way can be done by another."""
