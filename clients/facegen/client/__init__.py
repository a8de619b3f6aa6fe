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
    from facegen.client.meshes import (
        RAW_VERTICES,
        DecodedMeshes,
        DrawnMesh,
        GeneratedMeshes,
        InterpolatedMeshes,
        Mesh,
        MeshEndpoint,
        MeshSource,
        ReconstructedMesh,
        ReconstructedMeshes,
        Topology,
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
    "RAW_VERTICES",
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
    "DecodedMeshes",
    "Direction",
    "DrawnFace",
    "DrawnMesh",
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
    "GeneratedMeshes",
    "HealthStatus",
    "Image",
    "ImageSource",
    "Interpolated",
    "InterpolatedMeshes",
    "Interpolation",
    "InvalidRequestError",
    "Latent",
    "Mesh",
    "MeshEndpoint",
    "MeshSource",
    "Model",
    "NotFoundError",
    "PermissionDeniedError",
    "Point",
    "Reconstructed",
    "ReconstructedMesh",
    "ReconstructedMeshes",
    "ResourceExhaustedError",
    "Retry",
    "ServerError",
    "SquareCrop",
    "Tls",
    "TokenError",
    "Topology",
    "TransferView",
    "Transferred",
    "TransferredImage",
    "TransferredPhoto",
    "Traversal",
    "UnauthenticatedError",
    "UnavailableError",
]

_MODULES = ("client", "async_client", "channel", "credentials", "errors", "meshes", "types")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module_name in _MODULES:
            module = import_module(f"facegen.client.{module_name}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
