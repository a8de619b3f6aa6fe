import re
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from facegen.client import (
    AsyncClient,
    Client,
    FileError,
    HealthStatus,
    ResourceExhaustedError,
    Tls,
    TokenError,
    UnauthenticatedError,
    UnavailableError,
)
from facegen.client.commands.connection import Connection
from facegen.client.credentials import is_local
from facegen.v1 import face_service_pb2, face_service_pb2_grpc

# `authority` and `new_authority` of tests/conftest.py.
Authority = Any
Run = Callable[..., Any]


@dataclass
class Recorder(face_service_pb2_grpc.FaceServiceServicer):
    """Answers calls whose token is right, and keeps what came with them."""

    token: str = "secret"
    received: list[str | None] = field(default_factory=list)

    def Generate(  # noqa: N802  # gRPC's name
        self, request: face_service_pb2.GenerateRequest, context: Any
    ) -> face_service_pb2.GenerateResponse:
        self._check(context)
        return face_service_pb2.GenerateResponse()

    def GenerateStream(  # noqa: N802  # gRPC's name
        self, request: face_service_pb2.GenerateStreamRequest, context: Any
    ) -> Iterator[face_service_pb2.GenerateStreamResponse]:
        self._check(context)
        faces = [face_service_pb2.GeneratedFace(index=index) for index in range(request.count)]
        yield face_service_pb2.GenerateStreamResponse(faces=faces)

    def _check(self, context: Any) -> None:
        self.received.append(dict(context.invocation_metadata()).get("authorization"))
        if self.received[-1] != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this server needs a valid token")


@dataclass
class Server:
    """A server over TLS or not, that wants a token."""

    address: str
    recorder: Recorder


Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server with the pair of a certificate and its key, or in plain text."""
    servers: list[grpc.Server] = []

    def run(pair: tuple[Path, Path] | None = None, client_ca: Path | None = None) -> Server:
        options = [("grpc.max_receive_message_length", 4096)]
        server = grpc.server(futures.ThreadPoolExecutor(2), options=options)
        recorder = Recorder()  # type: ignore[abstract]  # the rest answers UNIMPLEMENTED
        face_service_pb2_grpc.add_FaceServiceServicer_to_server(recorder, server)
        servicer: Any = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        if pair is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            credentials = grpc.ssl_server_credentials(
                [(pair[1].read_bytes(), pair[0].read_bytes())],
                client_ca.read_bytes() if client_ca else None,
                require_client_auth=client_ca is not None,
            )
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return Server(f"127.0.0.1:{port}", recorder)

    yield run
    for server in servers:
        server.stop(None).wait()


def test_token_goes_with_every_call_over_tls(start: Start, authority: Authority) -> None:
    server = start(authority.issue())

    with Client(server.address, credentials=Tls(authority.certificate), token="secret") as client:
        client.generate(1)
        list(client.generate_stream(1))

        assert client.health() is HealthStatus.SERVING
        client.wait_until_serving()
    assert server.recorder.received == ["Bearer secret"] * 2


async def test_token_goes_with_every_call_of_the_asyncio_client(
    start: Start, authority: Authority
) -> None:
    server = start(authority.issue())
    tls = Tls(authority.certificate)

    async with AsyncClient(server.address, credentials=tls, token="secret") as client:
        await client.generate(1)
        _ = [face async for face in client.generate_stream(1)]
        await client.wait_until_serving()

    assert server.recorder.received == ["Bearer secret"] * 2


def test_token_travels_in_plain_text_within_this_machine(start: Start) -> None:
    server = start()

    with Client(server.address, token="secret\n") as client:
        client.generate(1)

    assert server.recorder.received == ["Bearer secret"]


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_token_does_not_leave_this_machine_in_plain_text(client: Any) -> None:
    with pytest.raises(TokenError, match=r"faces\.example:50051 .*--tls.*--insecure-token"):
        client("faces.example:50051", token="secret")


def test_token_may_leave_in_plain_text_by_choice_or_over_tls() -> None:
    Client("faces.example:1", token="secret", insecure_token=True).close()
    Client("faces.example:1", token="secret", credentials=Tls()).close()
    Client("faces.example:1").close()


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "é", "a\x1b[0m"])
def test_token_that_is_none_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(TokenError) as caught:
        Client(token=token)

    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("localhost:50051", True),
        ("LOCALHOST:50051", True),
        ("127.0.0.1:50051", True),
        ("127.8.9.1:1", True),
        ("[::1]:50051", True),
        ("dns:///localhost:50051", True),
        ("dns:localhost:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("ipv6:[::1]:50051", True),
        ("unix:/run/facegen.sock", True),
        ("unix-abstract:facegen", True),
        ("localhost.example.com:50051", False),
        ("127.example.com:50051", False),
        ("localhost@example.com:50051", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("dns://10.0.0.1/localhost:50051", False),
        ("xds:///localhost:50051", False),
        ("0.0.0.0:50051", False),
        ("10.0.0.1:50051", False),
        ("[2001:db8::1]:50051", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_only_loopback_and_unix_sockets_are_local(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_refused_token_is_told_with_its_remedy(start: Start) -> None:
    server = start()

    for token in ("", "wrong"):
        with (
            Client(server.address, token=token) as client,
            pytest.raises(UnauthenticatedError, match=r"valid token; give one with --token or"),
        ):
            client.generate(1)


def test_server_of_another_authority_is_not_trusted(
    start: Start, authority: Authority, new_authority: Callable[[], Authority]
) -> None:
    server = start(authority.issue())

    for tls in (Tls(new_authority().certificate), Tls()):
        with (
            Client(server.address, credentials=tls, token="secret") as client,
            pytest.raises(UnavailableError, match="certificate"),
        ):
            client.health()
    assert server.recorder.received == []


def test_server_is_known_by_its_own_certificate_and_another_name(
    start: Start, authority: Authority
) -> None:
    certificate, key = authority.issue()
    server = start((certificate, key))

    with Client(server.address, credentials=Tls(certificate, server_name="localhost")) as client:
        assert client.health() is HealthStatus.SERVING
    wrong = Tls(certificate, server_name="faces.example")
    with Client(server.address, credentials=wrong) as client, pytest.raises(UnavailableError):
        client.health()


def test_mutual_tls_needs_the_clients_pair(start: Start, authority: Authority) -> None:
    server = start(authority.issue(), client_ca=authority.certificate)
    certificate, key = authority.issue("camera")

    with (
        Client(server.address, credentials=Tls(authority.certificate)) as client,
        pytest.raises(UnavailableError),
    ):
        client.health()
    with Client(server.address, credentials=Tls(authority.certificate, certificate, key)) as client:
        assert client.health() is HealthStatus.SERVING


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (Tls(ca="no/ca.pem"), "no/ca.pem: No such file"),
        (Tls(ca=__file__), "holds no CERTIFICATE in PEM"),
        (Tls(certificate="a.pem"), "a.pem: is the certificate of a client without its key"),
        (Tls(key="a.key"), "a.key: is the key of a client without its certificate"),
    ],
)
def test_file_that_cannot_be_used_is_named(tls: Tls, said: str) -> None:
    with pytest.raises(FileError, match=re.escape(said)):
        Client(credentials=tls)


def test_message_above_the_limit_names_the_servers_flag(start: Start) -> None:
    server = start()

    with (
        Client(server.address, token="secret") as client,
        pytest.raises(ResourceExhaustedError, match=r"larger than max .*--max-message-bytes"),
    ):
        client.generate(1, prior="x" * 8192)


def test_commands_take_tls_and_token_from_options_and_environment(
    facegen: Run, start: Start, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(authority.issue(), client_ca=authority.certificate)
    certificate, key = authority.issue("camera")
    options = {
        "--server": server.address,
        "--token": "secret",
        "--tls-ca": authority.certificate,
        "--tls-certificate": certificate,
        "--tls-key": key,
    }

    assert facegen("health", "--server", server.address).code == 1
    flags = [str(word) for pair in options.items() for word in pair]
    assert facegen("health", *flags).code == 0
    for option, value in options.items():
        variable = f"FACEGEN_{option[2:].replace('-', '_').upper()}"
        monkeypatch.setenv(variable, str(value))
    assert facegen("health", "--wait").code == 0
    assert facegen("generate", "--count", "1").code == 0
    assert server.recorder.received == ["Bearer secret"]


def test_command_does_not_send_a_token_in_plain_text(facegen: Run) -> None:
    done = facegen("models", "--server", "faces.example:1", "--token", "top-secret")

    assert done.code == 1
    assert "--insecure-token" in done.stderr
    assert "top-secret" not in done.stderr


def test_connection_keeps_its_token_to_itself() -> None:
    assert "secret" not in repr(Connection(token="secret"))
