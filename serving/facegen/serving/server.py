"""The server: wiring, health, reflection, start and drain."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from facegen.serving.rpc.calls import Calls
from facegen.serving.config import ServerConfig
from facegen.serving.onnx.cpus import available_cpu_count
from facegen.serving.engine import Engine
from facegen.serving.engines import open_engine
from facegen.serving.errors import ServerError
from facegen.serving.faces.face_service import FaceService
from facegen.serving.imaging import ImagingPool, PictureLimits
from facegen.serving.faces.model_service import ModelService
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.faces.service_state import ServiceState
from facegen.v1 import face_service_pb2, model_service_pb2
from facegen.v1.face_service_pb2_grpc import add_FaceServiceServicer_to_server
from facegen.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server

__all__ = ["Server", "run_server"]

_LOGGER = logging.getLogger(__name__)

_SERVICES = (
    face_service_pb2.DESCRIPTOR.services_by_name["FaceService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
)
# A method returns before its answer is sent.
_LAST_ANSWER_S = 0.5
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Server:
    """A gRPC server over one engine.

    Args:
        config: Its configuration.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._health = health.aio.HealthServicer()
        self._calls = Calls()
        imaging = ImagingPool(
            config.threads or available_cpu_count(),
            PictureLimits(max_pixels=config.max_picture_pixels),
        )
        self._state = ServiceState(self._calls, imaging, max_images=config.max_images)
        self._engine: Engine | None = None
        self._server = grpc.aio.server(
            options=_channel_options(config), maximum_concurrent_rpcs=config.max_concurrent_calls
        )
        self.address = config.address

    async def listen(self) -> None:
        """Take the port and report NOT_SERVING; from now on `address` tells the real port.

        Raises:
            ServerError: The address is taken or wrong.
        """
        self.address = self._bind()
        for service in ("", *_SERVICES):
            await self._health.set(service, _NOT_SERVING)
        await self._server.start()

    async def load(self) -> None:
        """Load and warm up the models, then report SERVING.

        Raises:
            ServerError: There is nothing to serve.
            RepositoryError: The model repository cannot be served.
            DeviceError: The device is not there.
        """
        self._engine = await open_engine(self._config)
        pipelines = await Pipelines.over(self._engine)
        self._state.default_family = _default_family(pipelines, self._config)
        self._state.pipelines = pipelines
        for service in ("", *_SERVICES):
            await self._health.set(service, _SERVING)
        count = len({family.name for family in pipelines.families})
        families = "1 family" if count == 1 else f"{count} families"
        _LOGGER.info("serving %s on %s", families, self.address)

    async def drain(self) -> None:
        """Report NOT_SERVING, wait for balancers to see it, then answer what has begun."""
        await self._health.enter_graceful_shutdown()
        _LOGGER.info("draining delay_s=%g", self._config.drain_delay_s)
        await asyncio.sleep(self._config.drain_delay_s)
        # Health watches never end by themselves: only calls of ours are waited for.
        stopping = asyncio.create_task(self._server.stop(self._config.drain_timeout_s))
        idle = asyncio.create_task(self._calls.idle())
        await asyncio.wait((stopping, idle), return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        await self._server.stop(_LAST_ANSWER_S)
        await stopping

    async def stop(self) -> None:
        """End at once: what is under way is cancelled. May be called twice."""
        await self._server.stop(None)
        self._state.pipelines = None
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.close()
        self._state.imaging.close()

    def _bind(self) -> str:
        """Add the services and the port; returns the address with its real port."""
        add_FaceServiceServicer_to_server(FaceService(self._state), self._server)
        add_ModelServiceServicer_to_server(ModelService(self._state), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        try:
            port = self._server.add_insecure_port(self._config.address)
        except RuntimeError as error:
            raise ServerError(
                f'cannot listen on "{self._config.address}"',
                "the port may be in use or the host wrong: choose another with --address HOST:PORT",
            ) from error
        return f"{self._config.address.rpartition(':')[0]}:{port}"


def _channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        # A second server on a taken port must fail, not share it by chance.
        ("grpc.so_reuseport", 0),
        # Find dead peers within 80 s; let clients ping as often as every 10 s.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]


def _default_family(pipelines: Pipelines, config: ServerConfig) -> str:
    # A VAE before an autoencoder: it is the one that is made for drawing faces.
    families = sorted(pipelines.families, key=lambda family: (family.kind != "vae", family.name))
    names = [family.name for family in families]
    if not names:
        raise ServerError(
            f'"{config.engine}" holds no complete family',
            "export one with `facegen export RUN --to FOLDER`",
        )
    default = config.default_family or names[0]
    if default not in names:
        raise ServerError(
            f'the default family "{default}" is not served',
            f"choose one of {', '.join(sorted(set(names)))}",
        )
    return default


async def run_server(config: ServerConfig) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once.

    Returns:
        The exit status: 0, or 1 if the drain was cut short.

    Raises:
        FacegenError: As `Server.listen` and `Server.load`.
    """
    asked, insisted = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (insisted if asked.is_set() else asked).set())
    server = Server(config)
    try:
        await server.listen()
        if not await _done_before(asked, server.load()):
            return 0
        await asked.wait()
        return 0 if await _done_before(insisted, server.drain()) else 1
    finally:
        await server.stop()


async def _done_before(event: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Run work until it is done (True) or the event is set (False, and the work is cancelled)."""
    task = asyncio.create_task(work)
    waiter = asyncio.create_task(event.wait())
    await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return False
    await task
    return True
