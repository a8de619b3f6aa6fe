import inspect
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # has no types
import pytest
import yaml

from benchmarks.replicas import ENVOY_CONFIG, envoy, replicas, wait_until
from facegen.client import Client
from facegen.client.commands.connection import Connection
from facegen.serving.cli import serve
from facegen.studio.command import studio
from tests.deploy.compose_files import ROOT, merged
from tests.serving.family_graphs import write_plain_family

_FOLDER = ROOT / "deploy" / "kubernetes"
_OVERLAYS = ("base", "cpu", "gpu", "kserve", "own")
# Their schemas come with their operators; below is what we rely on.
_CUSTOM = {"InferenceService", "PodMonitor"}
_ENVOY = yaml.safe_load(ENVOY_CONFIG.read_text("utf-8"))

Object = dict[str, Any]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Object]]:
    """Give the objects that an overlay makes, as `kubectl apply -k` would send them."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")

    @cache
    def objects(overlay: str) -> list[Object]:
        folder = _FOLDER / overlay
        if overlay == "own":  # the one that the page shows, beside a clone
            folder = tmp_path_factory.mktemp("kubernetes") / "own"
            shutil.copytree(ROOT / "deploy", folder.parent / "facegen" / "deploy")
            page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
            [shown] = re.findall(r"```yaml\n(# kustomization.*?)```", page, re.DOTALL)
            folder.mkdir()
            (folder / "kustomization.yaml").write_text(shown, "utf-8")
        done = subprocess.run(
            ["kubectl", "kustomize", folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))

    return objects


Build = Callable[[str], list[Object]]


def _find(objects: list[Object], kind: str, name: str = "facegen") -> Object:
    [found] = [it for it in objects if it["kind"] == kind and it["metadata"]["name"] == name]
    return found


def _pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The pods of deployments, by name: their labels and specification."""
    for it in objects:
        if it["kind"] == "Deployment":
            yield it["metadata"]["name"], it["spec"]["template"]


def _container(objects: list[Object], deployment: str) -> Object:
    [container] = dict(_pods(objects))[deployment]["spec"]["containers"]
    return dict(container)


def _ports(container: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def _flags(objects: list[Object]) -> dict[str, str]:
    [found] = [
        it["data"]
        for it in objects
        if it["kind"] == "ConfigMap" and re.fullmatch(r"facegen-\w{10}", it["metadata"]["name"])
    ]
    return dict(found)


@pytest.mark.parametrize("overlay", ["gpu", "kserve", "own"])
def test_objects_fit_the_schemas_of_kubernetes(build: Build, overlay: str) -> None:
    for it in build(overlay):
        if it["kind"] not in _CUSTOM:
            kubernetes_validate.validate(it, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_all_lies_in_one_namespace_that_restricts_its_pods(build: Build, overlay: str) -> None:
    objects = build(overlay)
    labels = _find(objects, "Namespace")["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [it for it in objects if it["kind"] != "Namespace"]
    assert {it["metadata"].get("namespace") for it in others} == {"facegen"}


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_pods_keep_to_what_the_namespace_allows(build: Build, overlay: str) -> None:
    pods = dict(_pods(build(overlay)))

    assert pods.keys() >= {"facegen", "facegen-gateway"}
    for name, pod in pods.items():
        spec = pod["spec"]
        [container] = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert container.keys() >= {"startupProbe", "readinessProbe", "livenessProbe"}


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_images_are_those_of_compose(build: Build, overlay: str) -> None:
    services = {name: it["image"] for name, it in merged()["services"].items()}
    server, page = services["facegen"], services["studio"]
    if overlay == "gpu":
        server = "facegen:cuda"
    if overlay == "own":
        server, page = (f"registry.example.com/{it.split(':')[0]}:1.2.3" for it in (server, page))

    used = {name: pod["spec"]["containers"][0]["image"] for name, pod in _pods(build(overlay))}
    assert used.pop("facegen") == server
    assert used.pop("facegen-gateway") == services["envoy"]
    assert set(used.values()) <= {page}


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_variables_are_flags(build: Build, overlay: str) -> None:
    objects = build(overlay)
    known = {f"FACEGEN_SERVE_{name.upper()}" for name in inspect.signature(serve).parameters}

    assert _flags(objects).keys() <= known
    if overlay != "base":
        page = _container(objects, "facegen-studio")
        options = {
            f"FACEGEN_STUDIO_{name.upper()}" for name in inspect.signature(studio).parameters
        }
        options |= {f"FACEGEN_{name.upper()}" for name in inspect.signature(Connection).parameters}
        assert {it["name"] for it in page["env"]} <= options


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_ports_and_probes_are_the_servers(build: Build, overlay: str) -> None:
    objects = build(overlay)
    container, flags = _container(objects, "facegen"), _flags(objects)
    ports = _ports(container)

    assert flags["FACEGEN_SERVE_ADDRESS"] == f"0.0.0.0:{ports['grpc']}"
    assert flags["FACEGEN_SERVE_METRICS_ADDRESS"] == f"0.0.0.0:{ports['metrics']}"
    assert container["readinessProbe"]["grpc"] == {"port": ports["grpc"]}
    assert container["startupProbe"]["grpc"] == {"port": ports["grpc"]}
    assert container["livenessProbe"]["tcpSocket"]["port"] in ports


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_pod_lives_until_it_has_drained(build: Build, overlay: str) -> None:
    objects = build(overlay)
    flags = _flags(objects)
    pod = dict(_pods(objects))["facegen"]["spec"]

    delay_s = float(flags["FACEGEN_SERVE_DRAIN_DELAY_S"])
    drain_s = delay_s + float(flags["FACEGEN_SERVE_DRAIN_TIMEOUT_S"])
    assert pod["terminationGracePeriodSeconds"] > drain_s
    probe = pod["containers"][0]["readinessProbe"]
    assert delay_s > probe["periodSeconds"] * probe["failureThreshold"]


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_what_selects_pods_finds_some(build: Build, overlay: str) -> None:
    objects = build(overlay)
    pods = [pod["metadata"]["labels"] for _, pod in _pods(objects)]

    for it in objects:
        spec = it.get("spec", {})
        if it["kind"] == "Service":
            wanted = [spec["selector"]]
        elif it["kind"] in ("PodDisruptionBudget", "PodMonitor"):
            wanted = [spec["selector"]["matchLabels"]]
        elif it["kind"] == "Deployment":
            wanted = [spec["selector"]["matchLabels"]]
            assert wanted[0].items() <= spec["template"]["metadata"]["labels"].items()
        elif it["kind"] == "NetworkPolicy":
            wanted = [spec["podSelector"].get("matchLabels", {})]
        else:
            continue
        for labels in wanted:
            ours = not labels.keys() & {"serving.kserve.io/inferenceservice"}
            assert not ours or any(labels.items() <= pod.items() for pod in pods), it


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_references_lead_to_what_is_there(build: Build, overlay: str) -> None:
    objects = build(overlay)
    names = {(it["kind"], it["metadata"]["name"]) for it in objects}

    for _, pod in _pods(objects):
        [container] = pod["spec"]["containers"]
        ports = _ports(container)
        maps = [it["configMapRef"]["name"] for it in container.get("envFrom", [])]
        maps += [it["configMap"]["name"] for it in pod["spec"]["volumes"] if "configMap" in it]
        assert {("ConfigMap", name) for name in maps} <= names
        account = pod["spec"].get("serviceAccountName")
        assert account is None or ("ServiceAccount", account) in names
        mounted = {it["name"] for it in container["volumeMounts"]}
        assert mounted == {it["name"] for it in pod["spec"]["volumes"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = next(iter(v for v in container[probe].values() if isinstance(v, dict)))["port"]
            assert asked in {*ports, *ports.values()}


@pytest.mark.parametrize("overlay", ["base", "cpu", "kserve"])
def test_autoscaler_keeps_more_replicas_than_may_be_missing(build: Build, overlay: str) -> None:
    objects = build(overlay)
    scaler, budget = (
        _find(objects, kind)["spec"] for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget")
    )
    deployment = _find(objects, "Deployment")["spec"]

    assert scaler["scaleTargetRef"]["name"] == "facegen"
    assert budget["maxUnavailable"] < scaler["minReplicas"] <= scaler["maxReplicas"]
    assert "replicas" not in deployment  # or each `kubectl apply` would set it back
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert deployment["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]


def test_gpus_are_asked_for_and_not_scaled_by_cpu(build: Build) -> None:
    objects = build("gpu")
    container = _container(objects, "facegen")

    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert _flags(objects)["FACEGEN_SERVE_DEVICE"] == "cuda"
    assert not [it for it in objects if it["kind"] == "HorizontalPodAutoscaler"]
    replicas = _find(objects, "Deployment")["spec"]["replicas"]
    assert replicas > _find(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"]


def test_envoy_has_the_very_file_and_finds_the_replicas_by_its_name(build: Build) -> None:
    objects = build("base")
    text = ENVOY_CONFIG.read_text("utf-8")
    [config] = [
        it["data"]
        for it in objects
        if it["kind"] == "ConfigMap" and it["metadata"]["name"].startswith("envoy-")
    ]
    listened = {
        it["address"]["socket_address"]["port_value"]
        for it in _ENVOY["static_resources"]["listeners"]
    }

    assert config == {"envoy.yaml": text}
    service = _find(objects, "Service")
    assert service["spec"]["clusterIP"] == "None"
    assert "{address: facegen, port_value: 50051}" in text
    assert set(_ports(_container(objects, "facegen-gateway")).values()) == listened


def test_envoy_fails_its_probe_and_serves_on_before_it_ends(build: Build, tmp_path: Path) -> None:
    container = _container(build("base"), "facegen-gateway")
    [shell, flag, script] = container["lifecycle"]["preStop"]["exec"]["command"]
    path = container["readinessProbe"]["httpGet"]["path"]
    repository = write_plain_family(tmp_path / "models")

    with (
        replicas(repository, 1, folder=tmp_path) as [replica],
        envoy([replica.port], folder=tmp_path, concurrency=1) as front,
        Client(front.address) as client,
    ):
        assert _status(front.stats_address, path) == 200
        there = yaml.safe_load((tmp_path / "envoy.yaml").read_text("utf-8"))
        ports = [it["admin"]["address"]["socket_address"]["port_value"] for it in (_ENVOY, there)]
        here = script.replace(f"/{ports[0]} &&", f"/{ports[1]} &&")
        assert here != script
        here = here.replace("sleep 15", "true")
        done = subprocess.run([shell, flag, here], capture_output=True, text=True, timeout=30)

        assert "200 OK" in done.stdout, done
        wait_until(lambda: _status(front.stats_address, path) == 503, "the failing probe")
        assert len(client.generate(2, seed=1).faces) == 2
        assert len(client.generate(2, seed=2).faces) == 2
    pod = dict(_pods(build("base")))["facegen-gateway"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 15


def _status(address: str, path: str) -> int:
    connection = HTTPConnection(address, timeout=5)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_nobody_speaks_unless_it_is_allowed(build: Build, overlay: str) -> None:
    objects = build(overlay)
    policies = {
        it["metadata"]["name"]: it["spec"] for it in objects if it["kind"] == "NetworkPolicy"
    }

    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    [rule] = policies["facegen"]["ingress"]
    [peer] = rule["from"]
    assert peer == {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "envoy"}}}
    # No rule may be open: without peers it means everybody.
    for name, policy in policies.items():
        for rule in policy.get("ingress", []):
            assert rule["from"], name
            assert rule["ports"], name
        for rule in policy.get("egress", []):
            assert rule["to"], name
            assert rule["ports"], name


def test_page_may_call_the_gateway(build: Build) -> None:
    objects = build("cpu")
    pod = dict(_pods(objects))["facegen-studio"]
    [server] = [
        it["value"] for it in pod["spec"]["containers"][0]["env"] if it["name"] == "FACEGEN_SERVER"
    ]

    name, _, port = server.partition(":")
    assert _find(objects, "Service", name)["spec"]["ports"][0]["port"] == int(port)
    assert pod["metadata"]["labels"]["facegen.client"] == "true"


def test_kserve_serves_the_repository_to_our_server(build: Build) -> None:
    objects = build("kserve")
    predictor = _find(objects, "InferenceService", "facegen-models")["spec"]["predictor"]
    model = predictor["model"]
    service = _find(objects, "Service", "facegen-triton")["spec"]
    [port] = service["ports"]

    # KServe's runtime starts Triton with --grpc-port=9000 and --model-store=/mnt/models.
    assert model["runtime"] == "kserve-tritonserver"
    assert model["modelFormat"] == {"name": "triton", "version": "2"}
    assert model["protocolVersion"] == "grpc-v2"
    assert model["ports"] == [{"name": "h2c", "containerPort": 9000, "protocol": "TCP"}]
    assert model["storageUri"].startswith("pvc://")
    assert port["targetPort"] == 9000
    assert service["selector"]["serving.kserve.io/inferenceservice"] == "facegen-models"
    assert _flags(objects)["FACEGEN_SERVE_ENGINE"] == f"triton://facegen-triton:{port['port']}"
    triton = merged()["services"]["triton"]["image"].partition(":")[2]
    assert model["runtimeVersion"] == triton


def test_monitors_scrape_what_compose_scrapes_under_the_same_jobs(build: Build) -> None:
    objects = build("own")
    text = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8")
    jobs = {it["job_name"]: it for it in yaml.safe_load(text)["scrape_configs"]}
    pods = dict(_pods(objects))

    for monitor, deployment in (("facegen", "facegen"), ("facegen-gateway", "facegen-gateway")):
        spec = _find(objects, "PodMonitor", monitor)["spec"]
        [endpoint] = spec["podMetricsEndpoints"]
        job = pods[deployment]["metadata"]["labels"][spec["jobLabel"]]
        [discovery] = jobs[job]["dns_sd_configs"]
        ports = _ports(_container(objects, deployment))
        assert ports[endpoint["port"]] == discovery["port"]
        assert endpoint["path"] == jobs[job].get("metrics_path", "/metrics")
        assert endpoint["interval"] == "15s"
    [dashboard] = [
        it for it in objects if it["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
    ]
    assert json.loads(dashboard["data"]["facegen.json"])["uid"] == "facegen"
