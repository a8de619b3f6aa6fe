import dataclasses
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from facegen.client.commands.connection import Connection
from facegen.serving.cli import serve
from facegen.serving.config import ServerConfig

_ROOT = Path(__file__).parents[2]
_FLAGS = {f"FACEGEN_SERVE_{name.upper()}" for name in inspect.signature(serve).parameters}
_CLIENT = {f"FACEGEN_{field.name.upper()}" for field in dataclasses.fields(Connection)}
_DEFAULTS = ServerConfig()


def _service(name: str) -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((_ROOT / name).read_text())["services"]["facegen"]
    return service


def _dockerfile() -> str:
    return (_ROOT / "serving" / "Dockerfile").read_text()


def test_service_is_locked_down() -> None:
    service = _service("docker-compose.yml")

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["volumes"] == ["./models:/models:ro"]
    assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory", "pids"}
    assert re.search(r"^USER 10001:10001$", _dockerfile(), re.MULTILINE)


def test_health_is_asked_by_our_own_command() -> None:
    assert _service("docker-compose.yml")["healthcheck"]["test"] == ["CMD", "facegen", "health"]
    assert 'CMD ["facegen", "health"]' in _dockerfile()


def test_every_variable_is_a_flag_of_serve() -> None:
    used = set(_service("docker-compose.yml")["environment"])
    used |= set(re.findall(r"\bFACEGEN_SERVE_\w+", _dockerfile()))

    assert used
    assert used <= _FLAGS


def test_ports_are_published_on_loopback_alone() -> None:
    ports = _service("docker-compose.yml")["ports"]

    assert ports == [
        "${FACEGEN_PUBLISH:-127.0.0.1:50051}:50051",
        "${FACEGEN_PUBLISH_METRICS:-127.0.0.1:8002}:8002",
    ]


def test_container_is_given_the_time_and_the_threads_that_the_server_may_need() -> None:
    service = _service("docker-compose.yml")

    drain_s = _DEFAULTS.drain_delay_s + _DEFAULTS.drain_timeout_s
    assert int(service["stop_grace_period"].removesuffix("s")) > drain_s
    threads = 3 * _DEFAULTS.max_concurrent_calls  # two for each call, one for each health watch
    assert service["deploy"]["resources"]["limits"]["pids"] > threads
    assert service["ulimits"]["nofile"] > 10 * _DEFAULTS.max_concurrent_calls


def test_secure_override_sets_flags_and_what_the_health_check_needs() -> None:
    service = _service("docker-compose.secure.yml")
    environment = service["environment"]
    (mount,) = service["volumes"]

    assert environment.keys() <= _FLAGS | _CLIENT
    assert environment["FACEGEN_TLS_CA"] == environment["FACEGEN_SERVE_TLS_CERTIFICATE"]
    files = [value for value in environment.values() if value.startswith("/")]
    assert all(Path(file).parent == Path("/run/facegen") for file in files)
    assert mount.endswith(":/run/facegen:ro")


def test_gpu_override_reserves_a_device_and_is_strict() -> None:
    service = _service("docker-compose.gpu.yml")

    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert service["command"] == ["facegen", "serve", "--device", "cuda"]


def test_extras_that_are_built_exist_and_sources_are_copied() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]

    for name in ("docker-compose.yml", "docker-compose.gpu.yml"):
        assert _service(name)["build"]["args"]["EXTRA"] in extras
    for folder in project["tool"]["hatch"]["build"]["dev-mode-dirs"]:
        assert f"COPY {folder} {folder}" in _dockerfile()
        assert f"!{folder}" in (_ROOT / "serving" / "Dockerfile.dockerignore").read_text()
