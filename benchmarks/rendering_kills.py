"""Kills `facegen render` again and again, goes on, and compares the bytes with an unbroken run.

    python -m benchmarks.rendering_kills --cycles 50 --format png

A cycle starts the command with --resume and kills it (SIGKILL to its whole process group) after a
time drawn by chance, from before it has loaded its models to after some shards. At the end it runs
to its end, `facegen render verify` checks it, and every byte but the manifest's times is compared.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FACEGEN = str(Path(sys.executable).with_name("facegen"))
MODELS = Path(__file__).parent.parent / "models"


def command(out: Path, arguments: argparse.Namespace) -> list[str]:
    """The command line of the run."""
    job = ["--family", arguments.family, "--count", str(arguments.count), "--seed", "7"]
    data_set = ["--format", arguments.format, "--shard-size", str(arguments.shard_size)]
    how = ["--processes", str(arguments.processes), "--engine", f"onnx:{MODELS}"]
    return [FACEGEN, "render", "generate", *job, *data_set, *how, "--out", str(out), "--resume"]


def contents(folder: Path) -> dict[str, bytes]:
    """All bytes of a data set but its manifest's."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name != "manifest.json"
    }


def done_shards(folder: Path) -> int:
    """How many shards the journal tells of."""
    return len(list((folder / ".render" / "journal").glob("*.json")))


def main() -> None:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--format", default="png")
    parser.add_argument("--family", default="celeba-vae")
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--shard-size", type=int, default=100)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--most-s", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        whole, cut = Path(name, "whole"), Path(name, "cut")
        subprocess.run(command(whole, arguments), check=True)
        told, kills = [], 0
        for _ in range(arguments.cycles):
            with subprocess.Popen(command(cut, arguments), start_new_session=True) as process:
                time.sleep(chance.uniform(0, arguments.most_s))
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    kills += 1
            told.append(done_shards(cut))
        print("shards in the journal after each kill:", *told)
        subprocess.run(command(cut, arguments), check=True)
        subprocess.run([FACEGEN, "render", "verify", str(cut)], check=True)
        same = contents(cut) == contents(whole)
        print(f"{kills} kills; bytes {'equal' if same else 'DIFFER'}")
        sys.exit(not same)


if __name__ == "__main__":
    main()
