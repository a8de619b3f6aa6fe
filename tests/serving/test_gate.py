import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from facegen.serving.call_context import CallContext
from facegen.serving.config import ServerConfig
from facegen.serving.errors import ForbiddenError, RateLimitError, UnauthenticatedError
from facegen.serving.security.gate import Admission, Gate, require_admin
from facegen.serving.security.limits import ClientLimits
from facegen.serving.security.peers import host_of

KSERVE = "/inference.GRPCInferenceService/"
INFER = KSERVE + "ModelInfer"
GENERATE = "/facegen.v1.FaceService/Generate"
LOAD = KSERVE + "RepositoryModelLoad"
INDEX = KSERVE + "RepositoryIndex"
ADMIN = [
    KSERVE + method
    for method in (
        "RepositoryModelLoad",
        "RepositoryModelUnload",
        "SystemSharedMemoryRegister",
        "SystemSharedMemoryUnregister",
        "CudaSharedMemoryRegister",
        "CudaSharedMemoryUnregister",
    )
]
OPEN = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", KSERVE + "ServerLive"]


class Caller:
    """The other end of a connection."""

    def __init__(self, address: str = "ipv4:10.0.0.1:40000", **facts: Sequence[bytes]) -> None:
        self.address = address
        self.facts = facts

    def peer(self) -> str:
        return self.address

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return self.facts


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file of the tokens `i`, `a` and `b`, for infer, admin and both."""
    path = tmp_path / "tokens.toml"
    scopes = {"i": '["infer"]', "a": '["admin"]', "b": '["infer", "admin"]'}
    path.write_text(
        "".join(
            f'[[tokens]]\nname = "{secret}-name"\nscopes = {allowed}\n'
            f'sha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"\n'
            for secret, allowed in scopes.items()
        )
    )
    return path


def _admit(
    gate: Gate, method: str = INFER, token: str | None = None, caller: Caller | None = None
) -> Admission:
    metadata = [("user-agent", "test")]
    if token is not None:
        metadata.append(("authorization", token))
    return gate.admit(method, metadata, lambda: caller or Caller())


def test_everybody_is_let_in_where_nothing_is_configured() -> None:
    admission = _admit(Gate(ServerConfig()))

    assert not admission.admin
    admission.release()


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "i",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic i",
        "Bearer i i",
        "i Bearer",
        "Bearer é",
    ],
)
def test_call_without_a_valid_token_is_refused_and_not_told_why(
    token_file: Path, token: str | None
) -> None:
    gate = Gate(ServerConfig(tokens=token_file))

    with pytest.raises(UnauthenticatedError) as caught:
        _admit(gate, token=token)

    assert str(caught.value) == (
        "this server needs a valid token; "
        "send one of its own in the metadata as authorization: Bearer TOKEN"
    )


@pytest.mark.parametrize("token", ["Bearer i", "bearer i", "BEARER  i "])
def test_call_with_a_token_bears_its_name(token_file: Path, token: str) -> None:
    admission = _admit(Gate(ServerConfig(tokens=token_file)), token=token)

    assert (admission.client, admission.admin) == ("i-name", False)


@pytest.mark.parametrize(
    ("token", "method", "allowed"),
    [
        ("i", INFER, True),
        ("i", GENERATE, True),
        ("i", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
        ("i", INDEX, True),
        ("i", KSERVE + "LogSettings", True),
        *[("i", method, False) for method in ADMIN],
        ("a", INFER, False),
        ("a", GENERATE, False),
        ("a", INDEX, True),
        ("a", KSERVE + "LogSettings", True),
        *[("a", method, True) for method in ADMIN],
        ("b", INFER, True),
        ("b", LOAD, True),
    ],
)
def test_scope_decides_which_methods_may_be_called(
    token_file: Path, token: str, method: str, allowed: bool
) -> None:
    gate = Gate(ServerConfig(tokens=token_file))

    if allowed:
        _admit(gate, method, f"Bearer {token}").release()
    else:
        with pytest.raises(ForbiddenError, match="scope"):
            _admit(gate, method, f"Bearer {token}")


@pytest.mark.parametrize("method", ADMIN)
def test_admin_methods_are_off_unless_allowed(method: str) -> None:
    with pytest.raises(ForbiddenError, match=r"scope \"admin\".* --allow-admin .*--tokens"):
        _admit(Gate(ServerConfig()), method)

    assert _admit(Gate(ServerConfig(allow_admin=True)), method).admin


def test_settings_are_changed_only_by_who_may(token_file: Path) -> None:
    gate = Gate(ServerConfig(tokens=token_file))
    looking, changing = (
        CallContext(admin=_admit(gate, KSERVE + "LogSettings", f"Bearer {token}").admin)
        for token in "ia"
    )

    require_admin(changing)
    with pytest.raises(ForbiddenError, match="change settings"):
        require_admin(looking)


@pytest.mark.parametrize("method", OPEN)
def test_health_is_open_and_beyond_limits(token_file: Path, method: str) -> None:
    gate = Gate(ServerConfig(tokens=token_file, max_client_rate=1, max_client_calls=1))

    for _ in range(5):
        _admit(gate, method)


def test_admin_calls_are_logged_with_their_client(
    token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    _admit(Gate(ServerConfig(tokens=token_file)), LOAD, "Bearer a")

    assert f"method={LOAD} client=a-name" in caplog.text


def test_calls_under_way_are_limited_by_client_until_they_end(token_file: Path) -> None:
    gate = Gate(ServerConfig(tokens=token_file, max_client_calls=2))
    first, _ = _admit(gate, token="Bearer i"), _admit(gate, token="Bearer i")

    with pytest.raises(RateLimitError, match=r'"i-name" has 2 .* --max-client-calls 2 ') as caught:
        _admit(gate, token="Bearer i")
    _admit(gate, token="Bearer b")
    first.release()
    _admit(gate, token="Bearer i")

    assert caught.value.retry_after_s > 0


def test_connections_of_one_address_share_its_limit_but_are_clients_of_their_own() -> None:
    gate = Gate(ServerConfig(max_client_calls=2))
    callers = [Caller(f"ipv4:10.0.0.1:{port}") for port in (1, 2, 3)]

    first, second = (_admit(gate, caller=caller) for caller in callers[:2])
    with pytest.raises(RateLimitError, match=r'client "10\.0\.0\.1"'):
        _admit(gate, caller=callers[2])
    _admit(gate, caller=Caller("ipv4:10.0.0.2:1"))

    assert first.client != second.client


def test_client_with_a_certificate_bears_its_name(tmp_path: Path) -> None:
    gate = Gate(ServerConfig(tls_client_ca=tmp_path / "ca.pem"))
    named: dict[str, Any] = {"x509_common_name": [b"camera"]}
    alternative: dict[str, Any] = {"x509_subject_alternative_name": [b"a.example", b"b.example"]}

    assert _admit(gate, caller=Caller(**named)).client == "camera"
    assert _admit(gate, caller=Caller(**alternative)).client == "a.example"
    assert _admit(gate, caller=Caller()).client == "ipv4:10.0.0.1:40000"


def test_name_of_a_certificate_is_nobody_without_client_authorities() -> None:
    caller = Caller(x509_common_name=[b"admin"])

    assert _admit(Gate(ServerConfig()), caller=caller).client == "ipv4:10.0.0.1:40000"


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:80", "10.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:80", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::1]:80", "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:10.0.0.1]:80", "10.0.0.1"),
        ("ipv6:[fe80::1%25eth0]:80", "fe80::/64"),
        ("unix:", "unix"),
        ("unix:/run/facegen.sock", "unix"),
        ("unix-abstract:facegen", "unix-abstract"),
    ],
)
def test_host_is_the_peer_without_its_port(peer: str, host: str) -> None:
    assert host_of(peer) == host


@pytest.mark.parametrize(
    ("address", "options", "said"),
    [
        ("0.0.0.0:50051", {}, ""),
        ("0.0.0.0:50051", {"allow_admin": True}, "everybody may load"),
        ("[::]:50051", {"tokens": True}, "tokens can be read"),
        ("faces.example:50051", {"tokens": True, "allow_admin": True}, "tokens can be read"),
        ("10.0.0.1:50051", {"tokens": True, "tls_certificate": Path("a.pem")}, ""),
        ("10.0.0.1:50051", {"tls_client_ca": Path("a.pem"), "allow_admin": True}, ""),
        ("127.0.0.1:50051", {"tokens": True, "allow_admin": True}, ""),
        ("[::1]:0", {"allow_admin": True}, ""),
        ("localhost:50051", {"allow_admin": True}, ""),
        ("unix:/run/facegen.sock", {"allow_admin": True}, ""),
    ],
)
def test_doors_left_open_to_other_machines_are_warned_of(
    token_file: Path,
    address: str,
    options: dict[str, Any],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = {"tokens": token_file} if "tokens" in options else {}

    Gate(ServerConfig(address=address, **(options | files)))

    assert len(caplog.records) == bool(said)
    assert said in caplog.text


class TestRate:
    """The token bucket of a client."""

    @pytest.fixture
    def make(self) -> Callable[..., tuple[ClientLimits, list[float]]]:
        def make(rate: float, calls: int = 0) -> tuple[ClientLimits, list[float]]:
            now = [100.0]
            return ClientLimits(rate=rate, calls=calls, clock=lambda: now[0]), now

        return make

    def test_idle_client_may_make_a_seconds_calls_at_once(self, make: Callable[..., Any]) -> None:
        limits, now = make(5.0)

        for _ in range(5):
            limits.begin("a")
        with pytest.raises(RateLimitError, match="--max-client-rate 5 ") as caught:
            limits.begin("a")

        assert caught.value.retry_after_s == pytest.approx(0.2)
        now[0] += 0.2001
        limits.begin("a")

    def test_long_run_rate_is_the_limit(self, make: Callable[..., Any]) -> None:
        limits, now = make(10.0)
        taken = 0

        for _ in range(10_000):  # 100 calls a second for 100 s
            now[0] += 0.01
            try:
                limits.begin("a")
                taken += 1
            except RateLimitError:
                pass

        assert taken == pytest.approx(1000, abs=11)

    def test_rate_below_one_still_lets_a_call_in(self, make: Callable[..., Any]) -> None:
        limits, now = make(0.1)

        limits.begin("a")
        with pytest.raises(RateLimitError) as caught:
            limits.begin("a")
        now[0] += caught.value.retry_after_s + 1e-6

        limits.begin("a")

    def test_refusal_for_calls_under_way_costs_no_rate(self, make: Callable[..., Any]) -> None:
        limits, _ = make(2.0, 1)
        limits.begin("a")
        for _ in range(5):
            with pytest.raises(RateLimitError, match="--max-client-calls 1 "):
                limits.begin("a")
        limits.end("a")

        limits.begin("a")

    def test_idle_clients_are_forgotten_and_busy_ones_kept(self, make: Callable[..., Any]) -> None:
        limits, now = make(1.0, 1)
        limits.begin("busy")
        for number in range(50_000):
            now[0] += 0.001
            limits.begin(f"client {number}")
            limits.end(f"client {number}")

        assert limits.client_count < 10_000
        with pytest.raises(RateLimitError):
            limits.begin("busy")

    def test_count_is_right_after_calls_from_many_threads(self, make: Callable[..., Any]) -> None:
        limits, _ = make(0.0, 4)

        def call() -> None:
            for _ in range(2000):
                limits.begin("a")
                limits.end("a")

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(4):
            limits.begin("a")

        with pytest.raises(RateLimitError, match="has 4 calls"):
            limits.begin("a")
