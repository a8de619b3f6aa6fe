"""What commands tell people: estimates, what came of a run, what a check found."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from facegen.serving.rendering.probe import Estimate
    from facegen.serving.rendering.verify import Verification

__all__ = [
    "duration_text",
    "pace_text",
    "print_end",
    "print_estimate",
    "print_verification",
    "size_text",
    "verifying",
]


@contextmanager
def verifying(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of the bytes that are checked; give what is told of them."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    hidden = not (shown and console.is_terminal)
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task("verifying", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_verification(found: "Verification", data_set: str, console: Console) -> None:
    """Tell people what a check found."""
    for problem in found.problems:
        console.print(Text.assemble(("wrong:", "bold red"), f" {problem}"))
    if found.problem_count > len(found.problems):
        console.print(f"and {found.problem_count - len(found.problems):,} more")
    if found.remedy:
        console.print(f"To mend it, {found.remedy}.")
    counts = (
        f"{found.row_count:,} rows in {found.shard_count:,} shards, {size_text(found.size_bytes)}"
    )
    if found.complete:
        console.print(f"[bold green]all right[/] {data_set}: {counts}")
    else:
        missing = f", {found.missing_count:,} shards missing" if found.missing_count else ""
        problems = f"{found.problem_count:,} problems{missing}"
        console.print(f"[bold red]not right[/] {data_set}: {problems}; right are {counts}")


def print_estimate(found: "Estimate", unit: str, console: Console) -> None:
    """Tell people what a job takes."""
    room = "" if found.free_bytes is None else f", {size_text(found.free_bytes)} are free"
    machines = f" on {found.machine_count} machines" if found.machine_count > 1 else ""
    console.print(
        f"{found.item_count:,} {unit} take about [bold]{duration_text(found.duration_s)}[/]"
        f"{machines} and [bold]{size_text(found.size_bytes)}[/]{room}"
    )
    if found.cost is not None:
        console.print(f"they cost about [bold]{found.cost:,.2f}[/]")
    console.print(
        f"[dim]{found.probed_count:,} {unit} were rendered for this, "
        f"{pace_text(found.items_per_s)} {unit}/s[/]"
    )
    if found.fault_count or found.rejected_count:
        console.print(
            f"[dim]of these, {found.fault_count:,} failed and where left {found.rejected_count:,}"
            f" rows out; about {found.row_count:,} rows come of all[/]"
        )
    if found.free_bytes is not None and found.size_bytes > found.free_bytes:
        console.print("[bold red]They do not fit.[/]")


def print_end(manifest: Mapping[str, Any], out: str, console: Console) -> None:
    """Tell people what came of a run."""
    counts, timings = manifest["counts"], manifest["timings"]
    console.print(
        f"[bold]{counts['rows']:,}[/] rows in [bold]{out}[/] [dim]· {counts['shards']:,} shards, "
        f"{size_text(counts['bytes'])}, {duration_text(timings['duration_s'])}, "
        f"{pace_text(timings['items_per_s'])}/s[/]"
    )
    if counts["rejected"]:
        console.print(f"{counts['rejected']:,} rows were left out by where")
    if counts["errors"]:
        console.print(f"[red]{counts['errors']:,} errors[/], in {out}/errors.jsonl")


def pace_text(items_per_s: float) -> str:
    """Write how many in a second, for people."""
    return f"{items_per_s:,.0f}" if items_per_s >= 10 else f"{items_per_s:.2g}"


def duration_text(seconds: float) -> str:
    """Write a time for people, in its two largest units."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"


def size_text(size_bytes: float) -> str:
    """Write a size for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"
