"""Real servers, refused and let in from outside."""

import contextlib
import hashlib
import itertools
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from tritonclient.grpc import service_pb2, service_pb2_grpc

from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2, mesh_service_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from facegen.v1.mesh_service_pb2_grpc import MeshServiceStub

# `start_server` of conftest.py, and `authority` of tests/conftest.py.
StartServer = Callable[..., Any]
Authority = Any

_SERVING = health_pb2.HealthCheckResponse.SERVING
_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")
_TOKENS = {"i": "facegen_infer-secret", "a": "facegen_admin-secret", "x": "facegen_expired-secret"}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file of the tokens of `_TOKENS`: infer, admin, and one that has expired."""
    path = tmp_path / "tokens.toml"
    more = {"i": 'scopes = ["infer"]', "a": 'scopes = ["admin"]'}
    more["x"] = more["i"] + "\nexpires = 2020-01-01T00:00:00Z"
    path.write_text("".join(_entry(name, more[name]) for name in _TOKENS))
    return path


def _entry(name: str, more: str) -> str:
    digest = hashlib.sha256(_TOKENS[name].encode()).hexdigest()
    return f'[[tokens]]\nname = "{name}-name"\nsha256 = "{digest}"\n{more}\n'


def _bearer(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {_TOKENS.get(name, name)}"),)


def _generate(channel: grpc.Channel, *, count: int = 1, metadata: Any = ()) -> pb.GenerateResponse:
    return FaceServiceStub(channel).Generate(pb.GenerateRequest(count=count), metadata=metadata)


def _kserve(channel: grpc.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def _health(channel: grpc.Channel) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its stub's types lack the methods
    status: int = stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status
    return status


@contextlib.contextmanager
def _refused(code: grpc.StatusCode, *said: str, detail: str = "ErrorInfo") -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error: Any = caught.value
    assert error.code() is code, error
    for words in said:
        assert words in error.details()
    assert f"google.rpc.{detail}" in str(rpc_status.from_call(error))


def test_every_service_wants_a_token_but_health(
    start_server: StartServer, token_file: Path
) -> None:
    server = start_server("--tokens", str(token_file))
    info = reflection_pb2.ServerReflectionRequest(list_services="")

    with grpc.insecure_channel(server.address) as channel:
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

        for metadata in ((), _bearer("x"), _bearer("guess")):
            with _refused(grpc.StatusCode.UNAUTHENTICATED, "needs a valid token"):
                _generate(channel, metadata=metadata)
            with _refused(grpc.StatusCode.UNAUTHENTICATED, "needs a valid token"):
                list(
                    FaceServiceStub(channel).GenerateStream(
                        pb.GenerateStreamRequest(count=1), metadata=metadata
                    )
                )
            with _refused(grpc.StatusCode.UNAUTHENTICATED, "needs a valid token"):
                MeshServiceStub(channel).GetTopology(
                    mesh_service_pb2.GetTopologyRequest(), metadata=metadata
                )
            with _refused(grpc.StatusCode.UNAUTHENTICATED, "needs a valid token"):
                _kserve(channel).ModelInfer(service_pb2.ModelInferRequest(), metadata=metadata)
            with _refused(grpc.StatusCode.UNAUTHENTICATED, "needs a valid token"):
                list(_kserve(channel).ModelStreamInfer(iter(()), metadata=metadata))
            with _refused(grpc.StatusCode.UNAUTHENTICATED, "needs a valid token"):
                list(reflection.ServerReflectionInfo(iter([info]), metadata=metadata))

        assert len(_generate(channel, metadata=_bearer("i")).faces) == 1
        assert list(reflection.ServerReflectionInfo(iter([info]), metadata=_bearer("i")))
        assert _health(channel) == _SERVING
        assert _kserve(channel).ServerReady(service_pb2.ServerReadyRequest()).ready


def test_scopes_part_running_models_from_changing_them(
    start_server: StartServer, token_file: Path
) -> None:
    server = start_server("--tokens", str(token_file), "--model-control", "explicit",
                          "--load-models", "*")  # fmt: skip
    load = service_pb2.RepositoryModelLoadRequest(model_name="none-such")
    settings = service_pb2.LogSettingsRequest()
    settings.settings["log_verbose_level"].uint32_param = 1

    with grpc.insecure_channel(server.address) as channel:
        kserve = _kserve(channel)

        with _refused(grpc.StatusCode.PERMISSION_DENIED, "admin", "--allow-admin"):
            kserve.RepositoryModelLoad(load, metadata=_bearer("i"))
        with _refused(grpc.StatusCode.PERMISSION_DENIED, "admin"):
            kserve.LogSettings(settings, metadata=_bearer("i"))
        with _refused(grpc.StatusCode.PERMISSION_DENIED, '"infer"'):
            _generate(channel, metadata=_bearer("a"))

        with pytest.raises(grpc.RpcError, match="none-such"):
            kserve.RepositoryModelLoad(load, metadata=_bearer("a"))
        kserve.LogSettings(settings, metadata=_bearer("a"))
        for name in "ia":
            kserve.LogSettings(service_pb2.LogSettingsRequest(), metadata=_bearer(name))
            assert kserve.RepositoryIndex(
                service_pb2.RepositoryIndexRequest(), metadata=_bearer(name)
            ).models


def test_admin_methods_are_off_without_tokens_and_flag(server_address: str) -> None:
    with grpc.insecure_channel(server_address) as channel:
        kserve = _kserve(channel)

        for method, request in (
            (kserve.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest()),
            (kserve.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest()),
            (kserve.SystemSharedMemoryRegister, service_pb2.SystemSharedMemoryRegisterRequest()),
        ):
            with _refused(grpc.StatusCode.PERMISSION_DENIED, "--allow-admin", "--tokens"):
                method(request)


def test_token_that_is_taken_back_ends_within_seconds(
    start_server: StartServer, token_file: Path
) -> None:
    server = start_server("--tokens", str(token_file))

    with grpc.insecure_channel(server.address) as channel:
        _generate(channel, metadata=_bearer("i"))
        token_file.write_text("tokens = []")

        with _refused(grpc.StatusCode.UNAUTHENTICATED):
            for _ in itertools.count():
                _generate(channel, metadata=_bearer("i"))


def test_mutual_tls_lets_in_its_clients_alone_and_renews_without_restart(
    start_server: StartServer, authority: Authority
) -> None:
    certificate, key = authority.issue(file="server")
    flags = ("--tls-certificate", certificate, "--tls-key", key,
             "--tls-client-ca", authority.certificate)  # fmt: skip
    server = start_server(*map(str, flags), "--max-client-calls", "1")
    mine = authority.issue("camera")
    trusted = authority.certificate.read_bytes()
    full = grpc.ssl_channel_credentials(trusted, mine[1].read_bytes(), mine[0].read_bytes())

    with (
        grpc.secure_channel(server.address, grpc.ssl_channel_credentials(trusted)) as stranger,
        grpc.insecure_channel(server.address) as plain,
    ):
        for channel in (stranger, plain):
            with pytest.raises(grpc.RpcError) as caught:
                _health(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with grpc.secure_channel(server.address, full) as channel:
        held = FaceServiceStub(channel).GenerateStream(
            pb.GenerateStreamRequest(count=2**40, format=_RAW)
        )
        next(held)
        with _refused(grpc.StatusCode.RESOURCE_EXHAUSTED, 'client "camera"', detail="RetryInfo"):
            _generate(channel)

        authority.issue(file="server")
        shown = _shown_certificate(server.address, authority.certificate, mine)

        assert shown == ssl.PEM_cert_to_DER_cert(certificate.read_text())
        assert next(held).faces  # the old connection lives
        held.cancel()


def _shown_certificate(address: str, ca: Path, pair: tuple[Path, Path]) -> bytes | None:
    """Give the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(*pair)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        return secured.getpeercert(binary_form=True)


def test_unmodified_tritonclient_calls_over_tls_with_a_token(
    start_server: StartServer, authority: Authority, token_file: Path
) -> None:
    certificate, key = map(str, authority.issue())
    server = start_server(
        "--tls-certificate", certificate, "--tls-key", key, "--tokens", str(token_file)
    )
    headers = {"authorization": f"Bearer {_TOKENS['i']}"}

    with triton.InferenceServerClient(
        server.address, ssl=True, root_certificates=str(authority.certificate)
    ) as client:
        assert client.is_server_ready()
        assert client.get_model_repository_index(headers=headers).models
        with pytest.raises(triton.InferenceServerException, match="needs a valid token") as caught:
            client.get_model_repository_index()

    assert caught.value.status() == "StatusCode.UNAUTHENTICATED"


def test_client_that_calls_too_often_or_too_much_is_told_the_limit(
    start_server: StartServer, token_file: Path
) -> None:
    server = start_server(
        "--tokens", str(token_file), "--max-client-calls", "2", "--max-client-rate", "4"
    )

    with grpc.insecure_channel(server.address) as channel:
        held = [
            FaceServiceStub(channel).GenerateStream(
                pb.GenerateStreamRequest(count=2**40, format=_RAW), metadata=_bearer("i")
            )
            for _ in range(2)
        ]
        for stream in held:
            next(stream)
        with _refused(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            'client "i-name"',
            "--max-client-calls 2",
            detail="RetryInfo",
        ):
            _generate(channel, metadata=_bearer("i"))
        for stream in held:
            stream.cancel()

        with _refused(
            grpc.StatusCode.RESOURCE_EXHAUSTED, "--max-client-rate 4", detail="RetryInfo"
        ):
            _call_until_too_often(channel)
        for _ in range(10):
            assert _health(channel) == _SERVING


def _call_until_too_often(channel: grpc.Channel) -> None:
    """Call without a pause until the rate is used up; calls may still be under way before."""
    while True:
        try:
            _generate(channel, metadata=_bearer("i"))
        except grpc.RpcError as error:
            if "--max-client-calls" not in str(error):
                raise


def test_connection_has_so_many_calls_at_a_time(start_server: StartServer) -> None:
    server = start_server("--max-connection-streams", "1")
    # Channels of the same options would share a connection.
    alone = [("grpc.use_local_subchannel_pool", 1)]

    with (
        grpc.insecure_channel(server.address, alone) as channel,
        grpc.insecure_channel(server.address, alone) as other,
    ):
        held = FaceServiceStub(channel).GenerateStream(
            pb.GenerateStreamRequest(count=2**40, format=_RAW)
        )
        next(held)
        waiting = FaceServiceStub(channel).Generate.future(pb.GenerateRequest(count=1))
        _generate(other)

        assert not waiting.done()  # its client holds it back
        held.cancel()
        assert waiting.result().faces


def test_message_above_the_limit_is_refused(start_server: StartServer) -> None:
    server = start_server("--max-message-bytes", "65536")

    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError, match="larger than max") as caught:
            FaceServiceStub(channel).Generate(pb.GenerateRequest(count=1, prior="x" * 65536))

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert _generate(channel).faces


def test_message_above_the_limit_when_unpacked_is_refused(start_server: StartServer) -> None:
    server = start_server("--max-message-bytes", "65536")
    bomb = pb.GenerateRequest(count=1, prior="x" * 4_000_000)  # a few KiB on their way

    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError, match="larger than max") as caught:
            FaceServiceStub(channel).Generate(bomb, compression=grpc.Compression.Gzip)

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert _generate(channel).faces


def test_connection_that_answers_no_pings_is_closed(start_server: StartServer) -> None:
    server = start_server("--keepalive-s", "0.1", "--keepalive-timeout-s", "0.1")
    host, _, port = server.address.rpartition(":")
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings, acknowledged = bytes(3) + b"\4\0" + bytes(4), bytes(3) + b"\4\1" + bytes(4)
    ping = b"\0\0\x08\6\0"

    with socket.create_connection((host, int(port)), timeout=60) as silent:
        silent.sendall(hello + settings + acknowledged)
        received = b"".join(iter(lambda: silent.recv(4096), b""))  # until the server closes

    assert ping in received


def test_old_connection_is_replaced_and_its_call_goes_on(start_server: StartServer) -> None:
    server = start_server("--max-connection-age-s", "0.1", "--max-connection-grace-s", "600")
    states: list[grpc.ChannelConnectivity] = []
    replaced = threading.Event()

    def note(state: grpc.ChannelConnectivity) -> None:
        states.append(state)
        if state is grpc.ChannelConnectivity.IDLE and grpc.ChannelConnectivity.READY in states:
            replaced.set()

    with grpc.insecure_channel(server.address) as channel:
        channel.subscribe(note)
        held = FaceServiceStub(channel).GenerateStream(
            pb.GenerateStreamRequest(count=2**40, format=_RAW)
        )
        next(held)

        assert replaced.wait(60)
        assert _generate(channel).faces
        assert next(held).faces
        held.cancel()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--tokens", "/nowhere.toml"), "--tokens /nowhere.toml: No such file"),
        (("--tls-certificate", "a.pem"), "--tls-certificate is given without --tls-key"),
        (("--tls-client-ca", "a.pem"), "--tls-client-ca is given, but"),
        (("--tls-certificate", "/a.pem", "--tls-key", "/b"), "--tls-certificate /a.pem: No such"),
    ],
)
def test_server_that_cannot_be_secured_does_not_start(
    start_server: StartServer, flags: tuple[str, ...], said: str
) -> None:
    server = start_server(*flags)

    assert server.wait() == 1
    log = "".join(server.log)
    assert said in log
    assert "Traceback" not in log


_FORGED = "2026-01-01T00:00:00.000Z ERROR facegen.serving.server forged event"
_SECRETS = (*_TOKENS.values(), "guess", "SECRETPIXELS", "SECRETBYTES", "1234.5", "1234.25")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_tells_no_secrets_and_cannot_be_forged(
    start_server: StartServer, token_file: Path, log_format: str
) -> None:
    server = start_server(
        "--tokens", str(token_file), "--log-level", "debug", "--log-format", log_format
    )
    with grpc.insecure_channel(server.address) as channel:
        _misbehave(channel)
    server.terminate()
    assert server.wait() == 0
    lines = "".join(server.log).splitlines()

    assert any("forged event" in line for line in lines)  # it is there, inside of a line
    for secret in _SECRETS:
        assert not [line for line in lines if secret in line]
    assert not [line for line in lines if "\x1b" in line]
    if log_format == "json":
        assert all(json.loads(line)["level"] for line in lines)
    else:
        events = re.compile(r"\d{4}-\d\d-\d\dT\S+Z [A-Z]+ [\w.]+ |  ?\| ")
        assert not [line for line in lines if not events.match(line)]
        assert not [line for line in lines if line.startswith(_FORGED)]


def _misbehave(channel: grpc.Channel) -> None:
    """Make calls whose tokens, names and contents must not appear in the log as they are."""
    faces, kserve = FaceServiceStub(channel), _kserve(channel)
    forged = f"x\n{_FORGED}\r\x1b[31m\u2028{_FORGED}"
    wrong_latent = latent_pb2.Latent(family="tiny-vae", values=[1234.5, 1234.25])
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name=forged, datatype="BYTES", shape=[1]
    )
    calls: list[Callable[[Any], Any]] = [
        lambda it: faces.Generate(pb.GenerateRequest(count=1), metadata=it),
        lambda it: faces.Generate(pb.GenerateRequest(count=1, family=forged), metadata=it),
        lambda it: faces.Reconstruct(
            pb.ReconstructRequest(images=[image_pb2.Image(data=b"SECRETPIXELS")]), metadata=it
        ),
        lambda it: faces.Decode(pb.DecodeRequest(latents=[wrong_latent]), metadata=it),
        lambda it: kserve.ModelInfer(
            service_pb2.ModelInferRequest(
                model_name="tiny-vae.decoder",
                id=forged,
                inputs=[tensor],
                raw_input_contents=[b"\x0b\0\0\0SECRETBYTES"],
            ),
            metadata=it,
        ),
        lambda it: kserve.ModelInfer(
            service_pb2.ModelInferRequest(model_name=forged, model_version=forged), metadata=it
        ),
        lambda it: kserve.RepositoryModelLoad(
            service_pb2.RepositoryModelLoadRequest(model_name=forged), metadata=it
        ),
    ]
    for call, token in itertools.product(calls, (*_TOKENS, "guess")):
        request_id = (("x-request-id", "id level=ERROR"),)
        with contextlib.suppress(grpc.RpcError):
            call(_bearer(token) + request_id)
