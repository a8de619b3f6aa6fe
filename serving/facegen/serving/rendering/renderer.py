"""Renders shards: chunks in several threads, so that models, coders and the disk work together."""

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Self

from facegen.serving.call_context import CallContext
from facegen.serving.engine import Engine
from facegen.serving.errors import CallCancelledError, OutputError, StoppedError
from facegen.serving.faces.family import Family
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.imaging import ImagingPool, PictureFormat, PictureLimits
from facegen.serving.meshes.pipelines import MeshPipelines
from facegen.serving.onnx.cpus import available_cpu_count
from facegen.serving.rendering.drawing import Generation, Interpolation
from facegen.serving.rendering.engines import open_run_engine
from facegen.serving.rendering.inputs import InputFolder
from facegen.serving.rendering.job import (
    MESH_FORMATS,
    GenerateJob,
    InterpolateJob,
    ReconstructJob,
    RunConfig,
    TransferJob,
)
from facegen.serving.rendering.media.medium import Medium
from facegen.serving.rendering.media.meshes import Meshes
from facegen.serving.rendering.media.pictures import Pictures, crop_of
from facegen.serving.rendering.output.containers import load_container, open_shard
from facegen.serving.rendering.output.journal import Journal
from facegen.serving.rendering.output.places import explained
from facegen.serving.rendering.output.records import ShardOrder, ShardRecord
from facegen.serving.rendering.output.shard_writer import RowSchema
from facegen.serving.rendering.photos import Reconstruction, Transferral
from facegen.serving.rendering.plan import Plan, find, settle
from facegen.serving.rendering.rows import Chunk, Fault, Rendered
from facegen.serving.rendering.work import Work

__all__ = ["CONCURRENT_SHARDS", "Renderer", "work_of"]

CONCURRENT_SHARDS = 2
"""Shards that a renderer has under way: while one is synced, the next is rendered."""

_MIME_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "ply": "model/ply",
    "obj": "model/obj",
    "glb": "model/gltf-binary",
}
_SUFFIXES = {"jpeg": ".jpg"}

Report = Callable[[int, int, int], None]
"""Told a shard's number, and how many items and faults of it there are so far."""


class Renderer:
    """Renders shards of one job on one engine; several threads may ask at a time.

    For each CPU one execution of a model runs, and two threads do all else for a chunk: they wait
    for the models, and code.

    Args:
        plan: What is rendered.
        config: How.
        threads: CPUs to use; 0: all available.

    Raises:
        FacegenError: The engine cannot be opened.
        OutputError: Its models are not those of the plan, or the place is not the plan's.
    """

    def __init__(self, plan: Plan, config: RunConfig, *, threads: int = 0) -> None:
        self._plan = plan
        load_container(plan.container)
        threads = threads or available_cpu_count()
        self._journal = Journal(config.out)
        self._context = CallContext()
        self._chunks = ThreadPoolExecutor(2 * threads, "chunks")
        self._ahead = 2 * threads
        self._turn = threading.Lock()
        self._imaging = ImagingPool(threads, PictureLimits())
        self._engine = open_run_engine(config, plan.job.family, threads=threads)
        try:
            self._check(config)
            self._work = work_of(plan, self._engine, self._imaging)
        except BaseException:
            self.close()
            raise
        self._worker = f"{socket.gethostname()}:{os.getpid()}"

    def _check(self, config: RunConfig) -> None:
        """Refuse models that are not the plan's: another machine may have others."""
        graphs = settle(self._plan.job, self._engine, device="", files=()).graphs
        if dict(graphs) != dict(self._plan.graphs):
            raise OutputError(
                f"{socket.gethostname()}, {config.engine}",
                f'the graphs of family "{self._plan.job.family}" are not those of this job',
                "put the same model repository on every machine",
            )

    @property
    def work(self) -> Work:
        """What the job makes of its items."""
        return self._work

    def render(self, order: ShardOrder, report: Report) -> ShardRecord:
        """Render a shard, put it in its place, and journal it.

        Args:
            order: Which.
            report: Told of progress, often.

        Raises:
            StoppedError: `stop` was called.
            OutputError: It cannot be written.
            ServingError: The engine fails.
        """
        started = time.monotonic()
        faults: list[Fault] = []
        rejected = done = 0
        place, schema = self._journal.place, schema_of(self._plan, self._work)
        with place.staging() as folder, explained(place):
            writer = open_shard(self._plan.container, folder, order.number, schema=schema)
            with closing(writer):
                for chunk, rendered in self.rendered(order):
                    writer.add(rendered.rows)
                    faults += rendered.faults
                    rejected += rendered.rejected_count
                    done += chunk.count
                    report(order.number, done, len(faults))
                staged = writer.finish()
            if staged.path is not None:
                place.put(staged.path, staged.name)
        record = ShardRecord(
            order.number,
            order.first,
            order.count,
            writer.row_count,
            rejected,
            staged.size_bytes,
            staged.files,
            tuple(faults),
            round(time.monotonic() - started, 3),
            self._worker,
        )
        self._journal.add(record)
        return record

    def rendered(self, order: ShardOrder) -> Iterator[tuple[Chunk, Rendered]]:
        """Render a shard's chunks, some ahead of what the caller has taken.

        The next shard begins when all chunks of this one are under way. If shards went side by
        side, all would be done at the same time, and the CPUs idle while they are synced.

        Yields:
            Each chunk and what became of it, in their order.

        Raises:
            StoppedError: `stop` was called.
        """
        under_way: deque[tuple[Chunk, Future[Rendered]]] = deque()
        chunks = self._cut(order)
        with ExitStack() as turn:
            turn.enter_context(self._turn)
            try:
                while True:
                    while len(under_way) < self._ahead and (chunk := next(chunks, None)):
                        under_way.append((chunk, self._chunks.submit(self._render, chunk)))
                    if len(under_way) < self._ahead:
                        turn.close()
                    if not under_way:
                        return
                    chunk, future = under_way.popleft()
                    yield chunk, future.result()
            except CallCancelledError as error:
                raise StoppedError from error
            finally:
                for _, future in under_way:
                    future.cancel()

    def _render(self, chunk: Chunk) -> Rendered:
        if self._context.cancelled:
            raise CallCancelledError
        return self._work.render(chunk, context=self._context)

    def _cut(self, order: ShardOrder) -> Iterator[Chunk]:
        size = self._work.chunk_size
        for start in range(0, order.count, size):
            count = min(size, order.count - start)
            yield Chunk(order.first + start, count, order.inputs[start : start + count])

    def stop(self) -> None:
        """Stop what is under way; what is not done leaves nothing behind."""
        self._context.cancel()

    def close(self) -> None:
        """Stop, and leave the engine."""
        self.stop()
        self._chunks.shutdown(wait=True, cancel_futures=True)
        self._imaging.close()
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def work_of(plan: Plan, engine: Engine, imaging: ImagingPool) -> Work:
    """Give what a job makes of its items.

    Args:
        plan: What is rendered.
        engine: Runs the models.
        imaging: Reads photos and works on them.

    Raises:
        InputError: The family cannot do what the job asks for. Never right.
    """
    job, family = plan.job, find(plan.job, engine)
    assert job.coding is not None
    mime_type = _MIME_TYPES[job.coding]
    picture_format = PictureFormat(mime_type, job.quality)
    if isinstance(job, TransferJob):
        assert isinstance(family, Family)
        return Transferral(
            job,
            Pipelines(engine),
            family,
            imaging,
            InputFolder(job.input),
            picture_format=picture_format,
        )
    medium: Medium
    if isinstance(family, Family):
        crop = crop_of(family, job.crop if isinstance(job, ReconstructJob) else "center")
        medium = Pictures(
            Pipelines(engine), family, imaging, picture_format=picture_format, crop=crop
        )
    else:
        medium = Meshes(MeshPipelines(engine), family, mime_type=mime_type)
    match job:
        case GenerateJob():
            return Generation(job, medium)
        case InterpolateJob():
            return Interpolation(job, medium)
        case ReconstructJob():
            return Reconstruction(job, medium, InputFolder(job.input))


def schema_of(plan: Plan, work: Work) -> RowSchema:
    """Tell what the rows of a job have."""
    coding = str(plan.job.coding)
    return RowSchema(
        work.columns,
        "mesh" if coding in MESH_FORMATS else "image",
        _SUFFIXES.get(coding, f".{coding}"),
        work.latent_size,
    )
