"""Servers to call: the real one, and one that fails by a script."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2  # type: ignore[import-untyped]  # ships no py.typed
from grpc_status import rpc_status

from facegen.client import Client
from facegen.client.cli import main
from facegen.v1 import face_service_pb2, face_service_pb2_grpc, image_pb2

Serve = Callable[[str], AbstractContextManager[subprocess.Popen[bytes]]]
MAIN = "from facegen.client.cli import main; main()"


@pytest.fixture(scope="session")
def free_address() -> Callable[[], str]:
    """Find an address that nobody listens on."""

    def find() -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{free.getsockname()[1]}"

    return find


@contextmanager
def run_server(
    repository: Path, address: str, log_path: Path, *more_flags: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real `facegen serve`; it does not outlive the block."""
    flags = ["--engine", f"onnx:{repository}", "--address", address, "--threads", "1", *more_flags]
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", MAIN, "serve", *flags],
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="session")
def serve(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Run a real `facegen serve` at an address; it does not outlive the block."""

    def run(address: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return run_server(tiny_repository, address, tmp_path_factory.mktemp("server") / "log")

    return run


@pytest.fixture(scope="session")
def server_address(serve: Serve, free_address: Callable[[], str]) -> Iterator[str]:
    """The address of a real server that is ready."""
    address = free_address()
    with serve(address) as process:
        with Client(address, timeout_s=60) as client:
            client.wait_until_serving()
        yield address
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.fixture(scope="session")
def serve_expressions(
    free_address: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[str]]:
    """Run a real server of a family of expressions, and of one that has none, with some flags."""
    from tests.serving.family_graphs import write_expression_family, write_plain_family

    repository = tmp_path_factory.mktemp("expressions")
    write_expression_family(repository)
    write_plain_family(repository)

    @contextmanager
    def run(*flags: str) -> Iterator[str]:
        address = free_address()
        log_path = tmp_path_factory.mktemp("server") / "log"
        with run_server(repository, address, log_path, *flags):
            with Client(address, timeout_s=60) as client:
                client.wait_until_serving()
            yield address

    return run


@pytest.fixture(scope="session")
def expression_server(
    serve_expressions: Callable[..., AbstractContextManager[str]],
) -> Iterator[str]:
    """The address of such a server that is ready."""
    with serve_expressions() as address:
        yield address


@pytest.fixture(scope="session")
def movable_server(
    free_address: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server of a family that has directions, `hand-vae`, and one without."""
    from tests.serving.family_graphs import write_directions, write_plain_family

    repository = tmp_path_factory.mktemp("movable")
    write_plain_family(write_directions(write_plain_family(repository)), family="hand-zero")
    address = free_address()
    with run_server(repository, address, tmp_path_factory.mktemp("server") / "log"):
        with Client(address, timeout_s=60) as client:
            client.wait_until_serving()
        yield address


@pytest.fixture(scope="session")
def mesh_server(
    free_address: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server of a family of meshes, `hand-mesh`, and of one of pictures."""
    from tests.serving.family_graphs import write_plain_family
    from tests.serving.mesh_graphs import linear_meshes, write_mesh_family

    repository = write_mesh_family(tmp_path_factory.mktemp("meshes"), linear_meshes())
    write_plain_family(repository)
    address = free_address()
    with run_server(repository, address, tmp_path_factory.mktemp("server") / "log"):
        with Client(address, timeout_s=60) as client:
            client.wait_until_serving()
        yield address


@pytest.fixture
def client(server_address: str) -> Iterator[Client]:
    with Client(server_address) as client:
        yield client


@dataclass(frozen=True)
class Outcome:
    """What a command line came to."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def facegen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Run a `facegen` command line in a fresh folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["facegen", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def served(
    facegen: Callable[..., Outcome], server_address: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """The same, against the real server, which the environment names."""
    monkeypatch.setenv("FACEGEN_SERVER", server_address)
    return facegen


@dataclass
class Step:
    """What one call gets: faces, then a status (None: success), its answer begun before or not."""

    face_count: int = 0
    status: grpc.Status | None = None
    begun: bool = False


@dataclass
class ScriptedFaces(face_service_pb2_grpc.FaceServiceServicer):
    """Answers the n-th call by the n-th step, and later calls by all they ask for."""

    steps: list[Step]
    requests: list[Any] = field(default_factory=list)

    def Generate(  # noqa: N802  # gRPC's name
        self, request: face_service_pb2.GenerateRequest, context: Any
    ) -> face_service_pb2.GenerateResponse:
        step = self._next_step(request)
        if step.begun:
            context.send_initial_metadata(())
        if step.status is not None:
            context.abort_with_status(step.status)
        return face_service_pb2.GenerateResponse(faces=_faces(request, request.count), seed=7)

    def GenerateStream(  # noqa: N802  # gRPC's name
        self, request: face_service_pb2.GenerateStreamRequest, context: Any
    ) -> Iterator[face_service_pb2.GenerateStreamResponse]:
        step = self._next_step(request)
        for face in _faces(request, step.face_count):
            yield face_service_pb2.GenerateStreamResponse(
                faces=[face], seed=7, family="scripted", version="3", prior="normal"
            )
        if step.status is not None:
            context.abort_with_status(step.status)

    def _next_step(self, request: Any) -> Step:
        self.requests.append(request)
        return self.steps.pop(0) if self.steps else Step(face_count=request.count)


def _faces(request: Any, count: int) -> list[face_service_pb2.GeneratedFace]:
    return [
        face_service_pb2.GeneratedFace(index=index, image=image_pb2.Image(data=b"%d" % index))
        for index in range(request.first_index, request.first_index + count)
    ]


@dataclass
class ScriptedServer:
    """A gRPC server that answers by a script."""

    address: str
    faces: ScriptedFaces


@pytest.fixture
def scripted_server() -> Iterator[Callable[..., ScriptedServer]]:
    """Start a server whose calls end as given, in order; a number: so many faces, then success."""
    servers: list[grpc.Server] = []

    def start(*steps: Step | int) -> ScriptedServer:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        faces = ScriptedFaces(  # type: ignore[abstract]  # the rest answers UNIMPLEMENTED
            [Step(step) if isinstance(step, int) else step for step in steps]
        )
        face_service_pb2_grpc.add_FaceServiceServicer_to_server(faces, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return ScriptedServer(f"127.0.0.1:{port}", faces)

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture
def fail() -> Callable[..., Step]:
    """Make a step that sends faces and then ends with a status and google.rpc details."""

    def step(
        code: grpc.StatusCode,
        *details: Message,
        message: str = "broken",
        after: int = 0,
        begun: bool = False,
    ) -> Step:
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return Step(after, rpc_status.to_status(status), begun)

    return step
