"""The server: what it is made of, and how it starts, drains and ends."""

import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server

from facegen.serving.call_context import CallContext
from facegen.serving.config import ServerConfig
from facegen.serving.engine import Engine
from facegen.serving.engines import open_engine
from facegen.serving.errors import EngineClosedError, ServerError
from facegen.serving.faces.face_service import FaceService
from facegen.serving.faces.model_service import ModelService
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.faces.service_state import ServiceState
from facegen.serving.imaging import ImagingPool, PictureLimits
from facegen.serving.kserve.service import KserveService
from facegen.serving.meshes.mesh_service import MeshService
from facegen.serving.meshes.pipelines import MeshPipelines
from facegen.serving.onnx.cpus import available_cpu_count
from facegen.serving.rpc.call_server import CallServer
from facegen.serving.rpc.calls import Calls, streams
from facegen.serving.rpc.health import Health
from facegen.serving.rpc.parsing import parsing
from facegen.serving.security.gate import Gate
from facegen.serving.security.tls import server_credentials
from facegen.serving.telemetry.telemetry import Telemetry
from facegen.v1 import face_service_pb2, mesh_service_pb2, model_service_pb2
from facegen.v1.face_service_pb2_grpc import add_FaceServiceServicer_to_server
from facegen.v1.mesh_service_pb2_grpc import add_MeshServiceServicer_to_server
from facegen.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server

__all__ = ["Server"]

_LOGGER = logging.getLogger(__name__)

_SERVICES = tuple(
    service.full_name
    for file in (face_service_pb2, mesh_service_pb2, model_service_pb2, service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# To refuse streams in, when all others are taken.
_SPARE_THREADS = 8
# Of a response, what its pictures leave to all else in it.
_RESPONSE_MARGIN_BYTES = 1024


class Server:
    """A gRPC server over one engine.

    Args:
        config: Its configuration.

    Raises:
        ServerError: Tokens or certificates cannot be used.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._credentials = server_credentials(config)
        self._telemetry = Telemetry(config)
        self._calls = Calls(
            Gate(config), self._telemetry.observer, max_calls=config.max_concurrent_calls
        )
        self._calls.starting, self._calls.ready = True, False
        self._health = Health(self._calls, max_watches=config.max_concurrent_calls)
        self._faces = ServiceState(
            self._calls,
            _imaging(config),
            max_images=config.max_images,
            default_family=config.default_family,
            max_response_bytes=config.max_message_bytes - _RESPONSE_MARGIN_BYTES,
        )
        self._kserve = KserveService(None, self._calls, config, self._telemetry.traces)
        self._engine: Engine | None = None
        self._reporting = threading.Lock()
        self._pool = futures.ThreadPoolExecutor(
            config.max_concurrent_calls + _SPARE_THREADS, "call"
        )
        self._server = CallServer(self._pool, _channel_options(config))
        self.address = config.address

    def listen(self) -> None:
        """Take the port and report not serving; from now on `address` tells the real port.

        Raises:
            ServerError: An address is taken or wrong.
        """
        self._add_services()
        self.address = self._bind()
        self._telemetry.start()
        self._health.update(dict.fromkeys(("", *_SERVICES), False))
        self._server.start()

    def load(self) -> None:
        """Load and warm up the models, then report serving. Blocks.

        Raises:
            ServerError: There is nothing to serve as configured.
            RepositoryError: The model repository cannot be served.
            DeviceError: The device is not there.
        """
        self._engine = engine = open_engine(self._config)
        pipelines, meshes = Pipelines(engine), MeshPipelines(engine)
        names = sorted({family.name for family in (*pipelines.families, *meshes.families)})
        self._check_default_family(names)
        self._faces.pipelines, self._faces.meshes = pipelines, meshes
        self._kserve.engine = engine
        self._telemetry.watch(engine)
        self._calls.starting, self._calls.ready = False, True
        engine.on_change(self._report_models)
        self._report_models()
        self._health.update(dict.fromkeys(("", *_SERVICES), True))
        model_count = len({model.name for model in engine.models()})
        _LOGGER.info(
            "serving %s (%s) on %s",
            _counted(model_count, "model", "models"),
            _counted(len(names), "family", "families"),
            self.address,
        )

    @property
    def serving(self) -> bool:
        """Whether it reports serving: from the end of `load` until `retire`."""
        return self._calls.ready

    def retire(self) -> None:
        """Report not serving, while all calls are still taken."""
        self._calls.ready = False
        self._health.drain()
        _LOGGER.info("draining delay_s=%g", self._config.drain_delay_s)

    def finish(self) -> bool:
        """Take no more calls, answer those that have begun, within the time there is. Blocks.

        Returns:
            Whether all were answered.
        """
        self._kserve.close_streams()
        finished = self._server.stop(self._config.drain_timeout_s)
        self._health.close()
        # gRPC cancels what is left at the time-out, and is done a moment after.
        return finished.wait(self._config.drain_timeout_s)

    def close(self) -> None:
        """End at once: what is under way is cancelled. Again is no harm. Blocks."""
        self._health.close()
        self._server.close()
        self._pool.shutdown(wait=False)
        if self._engine is not None:
            self._engine.close()
        self._telemetry.close()
        self._faces.imaging.close()

    def _add_services(self) -> None:
        threads = futures.ThreadPoolExecutor(self._config.max_concurrent_calls, "stream")
        server = parsing(self._server, threads)
        add_FaceServiceServicer_to_server(FaceService(self._faces), server)
        add_MeshServiceServicer_to_server(MeshService(self._faces), server)
        add_ModelServiceServicer_to_server(ModelService(self._faces), server)
        add_GRPCInferenceServiceServicer_to_server(self._kserve, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*_SERVICES, _HEALTH, reflection.SERVICE_NAME)
        add_reflection: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server  # no types
        add_reflection(_Reflection(self._calls, names), server)

    def _bind(self) -> str:
        """Take the port; returns the address with its real port."""
        address = self._config.address
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise ServerError(
                f'cannot listen on "{address}"',
                "the port may be in use or the host wrong: choose another with --address HOST:PORT",
            ) from error
        return f"{address.rpartition(':')[0]}:{port}"

    def _check_default_family(self, names: list[str]) -> None:
        wanted = self._config.default_family
        # What is loaded later may bring it.
        if wanted and wanted not in names and self._config.model_control == "none":
            raise ServerError(
                f'the default family "{wanted}" is not served',
                f"choose one of {', '.join(names) or 'none: there is no family'}",
            )

    def _report_models(self) -> None:
        """Tell by their names which models serve, now and when that has changed."""
        assert self._engine is not None
        with self._reporting:
            serving: dict[str, bool] = {}
            try:
                for line in self._engine.index():
                    serving[line.name] = serving.get(line.name, False) or line.state == "READY"
            except EngineClosedError as error:
                _LOGGER.warning("health of models not updated error=%s", error)
            self._health.update(serving)


class _Reflection(reflection.ReflectionServicer):
    """gRPC's reflection, behind our gate."""

    def __init__(self, calls: Calls, service_names: Iterable[str]) -> None:
        super().__init__(service_names)
        self.calls = calls

    @streams
    def ServerReflectionInfo(  # noqa: N802 - gRPC's name
        self, requests: Iterator[Any], context: CallContext
    ) -> Iterator[Any]:
        """Describe services."""
        unused: Any = context
        yield from super().ServerReflectionInfo(requests, unused)


def _imaging(config: ServerConfig) -> ImagingPool:
    limits = PictureLimits(
        max_pixels=config.max_picture_pixels, max_request_pixels=config.max_request_pixels
    )
    return ImagingPool(config.threads or available_cpu_count(), limits)


def _channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_concurrent_streams", config.max_connection_streams),
        # A second server on a taken port must fail, not share it by chance.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", _milliseconds(config.keepalive_s)),
        ("grpc.keepalive_timeout_ms", _milliseconds(config.keepalive_timeout_s)),
        # Without it the pings of keepalive wait a minute, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", _milliseconds(config.keepalive_timeout_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Clients may ping as often as this.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
    if config.max_connection_age_s:
        options += [
            ("grpc.max_connection_age_ms", _milliseconds(config.max_connection_age_s)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(config.max_connection_grace_s)),
        ]
    return options


def _milliseconds(seconds: float) -> int:
    """Convert to what gRPC takes: a positive int32."""
    return min(max(1, round(seconds * 1000)), 2**31 - 1)


def _counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
