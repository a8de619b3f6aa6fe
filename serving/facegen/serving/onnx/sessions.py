"""ONNX Runtime sessions: made strictly, checked against config.pbtxt, warmed up."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnxruntime

from facegen.serving.engine import Array, TensorSpec
from facegen.serving.errors import DeviceError, RepositoryError
from facegen.serving.onnx.model_config import RepositoryModel

__all__ = ["Device", "Session", "check_device", "open_session"]

Device = Literal["cpu", "cuda"]

_PROVIDERS: Mapping[Device, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    # The default, EXHAUSTIVE, searches again for every new batch size: seconds each.
    "cuda": ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}),
}
_ONNX_TYPES: Mapping[str, np.dtype[Any]] = {
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(float)": np.dtype(np.float32),
}


class Session:
    """A graph ready to run; safe to call from several threads at once.

    Args:
        model: Where it comes from.
        session: ONNX Runtime's.
    """

    def __init__(self, model: RepositoryModel, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._outputs = [output.name for output in model.info.outputs]

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run the graph on one batch.

        Raises:
            Exception: Whatever ONNX Runtime raises; its errors share no other root.
        """
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))


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


def open_session(model: RepositoryModel, device: Device) -> Session:
    """Make a session on a device, check it, and run the model's warm-up.

    One intra-op thread a call: several calls at a time use several CPUs better than one call with
    several threads does, and the results of a row depend on no thread count.

    Raises:
        DeviceError: ONNX Runtime fell back to another device.
        RepositoryError: The graph is not what config.pbtxt says, or fails its warm-up.
    """
    graph = model.read_graph()
    provider, provider_options = _PROVIDERS[device]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        runtime = onnxruntime.InferenceSession(
            graph, options, providers=[(provider, provider_options)]
        )
    except Exception as error:  # ONNX Runtime's errors share no other root
        raise RepositoryError(
            model.graph, f"ONNX Runtime cannot load it: {error}", "export the model again"
        ) from error
    if provider not in runtime.get_providers():
        raise DeviceError(
            device,
            f"ONNX Runtime could not start {provider} and fell back to "
            f"{', '.join(runtime.get_providers())}",
            "check the driver and the CUDA and cuDNN libraries, or use --device cpu",
        )
    runtime.disable_fallback()
    _check_tensors(model, "input", runtime.get_inputs(), model.info.inputs)
    _check_tensors(model, "output", runtime.get_outputs(), model.info.outputs)
    session = Session(model, runtime)
    _warm_up(model, session)
    return session


def _check_tensors(
    model: RepositoryModel, role: str, actual: list[Any], declared: tuple[TensorSpec, ...]
) -> None:
    """Compare names, types and shapes; every input must be declared, outputs may be left out."""
    by_name = {tensor.name: tensor for tensor in actual}
    wanted = {tensor.name for tensor in declared}
    if not wanted <= by_name.keys() or (role == "input" and wanted != by_name.keys()):
        raise RepositoryError(
            model.graph,
            f"its {role}s are {sorted(by_name)}, config.pbtxt says {sorted(wanted)}",
            "export the model again",
        )
    for tensor in declared:
        found = by_name[tensor.name]
        shape = tuple(found.shape)
        if _ONNX_TYPES.get(found.type) != tensor.dtype or not _shape_fits(shape, tensor.shape):
            raise RepositoryError(
                model.graph,
                f'{role} "{tensor.name}" is {found.type} {shape}, config.pbtxt says '
                f"{tensor.dtype} {('batch', *tensor.shape)}",
                "export the model again",
            )


def _shape_fits(actual: tuple[int | str | None, ...], declared: tuple[int, ...]) -> bool:
    """Whether the batch axis is free and no other axis contradicts config.pbtxt."""
    if not actual:  # the graph declares no shape
        return True
    return (
        len(actual) == len(declared) + 1
        and not isinstance(actual[0], int)
        and all(
            not isinstance(size, int) or size == wanted
            for size, wanted in zip(actual[1:], declared, strict=True)
        )
    )


def _warm_up(model: RepositoryModel, session: Session) -> None:
    generator = np.random.default_rng(0)
    for sample in model.warmup:
        inputs = {}
        for tensor in model.info.inputs:
            shape = (sample.rows, *(max(1, size) for size in tensor.shape))
            random = tensor.name in sample.random_inputs
            values = generator.random(shape) if random else np.zeros(shape)
            inputs[tensor.name] = values.astype(tensor.dtype)
        try:
            for _ in range(sample.count):
                session.run(inputs)
        except Exception as error:  # ONNX Runtime's errors share no other root
            raise RepositoryError(
                model.graph, f"it fails its warm-up: {error}", "export the model again"
            ) from error
