"""Runs the protocol's inference requests on the engine."""

import math
import re
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, Engine, InferRequest, ModelInfo
from facegen.serving.errors import EngineClosedError, InputError, ModelNotFoundError
from facegen.serving.kserve.codec import ModelCodec, Output
from facegen.serving.kserve.parameters import read_request_parameters
from facegen.serving.kserve.shared_memory import Regions

__all__ = ["Finish", "Inference", "read_version", "takes_long"]

# Takes a ModelInferResponse, or an error; called exactly once, from any thread.
Finish = Callable[[Any], None]

# Values that Python reads or writes one by one, or that are copied, in about a millisecond.
_MANY_VALUES = 10_000
_MANY_COPIES = 1_000_000
# More axes than any array has; the product of a million sizes would take Python minutes.
_MANY_AXES = 64

_VERSION = re.compile(r"[0-9]{1,18}", re.ASCII)


def read_version(version: str, field: str = "version") -> str:
    """Read a version as a request names it in a field; empty is the newest.

    Raises:
        InputError: It is no number.
    """
    if not version:
        return ""
    if not _VERSION.fullmatch(version):
        raise InputError(field, f'is "{version}"; give a number above 0, or nothing')
    return str(int(version))


def takes_long(request: Any) -> bool:
    """Whether a `ModelInferRequest` has inputs that take so long to read that others would wait."""
    raw = bool(request.raw_input_contents)
    for tensor in request.inputs:
        slow = not raw or tensor.datatype == "BYTES"
        if slow or tensor.parameters:  # perhaps in shared memory
            many = _MANY_VALUES if slow else _MANY_COPIES
            if len(tensor.shape) > _MANY_AXES or math.prod(tensor.shape) > many:
                return True
    return False


class Inference:
    """Runs requests; safe to use from several threads.

    Args:
        engine: Gives the engine; raises as long as there is none.
        regions: Where tensors may be, other than in messages.
    """

    def __init__(self, engine: Callable[[], Engine], regions: Regions) -> None:
        self._engine = engine
        self._regions = regions
        self._codecs: dict[tuple[str, str], ModelCodec] = {}  # by name and version
        self._writers = futures.ThreadPoolExecutor(1, "write")

    def begin(self, request: Any, context: CallContext, finish: Finish) -> None:
        """Run a `ModelInferRequest`; what is wrong with it is raised or given to `finish`.

        Args:
            request: The request.
            context: Its call; the request's own timeout and priority are put into it.
            finish: Takes what comes of it.

        Raises:
            FacegenError: It cannot begin; `finish` is not called.
        """
        version = read_version(request.model_version, "model_version")
        if request.parameters:
            read_request_parameters(request.parameters, context)
        self._begin(request, version, context, finish, retried=False)

    def _begin(
        self, request: Any, version: str, context: CallContext, finish: Finish, *, retried: bool
    ) -> None:
        engine = self._engine()
        codec = self._codec(engine.model(request.model_name, version))
        info = codec.info
        inputs = codec.read_inputs(request)
        outputs = codec.read_outputs(request)

        def write(arrays: dict[str, Array]) -> None:
            try:
                finish(codec.write(request.id, outputs, arrays))
            except Exception as error:  # the outermost frame of its thread
                finish(error)

        def done(answer: dict[str, Array] | FacegenError) -> None:
            try:
                if not isinstance(answer, FacegenError):
                    if _writing_takes_long(outputs, answer):
                        self._writers.submit(write, answer)
                    else:
                        write(answer)
                elif not version and not retried and _has_gone(engine, info, answer):
                    self._begin(request, version, context, finish, retried=True)
                else:
                    finish(answer)
            except Exception as error:  # in the engine's thread, the outermost frame
                finish(error)

        engine.submit(
            # The version by name, so that the answer tells the one that ran.
            InferRequest(info.name, inputs, info.version, codec.names(outputs), context),
            done,
        )

    def _codec(self, info: ModelInfo) -> ModelCodec:
        key = info.name, info.version
        codec = self._codecs.get(key)
        if codec is None or codec.info is not info:
            codec = self._codecs[key] = ModelCodec(info, self._regions)
        return codec


def _writing_takes_long(outputs: tuple[Output, ...], arrays: Mapping[str, Array]) -> bool:
    """Whether so many strings are to be made that the engine's thread had better run batches."""
    return any(
        (output.class_count or output.spec.dtype.hasobject)
        and arrays[output.spec.name].size > _MANY_VALUES
        for output in outputs
    )


def _has_gone(engine: Engine, info: ModelInfo, error: FacegenError) -> bool:
    """Whether the version that was newest has been replaced before the request could run."""
    if not isinstance(error, ModelNotFoundError | EngineClosedError):
        return False
    return engine.model(info.name) is not info
