"""A real Prometheus with our configuration, of which only the targets and the pace are others."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from benchmarks.replicas import free_ports, wait_until
from tests.deploy.compose_files import ROOT

__all__ = ["FOLDER", "ask", "run_prometheus"]

FOLDER = ROOT / "deploy" / "prometheus"


@contextmanager
def run_prometheus(targets: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Run Prometheus until the end of the block; gives the address of its interface.

    Args:
        targets: Host and port, by job; jobs that are not named have none, as where a name is not
            there.
        folder: Where its configuration, its data and its log go.
    """
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(FOLDER / name) for name in settings["rule_files"]]
    for job in settings["scrape_configs"]:
        del job["dns_sd_configs"]
        found = [targets[job["job_name"]]] if job["job_name"] in targets else []
        job["static_configs"] = [{"targets": found}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings), "utf-8")
    [port] = free_ports(1)
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: _is_ready(port), f"Prometheus' start ({folder}/prometheus.log)")
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        process.wait(timeout=30)


def ask(url: str, **query: str) -> Any:
    """Ask its interface; gives the data of the answer."""
    with urlopen(f"{url}?{urlencode(query)}", timeout=10) as answer:
        body = json.load(answer)
    assert body["status"] == "success", body
    return body["data"]


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, ConnectionError):
        return False
