"""What a run tells while it goes: a bar for people, lines of JSON for machines."""

import json
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
)
from rich.text import Text

from facegen.serving.errors import WorkerLostError
from facegen.serving.rendering.output.records import ShardOrder, ShardRecord
from facegen.serving.rendering.printing import duration_text, pace_text
from facegen.serving.rendering.run import State

__all__ = ["Bar", "JsonEvents"]

_EVENT_S = 1.0
_MOST_SHOWN_FAULTS = 10


class Bar:
    """A progress bar on standard error, and the first errors above it; use as a context manager.

    Args:
        unit: What is counted.
    """

    def __init__(self, unit: str) -> None:
        self._console = Console(stderr=True)
        self._shown = self._left_out = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            _StateColumn(unit),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("rendering", total=None)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
        if self._left_out:
            self._print("error", "red", f"{self._left_out} more, not shown")

    def moved(self, state: State) -> None:
        """Move the bar."""
        self._progress.update(
            self._task, completed=state.done_count, total=state.item_count, state=state
        )

    def finished(self, record: ShardRecord, state: State) -> None:
        """Show the errors of a shard, the first ones."""
        for fault in record.faults:
            if self._shown == _MOST_SHOWN_FAULTS:
                self._left_out += 1
                continue
            self._shown += 1
            source = fault.source or f"index {fault.index}"
            self._print("error", "red", f"{source}: {fault.message}")

    def lost(self, order: ShardOrder, error: WorkerLostError) -> None:
        """Show that a worker was lost."""
        self._print("warning", "yellow", f"{error}; shard {order.number} is begun again")

    def _print(self, kind: str, colour: str, message: str) -> None:
        text = Text.assemble((f"{kind}:", f"bold {colour}"), f" {message}")
        self._progress.console.print(text, soft_wrap=True)


class JsonEvents:
    """Events on standard output, an object of JSON a line; use as a context manager."""

    def __init__(self) -> None:
        self._told_s = 0.0

    def __enter__(self) -> "JsonEvents":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def moved(self, state: State) -> None:
        """Tell how far the run is, once a second."""
        if state.elapsed_s - self._told_s >= _EVENT_S:
            self._told_s = state.elapsed_s
            self.tell("progress", **_state(state))

    def finished(self, record: ShardRecord, state: State) -> None:
        """Tell of a shard that is done, and of each of its errors."""
        for fault in record.faults:
            self.tell("error", shard=record.number, **asdict(fault))
        facts = record.as_json()
        del facts["faults"]
        self.tell("shard", **facts, fault_count=len(record.faults), **_state(state))

    def lost(self, order: ShardOrder, error: WorkerLostError) -> None:
        """Tell that a worker was lost."""
        self.tell("lost", shard=order.number, message=str(error))

    def tell(self, event: str, **facts: Any) -> None:
        """Print an event."""
        json.dump({"event": event, **facts}, sys.stdout, ensure_ascii=False, default=str)
        sys.stdout.write("\n")
        sys.stdout.flush()


class _StateColumn(ProgressColumn):
    """The pace, what is left, and how many errors there are."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        state: State | None = task.fields.get("state")
        if state is None:
            return Text("")
        text = Text(f"{pace_text(state.items_per_s)} {self._unit}/s", style="progress.data.speed")
        if state.left_s is not None:
            text.append(f"  {duration_text(round(state.left_s))} left", style="progress.remaining")
        if state.worker_count > 1:
            text.append(f"  {state.worker_count} workers")
        if state.fault_count:
            text.append(f"  {state.fault_count} errors", style="red")
        return text


def _state(state: State) -> dict[str, Any]:
    return {
        "done": state.done_count,
        "total": state.item_count,
        "errors": state.fault_count,
        "shards_done": state.done_shard_count,
        "shards": state.shard_count,
        "workers": state.worker_count,
        "items_per_s": round(state.items_per_s, 1),
        "eta_s": None if state.left_s is None else round(state.left_s, 1),
    }
