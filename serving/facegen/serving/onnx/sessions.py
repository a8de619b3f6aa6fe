"""ONNX Runtime sessions: made strictly, and run with numpy arrays of every type that it has."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnxruntime

from facegen.serving.engine import Array
from facegen.serving.errors import DeviceError, RepositoryError
from facegen.serving.onnx.description import ModelDescription, TensorPlan

__all__ = ["Device", "Session", "check_device", "open_runtime"]

Device = Literal["cpu", "cuda"]

_PROVIDERS: dict[Device, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    # The default, EXHAUSTIVE, searches again for every new batch size: seconds each.
    "cuda": ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}),
}
_OPTIMIZATION_LEVELS = {
    -1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_ONNX_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16


def check_device(device: Device) -> None:
    """Refuse a device that the installed ONNX Runtime has no provider for.

    Raises:
        DeviceError: It has none.
    """
    provider, _ = _PROVIDERS[device]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise DeviceError(
            device,
            f"the installed ONNX Runtime has {', '.join(available)} and no {provider}",
            "pip uninstall onnxruntime, then pip install 'facegen[serve-gpu]'; or use --device cpu",
        )
    if device == "cuda":
        onnxruntime.preload_dlls()  # CUDA and cuDNN from the wheels that serve-gpu brings


def open_runtime(
    path: Path, graph: bytes, config: Any, device: Device, *, memory_patterns: bool = False
) -> onnxruntime.InferenceSession:
    """Load a graph on a device.

    One intra-op thread a call, unless the configuration says otherwise: several calls at a time use
    several CPUs better than one call with several threads does, and the results of a row depend on
    no thread count.

    Args:
        path: Its file; tensors kept outside the graph are read beside it.
        graph: What the file holds.
        config: The `ModelConfig`, for the parameters of Triton's ONNX Runtime backend.
        device: Where to run.
        memory_patterns: Whether an execution's memory is planned by its shapes and kept for each,
            where the configuration does not say.

    Raises:
        DeviceError: ONNX Runtime fell back to another device.
        RepositoryError: It is no graph, or one that does not run here.
    """
    options = _options(path, config, memory_patterns)
    provider, provider_options = _PROVIDERS[device]
    try:
        runtime = onnxruntime.InferenceSession(
            graph, options, providers=[(provider, provider_options)]
        )
    except Exception as error:  # ONNX Runtime's errors share no other root
        raise RepositoryError(
            path, f"ONNX Runtime cannot load it: {error}", "export the model again"
        ) from error
    if provider not in runtime.get_providers():
        raise DeviceError(
            device,
            f"ONNX Runtime could not start {provider} and fell back to "
            f"{', '.join(runtime.get_providers())}",
            "check the driver and the CUDA and cuDNN libraries, or use --device cpu",
        )
    runtime.disable_fallback()
    return runtime


def _options(path: Path, config: Any, memory_patterns: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _parameter(path, config, "intra_op_thread_count") or 1
    options.inter_op_num_threads = _parameter(path, config, "inter_op_thread_count") or 1
    if _parameter(path, config, "execution_mode"):
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    # Patterns are kept for every shape that ever came.
    patterns = _parameter(path, config, "enable_mem_pattern")
    options.enable_mem_pattern = memory_patterns if patterns is None else patterns == 1
    options.enable_cpu_mem_arena = _parameter(path, config, "enable_mem_arena") != 0
    level = _OPTIMIZATION_LEVELS.get(config.optimization.graph.level)
    if level is not None:
        options.graph_optimization_level = level
    options.log_severity_level = 4  # errors are raised; its own lines would break into the log
    # Without a folder ONNX Runtime looks for them where the process was started.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.parent)
    )
    return options


def _parameter(path: Path, config: Any, key: str) -> int | None:
    """A whole number from the parameters of Triton's ONNX Runtime backend; None: not given."""
    text = config.parameters[key].string_value if key in config.parameters else ""
    if text and not (text.isascii() and text.isdigit()):
        raise RepositoryError(path, f'its parameter {key} is "{text}"', "give a whole number")
    return int(text) if text else None


class Session:
    """A graph ready to run; safe to call from several threads at once.

    Strings are bytes outside and text inside: ONNX's are UTF-8.

    Args:
        model: What it takes and gives.
        runtime: ONNX Runtime's session.
    """

    def __init__(self, model: ModelDescription, runtime: onnxruntime.InferenceSession) -> None:
        self._runtime: onnxruntime.InferenceSession | None = runtime
        self._batches = model.info.max_batch_size > 0
        self._outputs = [plan.spec.name for plan in model.outputs]
        tensors = (*model.inputs, *model.outputs)
        self._has_bfloat16 = any(plan.spec.dtype == _BFLOAT16 for plan in tensors)
        self._reshaped_inputs = [plan for plan in model.inputs if plan.graph_shape is not None]
        self._reshaped_outputs = [plan for plan in model.outputs if plan.graph_shape is not None]
        self._text_outputs = [p.spec.name for p in model.outputs if p.spec.dtype == object]

    def run(self, inputs: dict[str, Array], outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        """Run the graph on one batch.

        Args:
            inputs: By name, as callers give them, but text for BYTES.
            outputs: Those wanted; empty means all.

        Raises:
            Exception: Whatever ONNX Runtime raises; its errors share no other root.
        """
        runtime = self._runtime
        assert runtime is not None, "a closed session is not run"
        names: Sequence[str] = outputs or self._outputs
        if self._reshaped_inputs:
            inputs = dict(inputs)
            for plan in self._reshaped_inputs:
                if plan.spec.name in inputs:
                    inputs[plan.spec.name] = self._to_graph(plan, inputs[plan.spec.name])
        if self._has_bfloat16:
            values = _run_values(runtime, inputs, names)
        else:
            values = runtime.run(names, inputs)
        answer: dict[str, Array] = dict(zip(names, values, strict=True))
        if self._reshaped_outputs or self._text_outputs:
            self._finish(answer)
        return answer

    def close(self) -> None:
        """Free the graph, whoever still holds this object."""
        self._runtime = None

    def _finish(self, answer: dict[str, Array]) -> None:
        for plan in self._reshaped_outputs:
            if plan.spec.name in answer:
                answer[plan.spec.name] = self._to_caller(plan, answer[plan.spec.name])
        for name in self._text_outputs:
            if name in answer:
                answer[name] = _encoded(answer[name])

    def _to_graph(self, plan: TensorPlan, array: Array) -> Array:
        assert plan.graph_shape is not None
        outside = (-1, *plan.spec.shape) if self._batches else plan.spec.shape
        return array.reshape(_mapped(array.shape, outside, plan.graph_shape))

    def _to_caller(self, plan: TensorPlan, array: Array) -> Array:
        assert plan.graph_shape is not None
        outside = (-1, *plan.spec.shape) if self._batches else plan.spec.shape
        return array.reshape(_mapped(array.shape, plan.graph_shape, outside))


def _mapped(
    shape: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[int, ...]:
    """Put the sizes that the free axes of `before` have in `shape` into those of `after`."""
    free = iter(size for size, wanted in zip(shape, before, strict=True) if wanted == -1)
    return tuple(next(free) if size == -1 else size for size in after)


def _encoded(texts: Array) -> Array:
    encoded = np.empty(texts.size, object)
    encoded[:] = [text.encode() for text in texts.flat]
    return encoded.reshape(texts.shape)


def _run_values(
    runtime: onnxruntime.InferenceSession, inputs: dict[str, Array], names: Sequence[str]
) -> list[Array]:
    """Run with ONNX Runtime's own values, as bfloat16, which numpy does not have, needs."""
    values = {name: _to_value(array) for name, array in inputs.items()}
    return [_from_value(value) for value in runtime.run_with_ort_values(names, values)]


def _to_value(array: Array) -> onnxruntime.OrtValue:
    if array.dtype != _BFLOAT16:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
    bits = np.ascontiguousarray(array).view(np.uint16)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _ONNX_BFLOAT16)


def _from_value(value: onnxruntime.OrtValue) -> Array:
    if value.element_type() != _ONNX_BFLOAT16:
        array: Array = value.numpy()
        return array
    shape = tuple(value.shape())
    bits = ctypes.string_at(value.data_ptr(), 2 * int(np.prod(shape)))
    return np.frombuffer(bits, _BFLOAT16).reshape(shape)
