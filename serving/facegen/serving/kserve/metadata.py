"""What the server, and each model, tell of themselves."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from tritonclient.grpc import service_pb2

from facegen.serving.engine import ModelInfo, TensorSpec
from facegen.serving.kserve.tensors import DATATYPES

__all__ = ["model_metadata", "server_metadata"]

# Only what is there: not sequences, not CUDA shared memory, not the JSON of HTTP.
_EXTENSIONS = (
    "classification", "model_repository", "schedule_policy", "model_configuration", "parameters",
    "statistics", "trace", "logging",
)  # fmt: skip


def server_metadata(*, shared_memory: bool) -> Any:
    """Tell the server's name, version and extensions."""
    extensions = _EXTENSIONS + (("system_shared_memory",) if shared_memory else ())
    return service_pb2.ServerMetadataResponse(
        name="facegen", version=_own_version(), extensions=extensions
    )


def model_metadata(info: ModelInfo, versions: Iterable[str]) -> Any:
    """Tell a model's inputs and outputs, and which versions of it are ready."""
    batched = info.max_batch_size > 0
    return service_pb2.ModelMetadataResponse(
        name=info.name,
        versions=versions,
        platform=_platform(info.config),
        inputs=_tensors(info.inputs, batched=batched),
        outputs=_tensors(info.outputs, batched=batched),
    )


def _tensors(specs: Sequence[TensorSpec], *, batched: bool) -> list[Any]:
    batch = (-1,) if batched else ()
    return [
        service_pb2.ModelMetadataResponse.TensorMetadata(
            name=spec.name, datatype=DATATYPES[spec.dtype], shape=(*batch, *spec.shape)
        )
        for spec in specs
    ]


def _platform(config: Any) -> str:
    """Name what runs a model, as Triton does: by its platform, else by its backend."""
    if config.backend == "onnxruntime":
        return "onnxruntime_onnx"
    return str(config.platform or config.backend)


@cache
def _own_version() -> str:
    return version("facegen")
