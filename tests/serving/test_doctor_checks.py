import dataclasses
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from facegen.serving.config import ServerConfig
from facegen.serving.doctor.checks import check_graphs, check_machine, check_packages
from facegen.serving.doctor.environment import config_from_environment
from facegen.serving.doctor.machine import examine_machine, memory_limit_bytes
from facegen.serving.doctor.network import check_network
from facegen.serving.doctor.report import Finding, GraphReport, MachineReport, Speed

_GIB = 2**30
_MACHINE = MachineReport(
    platform="Linux",
    cpu="a processor",
    cpus_present=8,
    cpus_allowed=4,
    cpu_quota=None,
    threads=4,
    memory_bytes=8 * _GIB,
    memory_available_bytes=6 * _GIB,
    memory_limit_bytes=None,
    open_files=100_000,
    gpus=(),
    providers=("CPUExecutionProvider",),
    versions={},
)
_FREE = ServerConfig(address="127.0.0.1:0")


def _found(machine: MachineReport, config: ServerConfig = _FREE) -> list[Finding]:
    return list(check_machine(config, machine))


def test_healthy_machine_has_no_findings() -> None:
    assert _found(_MACHINE) == []


@pytest.mark.parametrize(
    ("change", "severity", "problem", "remedy"),
    [
        ({"cpu_quota": 0.5, "threads": 1}, "wrong", "quota is 0.5 CPUs", "at least 1 CPU"),
        ({"cpu_quota": 1.5, "threads": 2}, "note", "throttled", "whole CPUs"),
        ({"threads": 9}, "wrong", "9 threads run models on 4 CPUs", "leave --threads out"),
        ({"open_files": 256}, "wrong", "256 files", "ulimit -n"),
        ({"memory_limit_bytes": 100 * 2**20}, "wrong", "100 MiB", "limit"),
        ({"memory_available_bytes": 2**20}, "wrong", "1 MiB", "free some"),
        ({"gpus": ("NVIDIA H100",)}, "note", "NVIDIA H100 is here", "--device cuda"),
    ],
)
def test_what_is_wrong_with_a_machine_is_told_with_a_remedy(
    change: dict[str, object], severity: str, problem: str, remedy: str
) -> None:
    (finding,) = _found(dataclasses.replace(_MACHINE, **change))  # type: ignore[arg-type]  # by name

    assert finding.severity == severity
    assert problem in finding.problem
    assert remedy in finding.remedy


def test_cuda_that_is_not_there_is_wrong() -> None:
    (finding,) = _found(_MACHINE, ServerConfig(device="cuda"))

    assert 'device "cuda" cannot be used' in finding.problem
    assert "facegen[serve-gpu]" in finding.remedy


def test_this_machine_is_examined() -> None:
    machine = examine_machine(ServerConfig(threads=3))

    assert machine.threads == 3
    assert 0 < machine.cpus_allowed <= machine.cpus_present
    assert 0 < machine.memory_available_bytes < machine.memory_bytes
    assert "CPUExecutionProvider" in machine.providers
    assert machine.versions["facegen"]


def test_memory_limit_is_the_least_of_the_groups(tmp_path: Path) -> None:
    group = tmp_path / "mine"
    group.mkdir()
    (tmp_path / "memory.max").write_text("max\n")
    (group / "memory.max").write_text("1000\n")
    own = tmp_path / "cgroup"
    own.write_text("0::/mine\n")

    assert memory_limit_bytes(cgroup_root=tmp_path, own_cgroup=own) == 1000


def test_memory_limit_of_old_groups_is_found_and_none_is_none(tmp_path: Path) -> None:
    group = tmp_path / "memory" / "mine"
    group.mkdir(parents=True)
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    own = tmp_path / "cgroup"
    own.write_text("4:memory:/mine\n")

    assert memory_limit_bytes(cgroup_root=tmp_path, own_cgroup=own) is None
    (group / "memory.limit_in_bytes").write_text("2000\n")
    assert memory_limit_bytes(cgroup_root=tmp_path, own_cgroup=own) == 2000


def test_package_out_of_range_is_wrong_and_others_are_not_looked_at() -> None:
    found = list(
        check_packages(
            [
                "grpcio<1,>=0.9",
                'numpy<1; extra == "train"',
                "nobody>=1",
                'pydantic>=2; extra == "serve"',
            ]
        )
    )

    (finding,) = found
    assert finding.problem.startswith("grpcio 1.")
    assert finding.remedy == 'pip install "grpcio<1,>=0.9"'


def test_installed_packages_are_right() -> None:
    assert list(check_packages()) == []


def test_models_that_do_not_serve_are_wrong_and_those_of_others_a_note() -> None:
    unavailable, passed_over, not_timed = check_graphs(
        [
            GraphReport("a", "1", "READY", "", 8, (Speed(1, 2.0),)),
            GraphReport("b", "2", "UNAVAILABLE", "no graph; export it", 0, ()),
            GraphReport("c", "", "PASSED OVER", "backend python; serve it elsewhere", 0, ()),
            GraphReport("d", "1", "READY", "fails on noise", 0, ()),
        ],
        probed=True,
    )

    assert unavailable == Finding(
        "wrong", 'model "b" version 2 does not serve: no graph', "export it"
    )
    assert passed_over.severity == "note"
    assert not_timed == Finding(
        "note", 'model "d" version 1 was not timed: fails on noise', "no harm"
    )


def test_settings_come_from_the_environment_and_flags_win() -> None:
    environment = {
        "FACEGEN_SERVE_THREADS": "3",
        "FACEGEN_SERVE_ALLOW_ADMIN": "1",
        "FACEGEN_SERVE_LOAD_MODELS": "a b",
        "FACEGEN_SERVE_ENGINE": "onnx:elsewhere",
        "FACEGEN_SERVE_ADDRESS": "",
        "FACEGEN_SERVER": "other:1",
    }

    config, findings = config_from_environment(environment, {"engine": "onnx:here"})

    assert findings == []
    assert (config.threads, config.allow_admin) == (3, True)
    assert config.load_models == ("a", "b")
    assert config.engine == "onnx:here"
    assert config.address == ServerConfig().address


def test_wrong_and_unknown_variables_are_told() -> None:
    environment = {"FACEGEN_SERVE_THREADS": "many", "FACEGEN_SERVE_MAX_IMAGE": "3"}

    config, findings = config_from_environment(environment, {})

    assert config == ServerConfig()
    unknown, wrong = findings
    assert unknown.problem == "FACEGEN_SERVE_MAX_IMAGE sets nothing"
    assert unknown.remedy == "did you mean FACEGEN_SERVE_MAX_IMAGES?"
    assert wrong.problem.startswith('FACEGEN_SERVE_THREADS is "many"')


@pytest.mark.parametrize("flag", ["address", "metrics_address"])
def test_port_in_use_is_wrong(flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = ServerConfig(**{"address": "127.0.0.1:0", flag: address})

        (finding,) = check_network(config)

    assert "Address already in use" in finding.problem
    assert f"--{flag.replace('_', '-')} {address}" in finding.problem


@pytest.mark.parametrize("address", ["no port", "host.invalid:1", "[::1]:x"])
def test_address_that_is_none_is_wrong(address: str) -> None:
    (finding,) = check_network(ServerConfig(address=address))

    assert finding.problem.startswith(f"--address {address} cannot be had")


def _certificate(folder: Path, *, days: float) -> ServerConfig:
    """A self-signed certificate that expires in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return ServerConfig(
        address="127.0.0.1:0",
        tls_certificate=folder / "tls.crt",
        tls_key=folder / "tls.key",
    )


@pytest.mark.parametrize(
    ("days", "said"), [(-1, "has expired"), (10.5, "expires in 10 days"), (60, "")]
)
def test_certificate_that_expires_is_wrong(tmp_path: Path, days: float, said: str) -> None:
    findings = list(check_network(_certificate(tmp_path, days=days)))

    assert [said in finding.problem for finding in findings] == ([True] if said else [])


def test_missing_key_and_tokens_are_wrong(tmp_path: Path) -> None:
    config = _certificate(tmp_path, days=60)
    config.tls_key.unlink()  # type: ignore[union-attr]  # it has one

    (finding,) = check_network(config)

    assert "tls.key" in finding.problem
    tokens = ServerConfig(address="127.0.0.1:0", tokens=tmp_path / "nowhere.toml")
    (finding,) = check_network(tokens)
    assert "nowhere.toml" in finding.problem


def test_clock_of_long_ago_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 86_400.0)

    (finding,) = _found(_MACHINE)

    assert "the clock says 1970-01-02" in finding.problem
