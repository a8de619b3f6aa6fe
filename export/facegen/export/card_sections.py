"""What the cards of all kinds of families have in common, in Markdown."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from facegen.export.report import GraphReport, error_text, times_text
from facegen.training import ExpressionRecipe, TrainConfig, load_recipe, preset_names
from facegen.training.recipes import MeshRecipe

__all__ = [
    "data_counts",
    "graphs_section",
    "machine_words",
    "not_evaluated",
    "table_row",
    "table_text",
    "training_command",
    "training_time",
]

_MACHINE_WORDS = {
    "device": "{}",
    "threads": "{} threads",
    "precision": "{}",
    "torch": "PyTorch {}",
    "lightning": "Lightning {}",
}

_MEASURED = {
    False: """\
Milliseconds an image with ONNX Runtime on one thread of the exporting machine, by batch size; in
brackets the graph without rewrites. Level error: how far a pixel is from PyTorch's on validation
pictures, of 255: the most, and the mean. Every row has the same bits in every batch size.""",
    True: """\
Milliseconds a mesh with ONNX Runtime on one thread of the exporting machine, by batch size; in
brackets the graph without rewrites. Error: how far a coordinate of a reconstruction is from
PyTorch's on validation meshes: the most, and the mean. Every row has the same bits in every batch
size.""",
}
"""What the columns of the graphs mean, by whether errors are in millimetres."""


def data_counts(seen: Mapping[str, Any]) -> str:
    """How many pictures a run saw: a sentence after a blank; empty if it does not say."""
    counts = [
        f"{seen[key]:,} {verb}"
        for key, verb in (("train_pictures", "to train"), ("validation_pictures", "to validate"))
        if key in seen
    ]
    return f" Pictures: {', '.join(counts)}." if counts else ""


def machine_words(seen: Mapping[str, Any]) -> str:
    """The machine and the programs of a run."""
    words = [text.format(seen[key]) for key, text in _MACHINE_WORDS.items() if key in seen]
    return ", ".join(words) or "unknown"


def training_time(seen: Mapping[str, Any], *, start_from: str = "") -> str:
    """How long a run took, the one that it started from included."""
    if "seconds" not in seen:
        return "unknown"
    minutes = (float(seen["seconds"]) + float(seen.get("start_seconds", 0.0))) / 60
    return f"{minutes:.1f} minutes" + (f", those of {start_from} included" if start_from else "")


def training_command(config: TrainConfig | ExpressionRecipe | MeshRecipe) -> str:
    """The command that trains a recipe: the nearest preset, and what differs from it."""
    wanted = dict(_flat(config.model_dump()))

    def differing(preset: str) -> list[str]:
        usual = dict(_flat(load_recipe(preset).model_dump()))
        # Where data and other runs lie is the machine's.
        skipped = ("data.root", "description", "guides")
        return [key for key in wanted if wanted[key] != usual.get(key) and key not in skipped]

    preset = min(preset_names(), key=lambda name: len(differing(name)))
    words = ["facegen train", preset]
    if wanted["data.reader"].startswith("folder"):
        words.append("--images FOLDER")
    words += [
        f"--set {shlex.quote(f'{key}={_toml(wanted[key])}')}"
        for key in differing(preset)
        if key != "data.reader" or wanted[key] != "folder"
    ]
    return " \\\n  ".join(words) if len(words) > 4 else " ".join(words)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _toml(value: object) -> str:
    """A value as TOML; strings bare, as --set takes them."""
    return value if isinstance(value, str) else json.dumps(value)


def not_evaluated(command: str) -> str:
    """The section of quality for a run that was not measured."""
    return f"""\
## Quality

Not evaluated. Measure the run with `{command}` and export it again.
"""


def graphs_section(graphs: Sequence[GraphReport]) -> str:
    """The section of the graphs, as measured."""
    sizes = sorted({size for graph in graphs for size in graph.times_ms})
    in_mm = any(graph.in_mm for graph in graphs)
    error = "error in mm" if in_mm else "level error"
    rows = [["graph", "form", "MB", error, *(f"ms at {size}" for size in sizes)]]
    for graph in graphs:
        times = (times_text(graph, size) for size in sizes)
        rows.append([graph.name, graph.form, f"{graph.size / 1e6:.2f}", error_text(graph), *times])
    return f"""\
## Graphs

{table_text(rows)}

{_MEASURED[in_mm]}
"""


def table_row(cells: Iterable[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(table_row(line) for line in lines)
