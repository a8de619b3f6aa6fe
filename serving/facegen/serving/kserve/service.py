"""The gRPC service of the KServe v2 protocol with Triton's extensions."""

import logging
from collections.abc import Iterator
from concurrent import futures
from contextlib import suppress
from typing import Any

from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceServicer

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.config import ServerConfig
from facegen.serving.engine import Engine
from facegen.serving.errors import (
    InputError,
    ModelNotFoundError,
    NotReadyError,
    RegionError,
    UnsupportedError,
)
from facegen.serving.kserve.inference import Finish, Inference, read_version, takes_long
from facegen.serving.kserve.log_settings import change_log, log_message
from facegen.serving.kserve.metadata import model_metadata, server_metadata
from facegen.serving.kserve.repository import (
    check_repository,
    check_unload,
    index_message,
    read_load,
)
from facegen.serving.kserve.shared_memory import Regions
from facegen.serving.kserve.statistics import statistics_message
from facegen.serving.kserve.streaming import Slot, Streams
from facegen.serving.kserve.trace_settings import change_traces, trace_message
from facegen.serving.rpc.calls import Calls, answers, deferred, probe, streams
from facegen.serving.rpc.status import internal_status, status_of
from facegen.serving.security.gate import require_admin
from facegen.serving.telemetry.trace_settings import TraceSettings

__all__ = ["KserveService"]

_LOGGER = logging.getLogger(__name__)

# With this in its metadata a stream ends at the first error, with its status.
_STATUS_ERRORS = ("triton_grpc_error", "true")


class KserveService(GRPCInferenceServiceServicer):  # type: ignore[misc] # it has no types
    """Answers clients of KServe and Triton.

    Args:
        engine: Runs the models; None until they are loaded, then to be set.
        calls: What all calls of the server have in common.
        config: `shared_memory`.
        traces: Which calls are traced; None: none ever.
    """

    def __init__(
        self,
        engine: Engine | None,
        calls: Calls,
        config: ServerConfig,
        traces: TraceSettings | None = None,
    ) -> None:
        self.engine = engine
        self.calls = calls
        self._traces = traces or TraceSettings(available=False)
        self._regions = Regions(enabled=config.shared_memory)
        self._inference = Inference(self._open_engine, self._regions)
        self._streams = Streams()
        self._readers = futures.ThreadPoolExecutor(1, "read")

    def close_streams(self) -> None:
        """Take no more requests of open streams, which end once theirs are answered."""
        self._streams.close()

    @probe
    def ServerLive(self, request: Any, context: CallContext) -> Any:  # noqa: N802 - gRPC's name
        """Tell that the process lives, as long as it does."""
        return pb.ServerLiveResponse(live=True)

    @probe
    def ServerReady(self, request: Any, context: CallContext) -> Any:  # noqa: N802 - gRPC's name
        """Tell whether the server takes work: not before it is warm, not while it drains."""
        return pb.ServerReadyResponse(ready=self.calls.ready)

    @probe
    def ModelReady(self, request: Any, context: CallContext) -> Any:  # noqa: N802 - gRPC's name
        """Tell whether a model takes work."""
        version = read_version(request.version)
        ready = self.calls.ready and self._has_model(request.name, version)
        return pb.ModelReadyResponse(ready=ready)

    @answers
    def ServerMetadata(self, request: Any, context: CallContext) -> Any:  # noqa: N802 - gRPC's name
        """Describe the server."""
        return server_metadata(shared_memory=self._regions.enabled)

    @answers
    def ModelMetadata(self, request: Any, context: CallContext) -> Any:  # noqa: N802 - gRPC's name
        """Describe a model."""
        engine = self._open_engine()
        info = engine.model(request.name, read_version(request.version))
        versions = [each.version for each in engine.models() if each.name == info.name]
        return model_metadata(info, [info.version] if request.version else versions)

    @answers
    def ModelConfig(self, request: Any, context: CallContext) -> Any:  # noqa: N802 - gRPC's name
        """Give a model's complete configuration."""
        info = self._open_engine().model(request.name, read_version(request.version))
        return pb.ModelConfigResponse(config=info.config)

    @answers
    def ModelStatistics(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """Tell what a model did, or all models."""
        version = read_version(request.version)
        try:
            statistics = self._open_engine().statistics(request.name, version)
        except ModelNotFoundError as error:
            # Triton says INVALID_ARGUMENT here, if nowhere else.
            raise InputError("name", str(error)) from error
        return pb.ModelStatisticsResponse(
            model_stats=[statistics_message(each) for each in statistics]
        )

    @deferred
    def ModelInfer(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext, finish: Finish
    ) -> None:
        """Run a model."""
        if takes_long(request):
            self._readers.submit(self._begin, request, context, finish)
        else:
            self._inference.begin(request, context, finish)

    @streams
    def ModelStreamInfer(  # noqa: N802 - gRPC's name
        self, request_iterator: Iterator[Any], context: CallContext
    ) -> Iterator[Any]:
        """Run models, request after request of one stream."""
        for slot in self._streams.answer(request_iterator, context, self._inference.begin):
            if not isinstance(slot.answer, Exception):
                slot.answer.parameters["triton_final_response"].bool_param = True
                yield pb.ModelStreamInferResponse(infer_response=slot.answer)
            elif _STATUS_ERRORS in context.metadata:
                raise slot.answer
            else:
                yield _stream_error(slot, context)

    @answers
    def RepositoryIndex(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """List the models of the repository and how they are."""
        check_repository(request.repository_name)
        return index_message(self._open_engine().index(), ready=request.ready)

    @answers
    def RepositoryModelLoad(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """Load or reload a model."""
        check_repository(request.repository_name)
        config, files = read_load(request.parameters)
        self._open_engine().load(request.model_name, config=config, files=files or None)
        return pb.RepositoryModelLoadResponse()

    @answers
    def RepositoryModelUnload(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """Stop serving a model; what is not there is unloaded already, as by Triton."""
        check_repository(request.repository_name)
        check_unload(request.parameters)
        with suppress(ModelNotFoundError):
            self._open_engine().unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    @answers
    def SystemSharedMemoryStatus(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """List the shared memory that is registered."""
        response = pb.SystemSharedMemoryStatusResponse()
        for region in self._regions.list(request.name):
            status = response.regions[region.name]
            status.name, status.key = region.name, region.key
            status.offset, status.byte_size = region.offset, region.byte_size
        return response

    @answers
    def SystemSharedMemoryRegister(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """Register shared memory."""
        self._regions.register(
            request.name, request.key, offset=request.offset, byte_size=request.byte_size
        )
        return pb.SystemSharedMemoryRegisterResponse()

    @answers
    def SystemSharedMemoryUnregister(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """Forget shared memory, or all of it."""
        self._regions.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    @answers
    def CudaSharedMemoryStatus(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """List the CUDA memory that is registered, which is none."""
        if request.name:
            raise RegionError(request.name, "is not registered; CUDA memory never is")
        return pb.CudaSharedMemoryStatusResponse()

    @answers
    def CudaSharedMemoryRegister(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """Refuse to register CUDA memory."""
        raise UnsupportedError(
            "this server takes no tensors through CUDA memory",
            "send them in the messages, or through system shared memory",
        )

    @answers
    def CudaSharedMemoryUnregister(  # noqa: N802 - gRPC's name
        self, request: Any, context: CallContext
    ) -> Any:
        """Forget CUDA memory, of which there is none."""
        return pb.CudaSharedMemoryUnregisterResponse()

    @answers
    def TraceSetting(self, request: Any, context: CallContext) -> Any:  # noqa: N802 - gRPC's name
        """Tell which calls are traced, perhaps after a change."""
        if request.model_name and not self._has_model(request.model_name):
            raise InputError("model_name", f'is "{request.model_name}", which is not served')
        if not request.settings:
            return trace_message(self._traces.values)
        require_admin(context)
        return trace_message(
            change_traces(self._traces, request.settings, model=request.model_name)
        )

    @answers
    def LogSettings(self, request: Any, context: CallContext) -> Any:  # noqa: N802 - gRPC's name
        """Tell how the log is set, perhaps after a change."""
        if request.settings:
            require_admin(context)
            change_log(request.settings)
        return log_message()

    def _begin(self, request: Any, context: CallContext, finish: Finish) -> None:
        """Begin an inference in a thread of our own."""
        try:
            self._inference.begin(request, context, finish)
        except Exception as error:  # the outermost frame of the thread's task
            finish(error)

    def _open_engine(self) -> Engine:
        if self.engine is None:
            raise NotReadyError("the server")
        return self.engine

    def _has_model(self, name: str, version: str = "") -> bool:
        try:
            self._open_engine().model(name, version)
        except ModelNotFoundError:
            return False
        return True


def _stream_error(slot: Slot, context: CallContext) -> Any:
    """Tell of an error within a stream; what it hides from the client is in the log."""
    error = slot.answer
    if isinstance(error, FacegenError):
        status = status_of(error)
    else:
        status = internal_status(context.request_id)
        _LOGGER.error("request failed request=%s", context.request_id, exc_info=error)
    return pb.ModelStreamInferResponse(
        error_message=status.message, infer_response=pb.ModelInferResponse(id=slot.request_id)
    )
