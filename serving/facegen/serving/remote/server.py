"""A remote server's side of the protocol that is not inference: what it serves, and its control."""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from facegen.serving.engine import ModelInfo, VersionState
from facegen.serving.errors import (
    DeadlineError,
    EngineClosedError,
    InferenceError,
    InputError,
    ModelNotFoundError,
    RepositoryError,
)
from facegen.serving.remote.messages import model_info, model_statistics, version_states
from facegen.serving.remote.status import Call, error_of_status
from facegen.serving.statistics import ModelStatistics

__all__ = ["RemoteServer"]

# What a server answers from memory.
_TIMEOUT_S = 10.0
_UNLOAD_TIMEOUT_S = 60.0
_PAUSE_S = 0.1
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Back within a second or two of the server's return; gRPC's own pauses grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A connection of its own, closed with it.
    ("grpc.use_local_subchannel_pool", 1),
)


class RemoteServer:
    """One connection to a server; its methods block, and raise our errors.

    Attributes:
        name: The server as messages name it.
        infer: The stub's ModelInfer.

    Args:
        address: Host and port.
    """

    def __init__(self, address: str) -> None:
        self.name = f"triton://{address}"
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._closed = threading.Event()
        self.infer = self._stub.ModelInfer

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._closed.set()
        self._channel.close()

    def index(self) -> Sequence[VersionState]:
        """List every version of every model that it has."""
        return version_states(self._ask("RepositoryIndex", service_pb2.RepositoryIndexRequest()))

    def models(self) -> dict[str, dict[str, ModelInfo]]:
        """Describe what is ready, by name and then version, both rising."""
        ready = [(each.name, each.version) for each in self.index() if each.state == "READY"]
        models: dict[str, dict[str, ModelInfo]] = {}
        for name, version in sorted(ready, key=lambda each: (each[0], int(each[1]))):
            # Unloaded since the index was read, it is no model any more.
            with contextlib.suppress(ModelNotFoundError):
                request = service_pb2.ModelConfigRequest(name=name, version=version)
                answer = self._ask("ModelConfig", request, model=name, version=version)
                models.setdefault(name, {})[version] = model_info(answer.config, version)
        return models

    def statistics(self, model: str, version: str) -> Sequence[ModelStatistics]:
        """Tell what models did; raises as `Engine.statistics`."""
        request = service_pb2.ModelStatisticsRequest(name=model, version=version)
        try:
            answer = self._ask("ModelStatistics", request, model=model, version=version)
        except InputError as error:  # Triton's code for a model that it does not serve
            raise ModelNotFoundError(model, version) from error
        return [model_statistics(each) for each in answer.model_stats]

    def load(self, model: str, config: str, files: Mapping[str, bytes]) -> None:
        """Load or reload a model; raises as `Engine.load`."""
        self._check_known(model)
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        if config:
            request.parameters["config"].string_param = config
        for path, content in files.items():
            request.parameters[f"file:{path}"].bytes_param = content
        try:
            self._ask("RepositoryModelLoad", request, model=model, timeout_s=None)
        except InferenceError as error:  # Triton's code for whatever is wrong with a model
            raise RepositoryError(Path(model), str(error), "see the server's log") from error

    def unload(self, model: str) -> None:
        """Unload a model and wait until it is gone; raises as `Engine.unload`."""
        self._check_known(model)
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        self._ask("RepositoryModelUnload", request, model=model)
        # Triton answers before the model is gone.
        end = time.monotonic() + _UNLOAD_TIMEOUT_S
        while self._is_there(model) and not self._closed.wait(_PAUSE_S):
            if time.monotonic() > end:
                raise DeadlineError(model, timeout_s=_UNLOAD_TIMEOUT_S)

    def _check_known(self, model: str) -> None:
        """Refuse what is not in the repository: Triton loads paths too, and unloads anything."""
        known = sorted({state.name for state in self.index()})
        if model not in known:
            raise ModelNotFoundError(model, available=known)

    def _is_there(self, model: str) -> bool:
        states = {state.state for state in self.index() if state.name == model}
        return bool(states & {"READY", "UNLOADING"})

    def _ask(
        self,
        method: str,
        request: Any,
        *,
        model: str = "",
        version: str = "",
        timeout_s: float | None = _TIMEOUT_S,
    ) -> Any:
        call = Call(self.name, model, version)
        try:
            return getattr(self._stub, method)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise error_of_status(error, call) from error
        except ValueError as error:  # what gRPC raises of a channel that is closed
            raise EngineClosedError from error
