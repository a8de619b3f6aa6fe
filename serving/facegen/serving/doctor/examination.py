"""The whole examination."""

import os
from collections.abc import Callable, Mapping

from facegen.errors import FacegenError
from facegen.serving.config import ServerConfig
from facegen.serving.doctor.checks import as_finding, check_graphs, check_machine, check_packages
from facegen.serving.doctor.environment import config_from_environment
from facegen.serving.doctor.graphs import examine_graphs
from facegen.serving.doctor.machine import examine_machine
from facegen.serving.doctor.network import check_network
from facegen.serving.doctor.report import Finding, GraphReport, Report

__all__ = ["examine"]


def examine(
    overrides: Mapping[str, str],
    *,
    probe_s: float,
    say: Callable[[str], None],
    environment: Mapping[str, str] = os.environ,
) -> Report:
    """Examine this machine as a server with these settings would find it.

    Args:
        overrides: Settings that win over the environment's.
        probe_s: Seconds for each graph; 0: none is probed.
        say: Told what is about to happen.
        environment: Where the other settings come from.
    """
    config, findings = config_from_environment(environment, overrides)
    machine = examine_machine(config)
    findings += [*check_packages(), *check_machine(config, machine), *check_network(config)]
    graphs: list[GraphReport] = []
    try:
        graphs += examine_graphs(config, probe_s=probe_s, say=say)
    except FacegenError as error:
        findings.append(as_finding(error))
    findings += check_graphs(graphs, probed=probe_s > 0)
    unique: list[Finding] = list(dict.fromkeys(findings))
    return Report(
        healthy=all(finding.severity == "note" for finding in unique),
        machine=machine,
        engine=config.engine,
        settings=config.model_dump(mode="json"),
        changed=_changed(config),
        graphs=tuple(graphs),
        findings=tuple(unique),
    )


def _changed(config: ServerConfig) -> tuple[str, ...]:
    defaults = ServerConfig()
    return tuple(
        name
        for name in ServerConfig.model_fields
        if getattr(config, name) != getattr(defaults, name)
    )
