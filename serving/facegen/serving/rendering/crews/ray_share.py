"""How the nodes of a Ray cluster are cut into workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facegen.serving.rendering.job import RunConfig

__all__ = ["Share", "share_of"]

# One process's Python keeps about so many CPUs busy.
_MOST_CPUS = 8


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker takes of a node.

    Attributes:
        cpus: CPUs, at least 1.
        gpus: GPUs.
    """

    cpus: int
    gpus: int = 0

    def fits(self, node: Mapping[str, float]) -> int:
        """Tell how many workers a node has room for, by its resources."""
        counts = [node.get("CPU", 0) // self.cpus]
        if self.gpus:
            counts.append(node.get("GPU", 0) // self.gpus)
        return int(min(counts))


def share_of(config: RunConfig, nodes: Sequence[Mapping[str, float]]) -> Share:
    """Cut nodes into workers, which are all alike: the smallest node decides.

    Args:
        config: Its `threads`, if it has some, are what a worker takes.
        nodes: The resources of each.
    """
    if config.engine.startswith("triton:"):
        return Share(config.threads or 1)
    if config.device == "cuda":
        cpus = [int(node.get("CPU", 0) // node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1]
        return Share(config.threads or max(1, min([_MOST_CPUS, *cpus])), gpus=1)
    smallest = min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=1)
    # A node of 12 CPUs has two workers of 6, not one of 8.
    return Share(config.threads or smallest // -(-smallest // _MOST_CPUS))
