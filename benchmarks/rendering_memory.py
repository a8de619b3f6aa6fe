"""Resident memory of `facegen render` while a data set grows.

    python -m benchmarks.rendering_memory --count 200000

The command runs in a process of its own and tells its progress; at each event its resident memory
is read. Shown are means between tenths of the count, from 10,000 images on, and the highest.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

FACEGEN = str(Path(sys.executable).with_name("facegen"))
MODELS = Path(__file__).parent.parent / "models"
FORMATS = ("png", "webdataset", "parquet")
FIRST, PARTS = 10_000, 10


def resident_mb(pid: int) -> float:
    """The resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


def watch(file_format: str, count: int, out: Path) -> list[tuple[int, float]]:
    """Render a data set; gives how many images were done, and the megabytes then."""
    job = ["--family", "celeba-vae", "--count", str(count), "--format", file_format]
    how = ["--engine", f"onnx:{MODELS}", "--processes", "1", "--json", "--out", str(out)]
    seen = []
    with subprocess.Popen(
        [FACEGEN, "render", "generate", *job, *how], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if "done" in event and process.poll() is None:
                seen.append((event["done"], resident_mb(process.pid)))
    if process.returncode:
        sys.exit(process.returncode)
    return seen


def main() -> None:
    """Render, watch and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--formats", nargs="*", default=FORMATS)
    arguments = parser.parse_args()
    step = (arguments.count - FIRST) // PARTS
    table = Table("format", *(f"{FIRST + step * part:,}" for part in range(PARTS)), "highest")
    for file_format in arguments.formats:
        with tempfile.TemporaryDirectory() as folder:
            seen = watch(file_format, arguments.count, Path(folder, "out"))
        parts: dict[int, list[float]] = defaultdict(list)
        for done, megabytes in seen:
            if done >= FIRST:
                parts[min((done - FIRST) // step, PARTS - 1)].append(megabytes)
        means = [f"{statistics.mean(parts[it]):.0f}" if parts[it] else "-" for it in range(PARTS)]
        table.add_row(file_format, *means, f"{max(it for _, it in seen):.0f} MB")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
