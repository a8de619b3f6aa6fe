"""Images a second of `facegen render`, to the bound that its decoder and image coder give.

    python -m benchmarks.rendering --rounds 5 --count 10000

The bound: with as many threads as there are CPUs, ONNX Runtime's decoder alone draws D images a
second, in batches of the size that is fastest here, and the coder alone codes C. Who has to do both
on the same CPUs does at most 1 / (1 / D + 1 / C). All are measured in turns in one process: the
bound before and after each data set, whose ratio is to the mean of both. Medians of the turns are
told, and the same ratio in CPU seconds of this process, which others on the machine disturb less.
Drawing latents, hashing, writing and syncing are not in the bound.

Give --folder a place where no files have been removed for minutes: ext4 looks long for an inode
where many have just been freed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from facegen.serving.imaging import Origin, PictureFormat, encode_pictures
from facegen.serving.onnx.cpus import available_cpu_count
from facegen.serving.rendering.job import GenerateJob, RunConfig
from facegen.serving.rendering.progress import JsonEvents
from facegen.serving.rendering.run import State
from facegen.serving.rendering.session import prepare, render

FAMILY, BATCHES = "celeba-vae", (8, 16, 32, 64)
MODELS = Path(__file__).parent.parent / "models"
FORMATS = ("png", "webdataset", "parquet")


@dataclass(frozen=True, slots=True)
class Turn:
    """One data set, and the bound beside it, in images a second.

    Attributes:
        decoded: By the decoder alone.
        coded: By the coder alone.
        rendered: By the renderer.
        bound_cpu_ms: CPU milliseconds an image of decoder and coder.
        rendered_cpu_ms: Of the renderer.
    """

    decoded: float
    coded: float
    rendered: float
    bound_cpu_ms: float
    rendered_cpu_ms: float

    @property
    def bound(self) -> float:
        """The most that can be done."""
        return 1 / (1 / self.decoded + 1 / self.coded)


class Meter(JsonEvents):
    """Tells nobody, and measures the CPU time of a run once it is under way."""

    def __init__(self) -> None:
        super().__init__()
        self._first: tuple[int, float] | None = None
        self.cpu_ms = 0.0

    def moved(self, state: State) -> None:
        """See how far the run is."""
        now = state.done_count, time.process_time()
        self._first = self._first or now
        done = now[0] - self._first[0]
        if done:
            self.cpu_ms = 1000 * (now[1] - self._first[1]) / done

    def tell(self, event: str, **facts: object) -> None:
        """Keep quiet."""


class Bound:
    """The decoder and the coder, each alone.

    Args:
        threads: How many run at a time.
    """

    def __init__(self, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        graph = next((MODELS / f"{FAMILY}-decoder").glob("*/model.onnx"))
        self._session = onnxruntime.InferenceSession(str(graph), options)
        self._threads = threads
        size = self._session.get_inputs()[0].shape[1]
        rows = np.random.default_rng(7).normal(size=(max(BATCHES), size))
        self._latents = rows.astype(np.float32)
        self._pixels = self._decode(max(BATCHES))
        self._origins = [Origin(FAMILY, "1", 7, index) for index in range(max(BATCHES))]
        speeds = {rows: self._pace(rows, partial(self._decode, rows), 2) for rows in BATCHES}
        self.rows = max(speeds, key=speeds.__getitem__)

    def measure(self, seconds: float) -> tuple[float, float, float]:
        """Give images a second of the decoder and of the coder, and CPU ms an image of both."""
        start = time.process_time()
        decoded = self._pace(self.rows, partial(self._decode, self.rows), seconds)
        between = time.process_time()
        coded = self._pace(len(self._pixels), self._code, seconds)
        end = time.process_time()
        cpu_s = (between - start) / decoded + (end - between) / coded
        return decoded, coded, 1000 * cpu_s / seconds

    def _decode(self, rows: int) -> np.ndarray:
        pixels: np.ndarray = self._session.run(["image"], {"latent": self._latents[:rows]})[0]
        return pixels

    def _code(self) -> None:
        """Code as PNG, with the origin, as the renderer does."""
        encode_pictures(self._pixels, PictureFormat(), origins=self._origins)

    def _pace(self, images: int, work: Callable[[], object], seconds: float) -> float:
        """Do a piece of work on some images for some seconds; gives images a second."""
        end = time.perf_counter() + seconds

        def go(_: int) -> int:
            count = 0
            while time.perf_counter() < end:
                work()
                count += images
            return count

        start = time.perf_counter()
        with ThreadPoolExecutor(self._threads) as pool:
            count = sum(pool.map(go, range(self._threads)))
        return count / (time.perf_counter() - start)


def rendered(file_format: str, count: int, out: Path) -> tuple[float, float]:
    """Render a data set; gives images a second to the manifest, and CPU ms an image."""
    job = GenerateJob.model_validate(
        {"family": FAMILY, "count": count, "seed": 7, "format": file_format}
    )
    config = RunConfig(out=str(out), engine=f"onnx:{MODELS}")
    meter = Meter()
    manifest = render(prepare(job, config), config, meter)
    return count / float(manifest["timings"]["duration_s"]), meter.cpu_ms


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, help="Where data sets lie for a while.")
    arguments = parser.parse_args()
    bound = Bound(available_cpu_count())
    turns: dict[str, list[Turn]] = {it: [] for it in FORMATS}
    # Nothing is removed before the end: where files have just been removed, ext4 makes them slowly.
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for number in range(arguments.rounds):
            for file_format, told in turns.items():
                before = bound.measure(arguments.seconds)
                out = Path(folder, f"{file_format}-{number}")
                speed, cpu_ms = rendered(file_format, arguments.count, out)
                after = bound.measure(arguments.seconds)
                decoded, coded, both = (sum(it) / 2 for it in zip(before, after, strict=True))
                told.append(Turn(decoded, coded, speed, both, cpu_ms))
    table = Table(
        *("format", "decoder alone", "coder alone", "bound", "rendered", "of the bound"),
        "in CPU seconds",
    )
    for file_format, told in turns.items():
        ratios = [turn.rendered / turn.bound for turn in told]
        columns = [[getattr(turn, name) for turn in told] for name in _COLUMNS]
        table.add_row(
            file_format,
            *(f"{statistics.median(column):.0f}/s" for column in columns),
            _told(ratios),
            _told([turn.bound_cpu_ms / turn.rendered_cpu_ms for turn in told]),
        )
    console = Console(width=150)
    console.print(table)
    console.print(f"{arguments.count:,} images a data set; the decoder in batches of {bound.rows}")


def _told(ratios: list[float]) -> str:
    """Write the median, and all."""
    return f"{statistics.median(ratios):.2f} ({', '.join(f'{it:.2f}' for it in ratios)})"


_COLUMNS = ("decoded", "coded", "bound", "rendered")

if __name__ == "__main__":
    main()
