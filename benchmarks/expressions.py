"""What it costs to give a face all five expressions, beside one reconstruction of it.

    python -m benchmarks.expressions [--family fer-expressions] [--repository models]

First the graphs alone in ONNX Runtime on one core: one encoder and five decoders beside one encoder
and one decoder. Then calls of one client to a server on the same machine, taking turns: Transfer
beside Reconstruct of the same face, and of the photo that it was cut from.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from benchmarks.peers import Start, facegen_server
from facegen.client import Client, ExpressionTarget

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger")
PORTRAIT = Path(__file__).parent.parent / "docs" / "pictures" / "astronaut.jpg"
ROUNDS, TURN = 15, 10


def turns(contestants: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of a call: medians over turns that contestants take one after the other."""
    for call in contestants.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, call in contestants.items():
            begin = time.perf_counter()
            for _ in range(TURN):
                call()
            times[name].append((time.perf_counter() - begin) * 1_000 / TURN)
    return {name: statistics.median(some) for name, some in times.items()}


def graphs(repository: Path, family: str, rows: int) -> dict[str, Callable[[], object]]:
    """Runs of the graphs for so many faces: to reconstruct them, and to give them expressions."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def session(name: str) -> onnxruntime.InferenceSession:
        version = max((repository / name).glob("*/model.onnx"), key=lambda p: int(p.parent.name))
        return onnxruntime.InferenceSession(version, options, providers=["CPUExecutionProvider"])

    encoder = session(f"{family}-encoder")
    decoders = [session(f"{family}-decoder-{name}") for name in EXPRESSIONS]
    faces = np.random.default_rng(0).integers(0, 256, (rows, 48, 48, 1), np.uint8)

    def run(count: int) -> None:
        latent, features = encoder.run(["mu", "features"], {"image": faces})
        for decoder in decoders[:count]:
            decoder.run(None, {"latent": latent, "features": features})

    return {"one reconstruction": lambda: run(1), "five expressions": lambda: run(5)}


def calls(client: Client, family: str) -> dict[str, Callable[[], object]]:
    """Calls that reconstruct and transfer, answered as PNG."""
    photo = PORTRAIT.read_bytes()
    unchanged = ExpressionTarget(EXPRESSIONS[0], strength=0.0)
    crops = client.transfer([photo], [unchanged], family=family, view="crop")
    face = crops.photos[0].images[0].image
    return {
        "one reconstruction": lambda: client.reconstruct([face], family=family),
        "five expressions, face cut out": lambda: client.transfer(
            [face], EXPRESSIONS, family=family, view="crop", finding="cropped"
        ),
        "five expressions, photo searched and pasted back": lambda: client.transfer(
            [photo], EXPRESSIONS, family=family, mime_type="image/jpeg"
        ),
    }


def show(title: str, times: Mapping[str, float]) -> None:
    """Print times and their ratios to the first."""
    table = Table("", "ms", "ratio", title=title)
    first = next(iter(times.values()))
    for name, milliseconds in times.items():
        table.add_row(name, f"{milliseconds:.2f}", f"{milliseconds / first:.2f}")
    Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--family", default="fer-expressions")
    parser.add_argument("--repository", type=Path, default=Path("models"))
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    for rows in (1, 16):
        runs = graphs(arguments.repository, arguments.family, rows)
        show(f"graphs, {rows} faces", turns(runs))
    start = Start(cores[-1], "celeba-vae-decoder", np.zeros((1, 128), np.float32).tobytes())
    with (
        facegen_server(arguments.repository, start) as server,
        Client(server.address) as client,
    ):
        show("calls", turns(calls(client, arguments.family)))


if __name__ == "__main__":
    main()
