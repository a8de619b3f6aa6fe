"""The course of a training, from its table of metrics."""

import csv
import math
from pathlib import Path

from facegen.training.config import read_toml
from facegen.training.pages import Line, line_chart
from facegen.training.recipes import MeshRecipe, TrainConfig
from facegen.training.run import RunPaths

__all__ = ["curves", "read_table"]

_CHARTS = {
    "loss": "Loss",
    "reconstruction": "Reconstruction term of the loss",
    "kl": "KL of the posteriors, nats",
    "psnr": "PSNR, dB",
    "vertex_error": "Distance of vertices, mm",
}
_SPLITS = {"train": 1, "validation": 2}


def read_table(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv, one an epoch; what a row does not have is left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    merged: dict[float, dict[str, float]] = {}
    for row in rows:
        merged.setdefault(row.get("epoch", float(len(merged))), {}).update(row)
    return [merged[epoch] for epoch in sorted(merged)]


def curves(paths: RunPaths) -> str:
    """Charts of a run and of those that it started from, train beside validation.

    Args:
        paths: The run folder; nothing is drawn of one without a table.

    Returns:
        HTML.
    """
    rows, starts = _whole_course(paths)
    charts = []
    for name, title in _CHARTS.items():
        lines = []
        for split, color in _SPLITS.items():
            values = [row.get(f"{split}/{name}", math.nan) for row in rows]
            if any(math.isfinite(it) and it != 0.0 for it in values):
                lines.append(Line(split, range(1, len(rows) + 1), values, color))
        if lines:
            charts.append(line_chart(lines, title=title, x_title="epoch", marks=starts))
    return f"<div class=charts>{''.join(charts)}</div>" if charts else ""


def _whole_course(paths: RunPaths) -> tuple[list[dict[str, float]], list[float]]:
    """All rows, and between which epochs one run went on from another."""
    rows = read_table(paths.table)
    starts: list[float] = []
    seen = {paths.folder.resolve()}
    while paths.config.is_file():
        config = read_toml(paths.config.read_text("utf-8"), source=str(paths.config))
        start = config.start_from if isinstance(config, TrainConfig | MeshRecipe) else ""
        # Named as it was given to the training, or a neighbour of this run.
        folders = [Path(start), paths.folder.resolve().parent / Path(start).name] if start else []
        earlier = next((it for it in folders if RunPaths(it).table.is_file()), None)
        if earlier is None or earlier.resolve() in seen:
            break
        seen.add(earlier.resolve())
        paths = RunPaths(earlier)
        before = read_table(paths.table)
        starts = [it + len(before) for it in (0.5, *starts)]
        rows = before + rows
    return rows, starts
