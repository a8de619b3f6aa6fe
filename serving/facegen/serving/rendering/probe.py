"""Renders for a moment, to tell what a whole job takes: time, room and money."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from facegen.serving.onnx.cpus import available_cpu_count
from facegen.serving.rendering.job import RunConfig
from facegen.serving.rendering.output.containers import open_shard
from facegen.serving.rendering.output.journal import Journal
from facegen.serving.rendering.renderer import Renderer, schema_of
from facegen.serving.rendering.rows import Chunk, Rendered
from facegen.serving.rendering.run import process_count
from facegen.serving.rendering.session import Prepared

__all__ = ["Estimate", "estimate"]

_PROBE_S = 2.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job takes.

    Attributes:
        item_count: Its items.
        items_per_s: How many are rendered in a second, by all machines.
        duration_s: What all of them take.
        row_count: Pictures or meshes that come of it.
        size_bytes: Their room.
        free_bytes: The room that there is; None: nobody knows.
        machine_count: Machines such as this.
        cost: What they cost for so long; None: no price was given.
        probed_count: The items that were rendered for this.
        fault_count: Those of them that could not be.
        rejected_count: Rows of them that `where` leaves out.
    """

    item_count: int
    items_per_s: float
    duration_s: float
    row_count: int
    size_bytes: int
    free_bytes: int | None
    machine_count: int
    cost: float | None
    probed_count: int
    fault_count: int
    rejected_count: int


def estimate(prepared: Prepared, config: RunConfig) -> Estimate:
    """Render the first items of a job for two seconds.

    The rows are written, and thrown away; syncing and uploading are not in it. Where the photos in
    front are unlike the others, so is the estimate.

    Args:
        prepared: What is to be rendered.
        config: How. `workers` machines of a cluster are taken to be such as this one.

    Raises:
        FacegenError: It cannot be rendered.
    """
    plan = prepared.plan
    processes = process_count(plan, config)
    threads = max(1, (config.threads or available_cpu_count()) // processes)
    counts = dict.fromkeys(("items", "rows", "faults", "rejected"), 0)
    with Renderer(plan, config, threads=threads) as renderer, _scratch() as folder:
        writer = open_shard(plan.container, folder, 0, schema=schema_of(plan, renderer.work))
        started = first_s = last_s = time.monotonic()
        first_count = 0
        for chunk, rendered in _rendered(prepared, renderer):
            writer.add(rendered.rows)
            counts["items"] += chunk.count
            counts["rows"] += len(rendered.rows)
            counts["faults"] += len(rendered.faults)
            counts["rejected"] += rendered.rejected_count
            last_s = time.monotonic()
            if not first_count:
                # Before this nothing was under way: what comes from now on is the pace.
                first_s, first_count = last_s, chunk.count
            elif last_s - first_s > _PROBE_S:
                break
        size_bytes = writer.finish().size_bytes
        writer.close()
    if counts["items"] > first_count:
        pace = (counts["items"] - first_count) / (last_s - first_s)
    else:
        pace = counts["items"] / (last_s - started)
    machines = max(1, config.workers)
    items_per_s = pace * processes * machines
    duration_s = plan.item_count / items_per_s
    whole = plan.item_count / counts["items"]
    return Estimate(
        plan.item_count,
        items_per_s,
        duration_s,
        round(whole * counts["rows"]),
        round(whole * size_bytes),
        Journal(config.out).place.free_bytes(),
        machines,
        config.price * machines * duration_s / 3600 if config.price else None,
        counts["items"],
        counts["faults"],
        counts["rejected"],
    )


def _rendered(prepared: Prepared, renderer: Renderer) -> Iterator[tuple[Chunk, Rendered]]:
    """Render one shard after the other."""
    return chain.from_iterable(
        renderer.rendered(order) for order in prepared.plan.orders(prepared.names)
    )


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a folder that goes when it is left."""
    with tempfile.TemporaryDirectory(prefix="facegen-") as name:
        yield Path(name)
