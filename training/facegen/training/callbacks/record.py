"""run.json: where, when and how long a run trained."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["Record", "write_json"]


class Record(Callback):
    """Keeps a run's facts up to date after every epoch.

    Args:
        path: Where run.json goes.
        facts: What does not change during the run.
        seconds: Time that earlier parts of the run took.
    """

    def __init__(self, path: Path, facts: dict[str, Any], *, seconds: float = 0.0) -> None:
        self.path = path
        self.facts = facts
        self.earlier_seconds = seconds
        self.begun = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch and the time so far."""
        self.write(epochs=trainer.current_epoch + 1)

    def write(self, **changes: Any) -> None:
        """Change some facts and write all."""
        seconds = round(self.earlier_seconds + time.monotonic() - self.begun, 1)
        self.facts = self.facts | changes | {"seconds": seconds}
        write_json(self.path, self.facts)


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one move, so that a reader never meets half a file."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    temporary.replace(path)
