"""What a config.pbtxt says of a model, from Triton's `ModelConfig` to types of our own."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from facegen.serving.engine import ModelInfo, TensorSpec
from facegen.serving.errors import RepositoryError

__all__ = ["RepositoryModel", "WarmupSample", "describe_version", "read_config"]

_LOGGER = logging.getLogger(__name__)

_DTYPES: Mapping[int, np.dtype[Any]] = {
    model_config_pb2.TYPE_BOOL: np.dtype(np.bool_),
    model_config_pb2.TYPE_UINT8: np.dtype(np.uint8),
    model_config_pb2.TYPE_INT32: np.dtype(np.int32),
    model_config_pb2.TYPE_INT64: np.dtype(np.int64),
    model_config_pb2.TYPE_FP16: np.dtype(np.float16),
    model_config_pb2.TYPE_FP32: np.dtype(np.float32),
}


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """Rows to run before a model serves.

    Attributes:
        rows: How many.
        count: How often.
        random_inputs: The inputs filled with random values; the others are filled with zeros.
    """

    rows: int
    count: int
    random_inputs: frozenset[str]


@dataclass(frozen=True, slots=True)
class RepositoryModel:
    """One version of a model as it lies in the repository.

    Attributes:
        info: What the engine tells of it.
        graph: Its model.onnx.
        instance_count: Executions at a time; 0 where the engine may choose.
        max_queue_delay_s: Seconds to wait for rows that fill a batch.
        warmup: What to run before it serves.
    """

    info: ModelInfo
    graph: Path
    instance_count: int
    max_queue_delay_s: float
    warmup: tuple[WarmupSample, ...]

    def read_graph(self) -> bytes:
        """Read the graph and check it against `facegen.sha256.<version>`, where that is given.

        Raises:
            RepositoryError: It cannot be read, or is not the file that was exported.
        """
        try:
            graph = self.graph.read_bytes()
        except OSError as error:
            raise RepositoryError(
                self.graph, f"cannot be read: {error.strerror}", "export the model again"
            ) from error
        expected = self.info.parameters.get(f"facegen.sha256.{self.info.version}")
        if expected is None:
            _LOGGER.warning("graph not verified, config.pbtxt has no sha256 path=%s", self.graph)
            return graph
        actual = hashlib.sha256(graph).hexdigest()
        if actual != expected:
            raise RepositoryError(
                self.graph,
                f"its sha256 is {actual}, config.pbtxt says {expected}",
                "the file was changed or cut off: export the model again, or fetch it again",
            )
        return graph


def read_config(path: Path) -> Any:
    """Read a config.pbtxt as a `ModelConfig` that can be served here.

    Args:
        path: The file, in the model's folder.

    Raises:
        RepositoryError: It is missing, broken, or asks for what the ONNX engine cannot do.
    """
    config = _parse(path)
    _check(path, config, path.parent.name)
    return config


def _parse(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except FileNotFoundError as error:
        raise RepositoryError(
            path, "does not exist", "write one, or move the folder out of the repository"
        ) from error
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise RepositoryError(
            path, f"is no ModelConfig in protobuf's text format: {error}", "correct it"
        ) from error


def _check(path: Path, config: Any, name: str) -> None:
    if config.name not in ("", name):
        raise RepositoryError(
            path, f'its name is "{config.name}", its folder\'s "{name}"', "make them equal"
        )
    if config.backend != "onnxruntime" and config.platform != "onnxruntime_onnx":
        raise RepositoryError(
            path,
            f'its backend is "{config.backend or config.platform}"',
            'only "onnxruntime" runs here: serve it with Triton',
        )
    if config.max_batch_size < 1:
        raise RepositoryError(
            path,
            f"its max_batch_size is {config.max_batch_size}",
            "give every input and output a batch axis and set it to 1 or more",
        )
    if config.default_model_filename not in ("", "model.onnx"):
        raise RepositoryError(
            path,
            f'its default_model_filename is "{config.default_model_filename}"',
            'name the graph "model.onnx"',
        )
    if not config.input or not config.output:
        raise RepositoryError(path, "it has no input or no output", "declare them all")


def describe_version(path: Path, config: Any, version: int) -> RepositoryModel:
    """Describe one version of a model.

    Args:
        path: The config.pbtxt.
        config: What `read_config` read from it.
        version: The version's number.

    Raises:
        RepositoryError: Its graph is missing or a declaration is wrong.
    """
    graph = path.parent / str(version) / "model.onnx"
    if not graph.is_file():
        raise RepositoryError(
            graph, "does not exist", "export the model again or remove the version"
        )
    return RepositoryModel(
        info=ModelInfo(
            name=path.parent.name,
            version=str(version),
            inputs=tuple(_tensor(path, tensor) for tensor in config.input),
            outputs=tuple(_tensor(path, tensor) for tensor in config.output),
            max_batch_size=config.max_batch_size,
            parameters={key: value.string_value for key, value in config.parameters.items()},
        ),
        graph=graph,
        instance_count=sum(group.count or 1 for group in config.instance_group),
        max_queue_delay_s=config.dynamic_batching.max_queue_delay_microseconds / 1e6,
        warmup=tuple(_warmup(path, config, sample) for sample in config.model_warmup),
    )


def _tensor(path: Path, tensor: Any) -> TensorSpec:
    dtype = _DTYPES.get(tensor.data_type)
    if dtype is None:
        known = ", ".join(model_config_pb2.DataType.Name(number) for number in _DTYPES)
        raise RepositoryError(
            path,
            f'the data_type of "{tensor.name}" is '
            f"{model_config_pb2.DataType.Name(tensor.data_type)}",
            f"use one of {known}",
        )
    shape = tuple(int(size) for size in tensor.dims)
    if any(size != -1 and size < 1 for size in shape):
        raise RepositoryError(
            path, f'the dims of "{tensor.name}" are {shape}', "use -1 or 1 and more"
        )
    return TensorSpec(name=tensor.name, dtype=dtype, shape=shape)


def _warmup(path: Path, config: Any, sample: Any) -> WarmupSample:
    declared = {tensor.name for tensor in config.input}
    if set(sample.inputs) != declared:
        raise RepositoryError(
            path,
            f'model_warmup "{sample.name}" gives {sorted(sample.inputs)}, '
            f"inputs are {sorted(declared)}",
            "give every input",
        )
    if any(
        data.WhichOneof("input_data_type") == "input_data_file" for data in sample.inputs.values()
    ):
        raise RepositoryError(
            path,
            f'model_warmup "{sample.name}" reads a file',
            "use zero_data or random_data",
        )
    return WarmupSample(
        rows=min(max(1, sample.batch_size), config.max_batch_size),
        count=max(1, sample.count),
        random_inputs=frozenset(name for name, data in sample.inputs.items() if data.random_data),
    )
