"""The flavours of a model repository: run by Triton's ONNX Runtime backend or its Python backend.

facegen's server reads the first; the second is for a Triton that has no ONNX Runtime backend.
"""

from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal

from tritonclient.grpc import model_config_pb2

__all__ = ["TritonBackend", "backend_files", "set_backend"]

TritonBackend = Literal["onnxruntime", "python"]


def set_backend(config: Any, backend: TritonBackend) -> None:
    """Make a `ModelConfig` one for a backend."""
    config.backend = backend
    config.platform = config.default_model_filename = ""
    if backend == "python" and not config.instance_group:
        # The script computes on the CPU; on a machine with GPUs Triton would make one for each.
        config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)


def backend_files(backend: TritonBackend) -> Mapping[str, bytes]:
    """Give the files, by name, that a backend needs beside every version's model.onnx."""
    if backend == "onnxruntime":
        return {}
    return {"model.py": (resources.files(__package__) / "python_backend.py").read_bytes()}
