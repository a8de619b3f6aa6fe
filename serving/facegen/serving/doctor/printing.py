"""Prints a report for people."""

from collections.abc import Iterable

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from facegen.serving.doctor.report import Finding, GraphReport, MachineReport, Report

__all__ = ["print_report"]

_SIGNS = {"wrong": ("✗", "bold red"), "note": ("•", "yellow")}
_GIB = 2**30
_LIMITS = (
    "max_batch_rows", "max_queue_rows", "max_concurrent_calls", "max_connection_streams",
    "max_client_calls", "max_client_rate", "max_message_bytes", "max_images", "max_picture_pixels",
    "max_request_pixels",
)  # fmt: skip
# What 0 means, where it is no number.
_ZERO = {"max_batch_rows": "measured", "max_client_calls": "none", "max_client_rate": "none"}


def print_report(report: Report, console: Console) -> None:
    """Print a report, in as many columns as the console has."""
    sections: list[tuple[str, RenderableType]] = [
        ("Machine", _facts(_machine_facts(report.machine))),
        ("Limits and changed settings", _facts(_limits(report))),
        (f"Models of {report.engine}", _graphs(report.graphs)),
        ("Findings", _findings(report.findings)),
    ]
    for title, body in sections:
        console.print(Text(title, style="bold"))
        console.print(body)
        console.print()


def _machine_facts(machine: MachineReport) -> Iterable[tuple[str, str]]:
    quota = "no quota" if machine.cpu_quota is None else f"a quota of {machine.cpu_quota:g}"
    limit = machine.memory_limit_bytes
    yield "system", machine.platform
    yield "processor", machine.cpu
    yield (
        "CPUs",
        f"{machine.cpus_present} present, {machine.cpus_allowed} allowed, {quota}: "
        f"{_count(machine.threads, 'thread')} to run models",
    )
    yield (
        "memory",
        f"{machine.memory_available_bytes / _GIB:.1f} of {machine.memory_bytes / _GIB:.1f} GiB "
        + ("available" if limit is None else f"available, a limit of {limit / _GIB:.1f} GiB"),
    )
    yield "open files", f"{machine.open_files:,} at most"
    yield "GPUs", ", ".join(machine.gpus) or "none"
    yield "providers", ", ".join(machine.providers)
    yield "versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())


def _limits(report: Report) -> Iterable[tuple[str, str]]:
    for name in _LIMITS:
        value = report.settings[name]
        yield _flag(name), _ZERO[name] if not value and name in _ZERO else _number(value)
    for name in report.changed:
        if name not in _LIMITS:
            yield _flag(name), str(report.settings[name])


def _graphs(graphs: tuple[GraphReport, ...]) -> RenderableType:
    if not graphs:
        return Text("  none", style="dim")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    table.add_column("version", justify="right")
    table.add_column("state")
    sizes = sorted({speed.rows for graph in graphs for speed in graph.speeds})
    for size in sizes:
        table.add_column(_count(size, "row"), justify="right", no_wrap=True)
    if sizes:
        table.add_column("batch", justify="right", no_wrap=True)
        table.caption = (
            "rows/s in the graph by one thread, by rows of a call; batch: rows run at once"
        )
        table.caption_justify = "left"
    for graph in graphs:
        table.add_row(*_graph_row(graph, sizes))
    return table


def _graph_row(graph: GraphReport, sizes: list[int]) -> Iterable[RenderableType]:
    speeds = {speed.rows: speed.rows_per_s for speed in graph.speeds}
    yield Text(graph.name)
    yield graph.version
    yield Text(graph.state, style="green" if graph.state == "READY" else "bold red")
    for size in sizes:
        yield f"{speeds[size]:,.0f}" if size in speeds else ""
    if sizes:
        yield str(graph.max_batch_rows) if graph.speeds else ""


def _findings(findings: tuple[Finding, ...]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    if all(finding.severity == "note" for finding in findings):
        table.add_row(Text("  ✓", style="bold green"), "nothing is wrong")
    for finding in sorted(findings, key=lambda finding: finding.severity, reverse=True):
        sign, style = _SIGNS[finding.severity]
        remedy = Text(f"→ {finding.remedy}", style="dim")
        table.add_row(Text(f"  {sign}", style=style), Text(finding.problem))
        table.add_row("", remedy)
    return table


def _facts(facts: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts:
        table.add_row(f"  {name}", Text(fact))
    return table


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
