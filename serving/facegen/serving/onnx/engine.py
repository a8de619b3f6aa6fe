"""The engine on ONNX Runtime: the models of a repository, run here."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from facegen.serving.scheduling.batcher import Batcher, BatcherSettings
from facegen.serving.onnx.cpus import available_cpu_count
from facegen.serving.engine import Array, ModelInfo, Tensors
from facegen.serving.errors import EngineClosedError, InputError, ModelNotFoundError
from facegen.serving.onnx.model_config import RepositoryModel
from facegen.serving.onnx.repository import Repository
from facegen.serving.onnx.sessions import Device, Session, check_device, open_session
from facegen.serving.scheduling.workers import Workers

__all__ = ["OnnxEngine"]

_LOGGER = logging.getLogger(__name__)

# On CPUs, more rows an execution are no faster and keep others waiting longer, fewer cost calls.
_CPU_MAX_BATCH_ROWS = 16
# Of fewer rows, waking another thread costs more than it gains.
_CPU_MIN_SHARE_ROWS = 2
# A GPU runs one batch while the next is copied to it.
_CUDA_THREADS = 2


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A version of a model that serves."""

    info: ModelInfo
    batcher: Batcher


class OnnxEngine:
    """Runs the models of a repository with ONNX Runtime, behind the `Engine` protocol.

    `start` loads every model; an engine is made, started, used and closed in one event loop, most
    simply by `async with OnnxEngine(path) as engine`.

    Args:
        repository_path: The model repository.
        device: Where to run. There is no fall-back: what cannot run there is refused.
        threads: Executions at a time over all models; None: one a CPU available, 2 on CUDA.
        max_batch_rows: The most rows of one execution, within each model's max_batch_size; None: 16
            on CPU, the model's own on CUDA.
        max_queue_rows: Rows that may wait for one model.

    Raises:
        RepositoryError: There is no repository.
        DeviceError: The device cannot be used.
    """

    def __init__(
        self,
        repository_path: Path,
        *,
        device: Device = "cpu",
        threads: int | None = None,
        max_batch_rows: int | None = None,
        max_queue_rows: int = 2048,
    ) -> None:
        check_device(device)
        self._repository = Repository(repository_path)
        self._device = device
        default_threads = available_cpu_count() if device == "cpu" else _CUDA_THREADS
        self._threads = threads or default_threads
        self._max_batch_rows = max_batch_rows or (_CPU_MAX_BATCH_ROWS if device == "cpu" else None)
        self._max_queue_rows = max_queue_rows
        self._workers: Workers | None = None
        self._loaded: dict[str, dict[str, _Loaded]] = {}  # by name, then by version, rising
        self._changing = asyncio.Lock()
        self._closed = False

    async def start(self) -> Self:
        """Load and warm up every model of the repository.

        Raises:
            RepositoryError: A model cannot be served; none is then.
            DeviceError: A model does not run on the device.
        """
        try:
            for name in self._repository.names():
                await self.load(name)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def models(self) -> Sequence[ModelInfo]:
        """List every version of every model that is ready, by name and version."""
        return [
            loaded.info for name in sorted(self._loaded) for loaded in self._loaded[name].values()
        ]

    async def infer(
        self, model: str, inputs: Tensors, *, version: str = "", timeout_s: float | None = None
    ) -> dict[str, Array]:
        """Run a model on any number of rows; see `Engine.infer`.

        Raises:
            ModelNotFoundError: No such model or version. Never right.
            InputError: A name, dtype, shape or row count is wrong. Never right.
            QueueFullError: Too many rows wait. Retry later.
            DeadlineError: The timeout passed first.
            EngineClosedError: The engine is shutting down. Retry elsewhere.
            InferenceError: ONNX Runtime failed on these rows.
        """
        loaded = self._find(model, version)
        rows = _check_inputs(loaded.info, inputs)
        return await loaded.batcher.submit(inputs, rows, timeout_s=timeout_s)

    async def load(self, model: str) -> None:
        """Load or reload a model; what serves under its name goes on until the new one is warm.

        Raises:
            ModelNotFoundError: The repository has no such model.
            RepositoryError: It cannot be served.
            DeviceError: It does not run on the device.
            EngineClosedError: The engine is shutting down.
        """
        async with self._changing:
            if self._closed:
                raise EngineClosedError
            versions = self._repository.read(model)
            sessions = [
                await asyncio.to_thread(open_session, version, self._device) for version in versions
            ]
            if self._workers is None:
                self._workers = Workers(self._threads, "facegen-onnx")
            before = self._loaded.get(model, {})
            self._loaded[model] = {
                version.info.version: _Loaded(
                    version.info, self._batcher(version, session, self._workers)
                )
                for version, session in zip(versions, sessions, strict=True)
            }
            await _close_batchers(before)
        _LOGGER.info("model ready model=%s versions=%d", model, len(versions))

    async def unload(self, model: str) -> None:
        """Stop serving a model; what is queued for it still runs.

        Raises:
            ModelNotFoundError: It is not served.
        """
        async with self._changing:
            if model not in self._loaded:
                raise ModelNotFoundError(model, available=sorted(self._loaded))
            await _close_batchers(self._loaded.pop(model))
        _LOGGER.info("model unloaded model=%s", model)

    async def close(self) -> None:
        """Finish what is queued, refuse what comes, free the models; again is no harm."""
        self._closed = True
        async with self._changing:
            await asyncio.gather(*(_close_batchers(loaded) for loaded in self._loaded.values()))
            self._loaded = {}
            if self._workers is not None:
                await asyncio.to_thread(self._workers.close)
                self._workers = None

    def batch_sizes(self) -> Mapping[tuple[str, str], Mapping[int, int]]:
        """How many executions had how many rows, by model and version."""
        return {
            (name, version): loaded.batcher.batch_sizes()
            for name, versions in self._loaded.items()
            for version, loaded in versions.items()
        }

    def _find(self, model: str, version: str) -> _Loaded:
        if self._closed:
            raise EngineClosedError
        versions = self._loaded.get(model)
        if versions is None:
            raise ModelNotFoundError(model, version, available=sorted(self._loaded))
        if not version:
            return next(reversed(versions.values()))
        if version not in versions:
            available = [f"{model} {number}" for number in versions]
            raise ModelNotFoundError(model, version, available=available)
        return versions[version]

    def _batcher(self, model: RepositoryModel, session: Session, workers: Workers) -> Batcher:
        max_batch_rows = model.info.max_batch_size
        if self._max_batch_rows is not None:
            max_batch_rows = min(max_batch_rows, self._max_batch_rows)
        return Batcher(
            model.info.name,
            session.run,
            workers=workers,
            settings=BatcherSettings(
                max_batch_rows=max_batch_rows,
                concurrency=min(self._threads, model.instance_count or self._threads),
                max_queue_rows=self._max_queue_rows,
                max_queue_delay_s=model.max_queue_delay_s,
                turn_rows=max(32, max_batch_rows),
                min_share_rows=_CPU_MIN_SHARE_ROWS if self._device == "cpu" else max_batch_rows,
                bucketed=self._device == "cuda",
            ),
        )


async def _close_batchers(versions: Mapping[str, _Loaded]) -> None:
    await asyncio.gather(*(loaded.batcher.close() for loaded in versions.values()))


def _check_inputs(info: ModelInfo, inputs: Tensors) -> int:
    """Check names, dtypes and shapes, and count the rows. Values are the edge's to check."""
    names = [tensor.name for tensor in info.inputs]
    if inputs.keys() != set(names):
        raise InputError(
            "inputs", f'{sorted(inputs)} given, model "{info.name}" takes {sorted(names)}'
        )
    rows = -1
    for tensor in info.inputs:
        array = inputs[tensor.name]
        if array.dtype != tensor.dtype:
            raise InputError(
                tensor.name, f'is {array.dtype}, model "{info.name}" takes {tensor.dtype}'
            )
        shape = array.shape
        if len(shape) != len(tensor.shape) + 1 or any(
            wanted not in (-1, size) for size, wanted in zip(shape[1:], tensor.shape, strict=True)
        ):
            raise InputError(
                tensor.name,
                f'has shape {shape}, model "{info.name}" takes {("rows", *tensor.shape)}',
            )
        if rows not in (-1, shape[0]):
            raise InputError(
                tensor.name, f"has {shape[0]} rows, the other inputs {rows}; give all the same"
            )
        rows = shape[0]
    if rows < 1:
        raise InputError(names[0], "has no rows; give at least 1")
    return rows
