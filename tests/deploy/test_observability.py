import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from benchmarks.replicas import envoy, free_ports, replicas, wait_until
from facegen.client import Client
from facegen.serving.config import ServerConfig
from tests.deploy.compose_files import ROOT, merged
from tests.deploy.prometheus import FOLDER, ask, run_prometheus
from tests.serving.family_graphs import write_plain_family

_PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
_DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/facegen.json").read_text("utf-8"))
_PANELS = [panel for panel in _DASHBOARD["panels"] if panel["type"] != "row"]
_QUERIES = {
    f"{panel['title']}-{panel['id']}{target['refId']}": target["expr"]
    for panel in _PANELS
    for target in panel["targets"]
}
_VARIABLES = {it["name"]: it["definition"] for it in _DASHBOARD["templating"]["list"]}


@dataclass(frozen=True, slots=True)
class _Deployment:
    """A Prometheus that has scraped a server and the Envoy in front of it, under calls.

    Attributes:
        api: Prometheus's.
        metrics: What the server's own page of metrics tells.
    """

    api: str
    metrics: str


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Deployment]:
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus here (Debian's package prometheus)")
    folder = tmp_path_factory.mktemp("observability")
    repository = write_plain_family(tmp_path_factory.mktemp("models"))
    [metrics_port] = free_ports(1)
    flags = ("--metrics-address", f"127.0.0.1:{metrics_port}", "--threads", "1")
    with (
        replicas(repository, 1, folder=folder, flags=flags) as [replica],
        envoy([replica.port], folder=folder, concurrency=1) as front,
        Client(front.address) as client,
    ):
        targets = {"facegen": f"127.0.0.1:{metrics_port}", "envoy": front.stats_address}
        with run_prometheus(targets, folder) as api:

            def is_scraped() -> bool:
                client.generate(20, seed=1)
                # Envoy counts in histograms each five seconds, and so is the last to have numbers.
                grown = "sum(increase(envoy_cluster_upstream_rq_time_count[30s])) > 0"
                return bool(ask(f"{api}/query", query=grown)["result"])

            wait_until(is_scraped, "scraping")
            with urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as page:
                metrics = page.read().decode()
            yield _Deployment(api, metrics)


def _substituted(query: str) -> str:
    """Put in what Grafana does, for the first scrapes of a server."""
    query = query.replace("$__rate_interval", "30s")
    for name in _VARIABLES:
        query = query.replace(f"${name}", ".*")
    assert "$" not in query
    return query


@pytest.mark.parametrize("query", _QUERIES.values(), ids=_QUERIES)
def test_query_of_the_dashboard_is_answered_with_numbers(
    deployment: _Deployment, query: str
) -> None:
    result = ask(f"{deployment.api}/query", query=_substituted(query))["result"]

    if 'code!="OK"' in query:  # no call has failed: there is no such series to divide
        assert result == []
        return
    assert result
    # A quantile of calls, of which there were some, is a number too.
    assert all(float(it["value"][1]) >= 0 for it in result), result


@pytest.mark.parametrize("name", sorted(_VARIABLES))
def test_variable_of_the_dashboard_has_values(deployment: _Deployment, name: str) -> None:
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", _VARIABLES[name])
    assert found is not None

    values = ask(f"{deployment.api}/label/{found[2]}/values", **{"match[]": found[1]})

    assert values


def test_what_the_dashboard_shows_is_what_was_called(deployment: _Deployment) -> None:
    calls = 'sum(facegen_calls_total{method="/facegen.v1.FaceService/Generate", code="OK"})'
    rows = 'sum(nv_inference_count{model=~".*-decoder"})'

    def agree() -> bool:  # once there is a scrape with no call under way
        answers = [ask(f"{deployment.api}/query", query=query) for query in (calls, rows)]
        called, drawn = (int(answer["result"][0]["value"][1]) for answer in answers)
        return 0 < called * 20 == drawn

    wait_until(agree, "a scrape after the last call")


def test_alerts_are_evaluated_and_silent(deployment: _Deployment) -> None:
    [group] = ask(f"{deployment.api}/rules")["groups"]

    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert {rule["state"] for rule in group["rules"]} == {"inactive"}


def test_every_metric_that_is_asked_for_exists(deployment: _Deployment) -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    asked += _QUERIES.values()
    known = ask(f"{deployment.api}/label/__name__/values")

    names = set(re.findall(r"\b((?:facegen|nv|process|envoy)_[a-z_]+)\{", " ".join(asked)))
    assert len(names) > 20
    assert names <= set(known)
    assert {name for name in names if not name.startswith("envoy")} <= set(
        re.findall(r"^([a-z_]+)", deployment.metrics, re.MULTILINE)
    )


@pytest.mark.parametrize(
    "command",
    [("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yml")],
    ids=lambda command: command[0],
)
def test_promtool_finds_no_fault(command: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian's package prometheus)")

    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_firing_and_silent_and_told() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))
    tests = yaml.safe_load((FOLDER / "alerts.test.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]

    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert names == {case["alertname"] for case in cases if "exp_alerts" in case}
    assert names == {case["alertname"] for case in cases if "exp_alerts" not in case}
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    assert names == set(re.findall(r"^\| (Facegen\w+) \|", page, re.MULTILINE))


def test_queue_alert_knows_the_limit_of_the_queue() -> None:
    text = (FOLDER / "alerts.yml").read_text("utf-8")
    limit = int(ServerConfig().max_queue_rows * 0.8)

    assert f'facegen_queue_rows{{job="facegen"}}) > {limit}\n' in text


def test_jobs_are_services_with_the_ports_that_they_tell_metrics_on() -> None:
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    services = merged()["services"]

    found = {}
    for job in settings["scrape_configs"]:
        [discovery] = job["dns_sd_configs"]
        assert discovery["names"] == [job["job_name"]]
        assert job["job_name"] in services
        found[job["job_name"]] = discovery["port"]
    address = services["facegen"]["environment"]["FACEGEN_SERVE_METRICS_ADDRESS"]
    assert address == f"0.0.0.0:{found['facegen']}"
    assert set(re.findall(r'job="(\w+)"', " ".join(_QUERIES.values()))) <= set(found)


def test_panels_have_names_units_and_room() -> None:
    panels = _DASHBOARD["panels"]
    places = [panel["gridPos"] for panel in panels]

    assert len({panel["id"] for panel in panels}) == len(panels) > 20
    assert len({panel["title"] for panel in _PANELS}) == len(_PANELS)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in _PANELS)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)


def test_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    [source] = yaml.safe_load((_PROVISIONING / "datasources/prometheus.yaml").read_text("utf-8"))[
        "datasources"
    ]
    [provider] = yaml.safe_load((_PROVISIONING / "dashboards/facegen.yaml").read_text("utf-8"))[
        "providers"
    ]
    services = merged()["services"]
    mounts = dict(mount.split(":")[:2] for mount in services["grafana"]["volumes"])

    asked = {panel["datasource"]["uid"] for panel in _PANELS}
    asked |= {target["datasource"]["uid"] for panel in _PANELS for target in panel["targets"]}
    asked |= {it["datasource"]["uid"] for it in _DASHBOARD["templating"]["list"]}
    assert asked == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert provider["options"]["path"] in mounts.values()
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"


def test_nobody_can_change_anything_in_grafana() -> None:
    settings = merged()["services"]["grafana"]["environment"]

    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert settings["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert _DASHBOARD["editable"] is False


def test_collector_has_what_its_pipelines_name_and_is_where_the_server_sends() -> None:
    settings = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text("utf-8"))
    services = merged()["services"]

    for pipeline in settings["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) == settings[kind].keys()
        assert pipeline["processors"][0] == "memory_limiter"
    port = settings["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
    endpoint = services["facegen"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert endpoint.endswith(f"http://otel-collector:{port}}}")
    host = settings["exporters"]["otlp/jaeger"]["endpoint"].partition(":")[0]
    assert host in services
    limit_mb = services["otel-collector"]["deploy"]["resources"]["limits"]["memory"]
    assert settings["processors"]["memory_limiter"]["limit_mib"] < int(limit_mb.removesuffix("M"))


def test_traces_are_none_or_go_to_the_collector() -> None:
    environment: dict[str, Any] = merged()["services"]["facegen"]["environment"]

    assert environment["FACEGEN_SERVE_TRACES"] == "${FACEGEN_TRACES:-none}"
    assert ServerConfig(traces="otlp").traces == "otlp"
