"""The client of a facegen server: `Client`, `AsyncClient` and the values and errors they deal in.

The names are loaded at their first use: every `facegen` command passes through this package, and
one that forks (`facegen train`) must not have gRPC loaded before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facegen.client.async_client import AsyncClient
    from facegen.client.channel import Retry
    from facegen.client.client import Client
    from facegen.client.credentials import Tls
    from facegen.client.errors import (
        AccessError,
        CancelledError,
        ClientError,
        DeadlineError,
        FailedPreconditionError,
        FileError,
        InvalidRequestError,
        NotFoundError,
        PermissionDeniedError,
        ResourceExhaustedError,
        ServerError,
        TokenError,
        UnauthenticatedError,
        UnavailableError,
    )
    from facegen.client.types import (
        RAW_PIXELS,
        Animation,
        CenterCrop,
        Crop,
        DatasetCrop,
        Decoded,
        Direction,
        DrawnFace,
        Edited,
        EditedFace,
        EditView,
        Encoding,
        Endpoint,
        ExpressionTarget,
        Face,
        FaceCrop,
        FaceFinding,
        FaceSource,
        FoundFace,
        Generated,
        HealthStatus,
        Image,
        ImageSource,
        Interpolated,
        Interpolation,
        Latent,
        Model,
        Point,
        Reconstructed,
        SquareCrop,
        Transferred,
        TransferredImage,
        TransferredPhoto,
        TransferView,
        Traversal,
    )

__all__ = [
    "RAW_PIXELS",
    "AccessError",
    "Animation",
    "AsyncClient",
    "CancelledError",
    "CenterCrop",
    "Client",
    "ClientError",
    "Crop",
    "DatasetCrop",
    "DeadlineError",
    "Decoded",
    "Direction",
    "DrawnFace",
    "EditView",
    "Edited",
    "EditedFace",
    "Encoding",
    "Endpoint",
    "ExpressionTarget",
    "Face",
    "FaceCrop",
    "FaceFinding",
    "FaceSource",
    "FailedPreconditionError",
    "FileError",
    "FoundFace",
    "Generated",
    "HealthStatus",
    "Image",
    "ImageSource",
    "Interpolated",
    "Interpolation",
    "InvalidRequestError",
    "Latent",
    "Model",
    "NotFoundError",
    "PermissionDeniedError",
    "Point",
    "Reconstructed",
    "ResourceExhaustedError",
    "Retry",
    "ServerError",
    "SquareCrop",
    "Tls",
    "TokenError",
    "TransferView",
    "Transferred",
    "TransferredImage",
    "TransferredPhoto",
    "Traversal",
    "UnauthenticatedError",
    "UnavailableError",
]

_MODULES = ("client", "async_client", "channel", "credentials", "errors", "types")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module_name in _MODULES:
            module = import_module(f"facegen.client.{module_name}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
