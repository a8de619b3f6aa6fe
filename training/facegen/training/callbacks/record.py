"""run.json: where, when and how long a run trained."""

import json
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["Record", "run_facts", "write_json"]


class Record(Callback):
    """Keeps a run's facts up to date after every epoch.

    Args:
        path: Where run.json goes.
        facts: What does not change during the run.
        resumed: The run goes on from what the file says of it.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], *, resumed: bool) -> None:
        earlier: dict[str, Any] = {}
        if resumed and path.is_file():
            earlier = json.loads(path.read_text("utf-8"))
        self.path = path
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.facts = {"started": started, **earlier, **facts}
        self.earlier_seconds = float(earlier.get("seconds", 0.0))
        self.begun = self.epoch_begun = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock."""
        self.epoch_begun = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch, the time that it took with its validation, and the time so far."""
        if trainer.is_global_zero:
            self.write(
                epochs=trainer.current_epoch + 1,
                steps=trainer.global_step,
                epoch_seconds=round(time.monotonic() - self.epoch_begun, 1),
                finished=False,
            )

    def write(self, **changes: Any) -> None:
        """Change some facts and write all."""
        seconds = round(self.earlier_seconds + time.monotonic() - self.begun, 1)
        self.facts = self.facts | changes | {"seconds": seconds}
        write_json(self.path, self.facts)


def run_facts(*, seed: int, accelerator: str) -> dict[str, Any]:
    """What is known of any run before it begins: code, versions and device.

    Args:
        seed: The run's seed.
        accelerator: "cpu" or "cuda".

    Returns:
        JSON values by name.
    """
    return {
        "commit": _commit(),
        "seed": seed,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "device": torch.cuda.get_device_name() if accelerator == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one move, so that a reader never meets half a file."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    temporary.replace(path)


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
