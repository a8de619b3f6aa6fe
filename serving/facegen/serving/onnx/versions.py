"""A version of a model that serves: its graph, its batcher, and the way in."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from facegen.errors import FacegenError
from facegen.serving.engine import Done, InferRequest, ModelInfo
from facegen.serving.errors import RepositoryError
from facegen.serving.onnx.batching import batcher_settings
from facegen.serving.onnx.completion import check_tensors, complete
from facegen.serving.onnx.description import ModelDescription, describe
from facegen.serving.onnx.repository import VersionFiles
from facegen.serving.onnx.requests import RequestChecker
from facegen.serving.onnx.sessions import Device, Session, open_runtime
from facegen.serving.onnx.tensors import read_graph_tensors
from facegen.serving.onnx.warmup import measure_batch_rows, warm_up
from facegen.serving.scheduling.batcher import Batcher
from facegen.serving.scheduling.timers import Timers
from facegen.serving.scheduling.workers import Workers
from facegen.serving.statistics import ModelStatistics

__all__ = ["Loader", "ServedVersion"]

_LOGGER = logging.getLogger(__name__)


class ServedVersion:
    """A version of a model, ready.

    Args:
        info: What the engine tells of it.
        fingerprint: Of what it was loaded from.
        session: Its graph.
        batcher: What runs it.
    """

    def __init__(
        self, info: ModelInfo, fingerprint: object, *, session: Session, batcher: Batcher
    ) -> None:
        self.info = info
        self.fingerprint = fingerprint
        self._session = session
        self._batcher = batcher
        self._checker = RequestChecker(info)

    def submit(self, request: InferRequest, done: Done) -> None:
        """Check a request and put it to the batcher; all errors go to `done`.

        One of them is `EngineClosedError`: another version has taken the place of this one.
        """
        try:
            rows = self._checker.rows(request.inputs)
            request = self._checker.prepared(request)
        except FacegenError as error:
            done(error)
            return
        self._batcher.submit(request, rows, done)

    def statistics(self) -> ModelStatistics:
        """Tell what it did since it was loaded."""
        return self._batcher.statistics()

    def close(self) -> None:
        """Take no more, finish what waits, free the graph. Blocks."""
        self._batcher.close()
        self._session.close()


@dataclass(frozen=True, slots=True)
class Loader:
    """Makes versions ready.

    Attributes:
        device: Where they run, unless their instance groups say KIND_CPU.
        max_batch_rows: The most rows of one execution, within each model's; 0: measured on CPUs,
            the model's own on CUDA.
        max_queue_rows: Rows that may wait for each.
        workers: The threads of all.
        timers: The clock of all.
        memory_patterns: Whether memory is planned by shapes, where a configuration does not say.
    """

    device: Device
    max_batch_rows: int
    max_queue_rows: int
    workers: Workers
    timers: Timers
    memory_patterns: bool = False

    def open(self, files: VersionFiles, statistics: ModelStatistics) -> ServedVersion:
        """Load a version, check it against its configuration, and warm it up.

        Args:
            files: What to load.
            statistics: Where to count what it does.

        Raises:
            RepositoryError: It cannot be served.
            DeviceError: It does not run on the device.
        """
        config = pb.ModelConfig()
        config.CopyFrom(files.config)
        device = self._device(files.config_path, config)
        # Before Triton's default fills them in, which says nothing.
        preferred = tuple(config.dynamic_batching.preferred_batch_size)
        runtime = open_runtime(
            files.graph, files.read_graph(), config, device, memory_patterns=self.memory_patterns
        )
        graph = read_graph_tensors(runtime)
        complete(files.graph, config, graph)
        check_tensors(files.graph, config, graph)
        concurrency = self._complete_instances(config, device)
        model = describe(files, config, graph)
        session = Session(model, runtime)
        warm_up(files.graph, model, session)
        settings = batcher_settings(
            config,
            device=device,
            max_batch_rows=self._batch_rows(model, session, device),
            max_queue_rows=self.max_queue_rows,
            concurrency=concurrency,
            preferred_batch_rows=preferred,
        )
        _LOGGER.info(
            "version warm model=%s version=%s max_batch_rows=%d verified=%s",
            config.name,
            files.version,
            settings.max_batch_rows,
            bool(files.sha256),
        )
        batcher = Batcher(
            config.name,
            session.run,
            workers=self.workers,
            timers=self.timers,
            settings=settings,
            statistics=statistics,
        )
        return ServedVersion(model.info, files.fingerprint, session=session, batcher=batcher)

    def _batch_rows(self, model: ModelDescription, session: Session, device: Device) -> int:
        """The most rows of an execution."""
        own = model.info.max_batch_size
        if self.max_batch_rows:
            return min(self.max_batch_rows, own)
        return measure_batch_rows(model, session) if device == "cpu" else own

    def _device(self, path: Path, config: Any) -> Device:
        """Where a model runs; what asks for another device than there is, is refused."""
        kinds = {group.kind for group in config.instance_group}
        if pb.ModelInstanceGroup.KIND_GPU in kinds and self.device == "cpu":
            raise RepositoryError(
                path,
                "its instance_group has KIND_GPU, the server runs on CPUs",
                "serve it with --device cuda, or set KIND_CPU or KIND_AUTO",
            )
        if kinds == {pb.ModelInstanceGroup.KIND_CPU}:
            return "cpu"
        if pb.ModelInstanceGroup.KIND_CPU in kinds and self.device == "cuda":
            raise RepositoryError(
                path,
                "its instance_group has GPUs and CPUs, whose results differ",
                "choose one kind",
            )
        return self.device

    def _complete_instances(self, config: Any, device: Device) -> int:
        """Fill in the instance groups, and count the executions at a time."""
        group_pb = pb.ModelInstanceGroup
        kind = group_pb.KIND_GPU if device == "cuda" else group_pb.KIND_CPU
        if not config.instance_group:
            config.instance_group.add(count=self.workers.count)
        for index, group in enumerate(config.instance_group):
            group.name = group.name or f"{config.name}_{index}"
            group.kind = kind
            group.count = group.count or 1
        instances = sum(group.count for group in config.instance_group if not group.passive)
        return max(1, min(self.workers.count, int(instances)))
