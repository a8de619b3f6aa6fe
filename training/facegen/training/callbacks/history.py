"""Every epoch's numbers, in the checkpoint and in metrics.csv, and the curves drawn from them."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["History", "draw_curves"]


class History(Callback):
    """Keeps one row of metrics an epoch.

    Its rows travel in the checkpoint, so that a resumed run has every epoch once, in file and plot.
    Lightning's CSVLogger would delete the earlier rows on a resume.

    Args:
        table: Where metrics.csv goes.

    Attributes:
        rows: One an epoch, of every metric by name.
    """

    def __init__(self, table: Path) -> None:
        self.table = table
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row and rewrite the table."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **values}
        self.rows = [r for r in self.rows if r["epoch"] < trainer.current_epoch] + [row]
        if trainer.is_global_zero:
            self._write()

    def _write(self) -> None:
        names = sorted({name for r in self.rows for name in r}, key=_column)
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self.table.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.table.with_suffix(".tmp")
        temporary.write_text(text.getvalue(), "utf-8")
        temporary.replace(self.table)

    def state_dict(self) -> dict[str, Any]:
        """The rows, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows back from a checkpoint."""
        self.rows = list(state_dict["rows"])


def draw_curves(rows: list[dict[str, float]], path: Path, *, panels: Mapping[str, str]) -> None:
    """Draw train and validation curves, every metric apart.

    Args:
        rows: One an epoch: "epoch" and "train/…" or "validation/…" values.
        path: The PNG to write.
        panels: Titles of the metrics to draw, where the rows have them.
    """
    names = {name for row in rows for name in row}
    drawn = [(key, title) for key, title in panels.items() if _drawn(key, names, rows)]
    figure = Figure(figsize=(4.5 * len(drawn), 3.6), layout="constrained")
    for index, (key, title) in enumerate(drawn, start=1):
        axes = figure.add_subplot(1, len(drawn), index)
        for split, color in (("train", "tab:blue"), ("validation", "tab:orange")):
            points = [(r["epoch"] + 1, r[f"{split}/{key}"]) for r in rows if f"{split}/{key}" in r]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, label=split, marker=".")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _drawn(key: str, names: set[str], rows: list[dict[str, float]]) -> bool:
    if key == "kl":  # an autoencoder has none
        return any(row.get("train/kl") for row in rows)
    return bool({f"train/{key}", f"validation/{key}"} & names)


def _column(name: str) -> tuple[int, str]:
    return {"epoch": 0, "step": 1}.get(name, 2), name
