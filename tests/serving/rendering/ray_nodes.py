"""Nodes of one CPU each on this machine, a Ray cluster; lines on stdin add one, or kill one.

A process of its own: Ray forks, which the threads of other tests' servers do not bear.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

SMALL: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def main(client_port: int) -> None:
    head = {**SMALL, "include_dashboard": False, "ray_client_server_port": client_port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    others = []
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "add":
            others.append(cluster.add_node(**SMALL))
        else:
            kill_workers(others[-1])
            cluster.remove_node(others.pop(), allow_graceful=False)
        print("done", flush=True)
    cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray's


def kill_workers(node: Any) -> None:
    """Kill what a node runs: without it they would work on until they notice."""
    (raylet,) = node.all_processes["raylet"]
    tasks = Path(f"/proc/{raylet.process.pid}/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text("ascii").split()]
    for pid in (raylet.process.pid, *children):
        os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
