"""`facegen render` on a Ray cluster of two nodes on this machine, beside the plain command.

    python -m benchmarks.rendering_ray --rounds 3 --count 20000

Both have the same CPUs: the plain command two threads, each node one. In turns; the ratio of a turn
is Ray's images a second to the plain command's, from the first shard's start (of Ray: from when the
cluster was asked for workers) to the manifest. In a last turn one node is killed half-way. All data
sets are compared byte by byte.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ray.cluster_utils import Cluster

from benchmarks.rendering_kills import contents

FACEGEN = str(Path(sys.executable).with_name("facegen"))
MODELS = Path(__file__).parent.parent / "models"


def command(out: Path, count: int, *flags: str) -> list[str]:
    """The command line of a run."""
    job = ["--family", "celeba-vae", "--count", str(count), "--seed", "7", "--format", "webdataset"]
    how = ["--shard-size", "500", "--engine", f"onnx:{MODELS}", "--json", "--out", str(out)]
    return [FACEGEN, "render", "generate", *job, *how, *flags]


def plain(out: Path, count: int) -> float:
    """Render with two threads; gives images a second."""
    subprocess.run(command(out, count, "--threads", "2"), check=True, stdout=subprocess.DEVNULL)
    return pace(out)


def on_ray(out: Path, count: int, *, killing: bool = False) -> float:
    """Render on a cluster of its own, of which a node may be killed; gives images a second."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        with subprocess.Popen(
            command(out, count, "--ray", cluster.address, "--threads", "1"),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if killing and event.get("done", 0) > count / 2:
                    cluster.remove_node(node, allow_graceful=False)
                    killing = False
                if event["event"] == "lost":
                    print("lost:", event["message"])
        if process.returncode:
            sys.exit(process.returncode)
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray has no types for it
    return pace(out)


def pace(out: Path) -> float:
    """Images a second, by the manifest."""
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    return float(manifest["counts"]["rows"] / manifest["timings"]["duration_s"])


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, paces = Path(name), []
        for turn in range(arguments.rounds):
            one = plain(folder / f"plain-{turn}", arguments.count)
            other = on_ray(folder / f"ray-{turn}", arguments.count)
            paces.append((one, other))
            print(f"plain {one:.0f}/s, on Ray {other:.0f}/s: {other / one:.2f}")
        killed = on_ray(folder / "killed", arguments.count, killing=True)
        whole = contents(folder / "plain-0")
        same = all(contents(path) == whole for path in folder.iterdir())
    ratio = statistics.median(other / one for one, other in paces)
    print(f"Ray to plain {ratio:.2f}; with a node killed half-way {killed:.0f}/s")
    print(f"bytes {'equal' if same else 'DIFFER'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
