"""How fast do we train, beside PyTorch-VAE's and pythae's loops on the same network?

    make peers && python -m benchmarks.training [--data data/celeba] [--threads 1]

Every contestant is a process that trains all the time, and is stopped (SIGSTOP) while it is not its
turn. A turn is so many steps; its processor time, that of loader processes included, does not
suffer from others on the machine as the clock does. Ratios are within a round of turns.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).parent.parent
PYTHAE = REPOSITORY / ".venv-pythae" / "bin" / "python"
NAMES = (
    "facegen",
    "facegen-32",
    "pytorch-vae",
    "pytorch-vae-decoded",
    "pythae",
    "facegen-channels-first",
    "facegen-freeing",
)
_WARM_UP_STEPS = 5


@dataclass(slots=True)
class Loop:
    """A contestant's processes, stopped but for its turns.

    Attributes:
        name: Of the contestant.
        process: The first of its processes, whose group has the others.
        lines: One for each step.
        seconds: For each turn, by the clock, a step's.
        cpu_seconds: For each turn, of all its processes, a step's.
    """

    name: str
    process: subprocess.Popen[str]
    lines: IO[str]
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def take_turn(self, steps: int) -> None:
        """Go on for so many steps, and stop."""
        before, begin = self.cpu_s(), time.perf_counter()
        os.killpg(self.process.pid, signal.SIGCONT)
        self.await_steps(steps)
        os.killpg(self.process.pid, signal.SIGSTOP)
        self.seconds.append((time.perf_counter() - begin) / steps)
        self.cpu_seconds.append((self.cpu_s() - before) / steps)

    def await_steps(self, steps: int) -> None:
        """Read so many steps' lines."""
        while steps:
            line = self.lines.readline()
            if not line:
                sys.exit(f"{self.name} ended with code {self.process.wait()}")
            steps -= line.startswith("step ")

    def cpu_s(self) -> float:
        """Processor time that its processes have used, those that ended included."""
        ticks = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[2]) == self.process.pid:
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(name: str, data: Path, *, cores: set[int], threads: int) -> Iterator[Loop]:
    """Start a contestant, let it warm up, and stop it; kill it in the end."""
    python = str(PYTHAE) if name == "pythae" else sys.executable
    parts = ("", "protos", "training")
    path = os.pathsep.join(str(REPOSITORY / part) for part in parts)
    with tempfile.TemporaryDirectory() as out:
        command = [python, "-m", "benchmarks.training_loops", name, "--data", str(data)]
        command += ["--out", out, "--threads", str(threads)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        assert process.stdout is not None
        try:
            loop = Loop(name, process, process.stdout)
            loop.await_steps(_WARM_UP_STEPS)
            os.killpg(process.pid, signal.SIGSTOP)
            yield loop
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def race(loops: Sequence[Loop], *, rounds: int, steps: int) -> None:
    """Let all take turns; every second round backwards, so that nobody is always after the same."""
    for number in range(rounds):
        for loop in loops if number % 2 == 0 else reversed(loops):
            loop.take_turn(steps)


def show(loops: Sequence[Loop]) -> None:
    """Print each contestant's time for a step, and how many times as long it is as the first's."""
    table = Table(
        "", "ms a step, clock", "ms a step, processor", "times the first's", "least, most"
    )
    first = loops[0]
    facts = {}
    for loop in loops:
        pairs = zip(loop.cpu_seconds, first.cpu_seconds, strict=True)
        ratios = [own / other for own, other in pairs]
        row = (
            1e3 * statistics.median(loop.seconds),
            1e3 * statistics.median(loop.cpu_seconds),
            statistics.median(ratios),
        )
        spread = f"{min(ratios):.2f}, {max(ratios):.2f}"
        table.add_row(loop.name, f"{row[0]:.0f}", f"{row[1]:.0f}", f"{row[2]:.2f}", spread)
        facts[loop.name] = {"seconds": loop.seconds, "cpu_seconds": loop.cpu_seconds}
    Console().print(table)
    print(json.dumps(facts))


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("data/celeba"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", type=int, nargs="+", help="all that there are by default")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=15, help="of a turn")
    parser.add_argument("--contestants", nargs="+", choices=NAMES, default=NAMES)
    arguments = parser.parse_args()
    cores = set(arguments.cores or os.sched_getaffinity(0))
    with ExitStack() as stack:
        loops = [
            stack.enter_context(
                started(name, arguments.data.resolve(), cores=cores, threads=arguments.threads)
            )
            for name in arguments.contestants
        ]
        race(loops, rounds=arguments.rounds, steps=arguments.steps)
        show(loops)


if __name__ == "__main__":
    main()
