"""The engine on ONNX Runtime: the models of a repository, run here."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from facegen.errors import FacegenError
from facegen.serving.engine import (
    Array,
    Done,
    Engine,
    InferRequest,
    ModelInfo,
    VersionState,
)
from facegen.serving.errors import (
    BackendError,
    CapabilityError,
    EngineClosedError,
    InputError,
    ModelNotFoundError,
    RepositoryError,
)
from facegen.serving.onnx.cpus import available_cpu_count
from facegen.serving.onnx.life import ModelLife
from facegen.serving.onnx.model_config import parse_json_config
from facegen.serving.onnx.overrides import check_model_name, unpacked
from facegen.serving.onnx.polling import Poller
from facegen.serving.onnx.repository import Repository, Stamp
from facegen.serving.onnx.sessions import Device, check_device
from facegen.serving.onnx.versions import Loader, ServedVersion
from facegen.serving.scheduling.timers import Timers
from facegen.serving.scheduling.workers import Workers
from facegen.serving.statistics import ModelStatistics

__all__ = ["ModelControl", "OnnxEngine"]

_LOGGER = logging.getLogger(__name__)

ModelControl = Literal["none", "explicit", "poll"]

# A GPU runs one batch while the next is copied to it.
_CUDA_THREADS = 2


class OnnxEngine(Engine):
    """Runs the models of a repository with ONNX Runtime.

    Use it as a context manager, or call `start` and `close`. At the start, models of other backends
    are passed over, with the reason in the index. Any other model that cannot be served stops the
    start, as in Triton, except with `model_control="poll"`, where the next change may mend it.

    Args:
        repository_path: The model repository.
        device: Where to run. There is no fall-back: what cannot run there is refused.
        threads: Executions at a time over all models; 0: one a CPU available, 2 on CUDA.
        max_batch_rows: The most rows of one execution, within each model's max_batch_size; 0:
            measured for each on CPUs, the model's own on CUDA.
        max_queue_rows: Rows that may wait for one model.
        model_control: Who loads and unloads after the start: nobody, `load` and `unload`, or what
            changes in the repository.
        load_models: With explicit control, what to load at the start; `*` means all.
        poll_s: With polling, seconds between looks at the repository.
        memory_patterns: Whether an execution's memory is planned by its shapes. Where few shapes
            come it is faster; where many do, memory grows.

    Raises:
        RepositoryError: There is no repository.
        DeviceError: The device cannot be used.
    """

    def __init__(
        self,
        repository_path: Path,
        *,
        device: Device = "cpu",
        threads: int = 0,
        max_batch_rows: int = 0,
        max_queue_rows: int = 2048,
        model_control: ModelControl = "none",
        load_models: Sequence[str] = (),
        poll_s: float = 15.0,
        memory_patterns: bool = False,
    ) -> None:
        check_device(device)
        self._repository = Repository(repository_path)
        self._control = model_control
        self._load_models = tuple(load_models)
        self._poll_s = poll_s
        default_threads = available_cpu_count() if device == "cpu" else _CUDA_THREADS
        self._workers = Workers(threads or default_threads, "facegen-onnx")
        self._timers = Timers("facegen-timers")
        loader = Loader(
            device,
            max_batch_rows,
            max_queue_rows,
            self._workers,
            self._timers,
            memory_patterns,
        )
        self._life = ModelLife(loader, self._tell_change)
        self._stamps: dict[str, Stamp | str] = {}  # of each model when it was last looked at
        self._poller: Poller | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._closed = False

    def start(self) -> Self:
        """Load and warm up the models that are to serve from the start.

        Raises:
            ModelNotFoundError: One of `load_models` is not there.
            RepositoryError: A model cannot be served, or there is none.
            DeviceError: A model does not run on the device.
        """
        try:
            if self._control == "poll":
                self.poll()
                self._poller = Poller(self.poll, self._poll_s)
            else:
                self._load_first()
        except BaseException:
            self.close()
            raise
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def models(self) -> Sequence[ModelInfo]:
        """List every version of every model that is ready, by name, then version rising."""
        return [
            served.info for versions in self._life.ready.values() for served in versions.values()
        ]

    def model(self, name: str, version: str = "") -> ModelInfo:
        """Describe a ready model; see `Engine.model`."""
        served = self._find(name, version)
        if served is None:
            raise self._not_found(name, version)
        return served.info

    def index(self) -> Sequence[VersionState]:
        """List every version of every model that the repository has, ready or not, and why."""
        return self._life.index(self._repository.names())

    def submit(self, request: InferRequest, done: Done) -> None:
        """Run a request; see `Engine.submit`."""
        served = self._find(request.model, request.version)
        if served is None:
            done(self._not_found(request.model, request.version))
            return
        served.submit(request, partial(self._answered, request, done))

    def load(
        self, model: str, *, config: str = "", files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load or reload a model; see `Engine.load`.

        An override holds until the model is loaded without one. Its files are all that the model
        then has; they never lie in the repository.

        Raises:
            ModelNotFoundError: The repository has no such model.
            RepositoryError: It cannot be served; what served before still does, `index` tells why.
            InputError: The configuration or the name of a file is no such thing.
            DeviceError: It does not run on the device.
            CapabilityError: Models are not loaded on request here.
            EngineClosedError: The engine is shutting down.
        """
        self._need_explicit_control("loaded")
        if files and not config:
            raise InputError("config", "is missing; files need a configuration of their own")
        override = parse_json_config(model, config) if config else None
        if not files:
            self._load(self._repository, model, override)
            return
        check_model_name(model)
        with unpacked(model, files) as folder:
            self._load(Repository(folder), model, override)

    def unload(self, model: str) -> None:
        """Stop serving a model; see `Engine.unload`."""
        self._need_explicit_control("unloaded")
        if model not in self._life.ready and model not in self._repository.names():
            raise ModelNotFoundError(model, available=tuple(self._life.ready))
        self._life.unload(model)

    def poll(self) -> None:
        """Load what was added or changed in the repository, unload what was removed.

        A model that cannot be served is told in the index, and tried again once its files change.
        """
        names = self._repository.names()
        for name in self._stamps.keys() - set(names):
            del self._stamps[name]
            self._life.forget(name)
        for name in names:
            try:
                stamp: Stamp | str = self._repository.stamp(name)
            except FacegenError as error:
                stamp = str(error)
            if stamp != self._stamps.get(name):
                self._stamps[name] = stamp
                self._try_load(name)

    def statistics(self, model: str = "", version: str = "") -> Sequence[ModelStatistics]:
        """Tell what ready models did; see `Engine.statistics`."""
        found = [
            served.statistics()
            for name, versions in self._life.ready.items()
            for number, served in versions.items()
            if model in ("", name) and version in ("", number)
        ]
        if model and not found:
            raise self._not_found(model, version)
        return found

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, from any thread, after the models that are ready have changed."""
        self._callbacks.append(callback)

    def close(self) -> None:
        """Finish what is queued, refuse what comes, free the models; again is no harm. Blocks."""
        already_closed, self._closed = self._closed, True
        if already_closed:
            return
        if self._poller is not None:
            self._poller.close()
        self._life.close()
        self._workers.close()
        self._timers.close()

    def _find(self, name: str, version: str) -> ServedVersion | None:
        if self._closed:
            return None
        versions = self._life.ready.get(name)
        if versions:
            if not version:
                return next(reversed(versions.values()))
            if version in versions:
                return versions[version]
        return self._life.retiring.get((name, version))

    def _not_found(self, name: str, version: str) -> FacegenError:
        if self._closed:
            return EngineClosedError()
        ready = self._life.ready
        if name not in ready:
            return ModelNotFoundError(name, version, available=tuple(ready))
        return ModelNotFoundError(name, version, available=[f"{name} {v}" for v in ready[name]])

    def _answered(
        self, request: InferRequest, done: Done, answer: dict[str, Array] | FacegenError
    ) -> None:
        """Pass an answer on, unless the request met a version that was just replaced."""
        if type(answer) is EngineClosedError and not self._closed:
            self.submit(request, done)
        else:
            done(answer)

    def _load_first(self) -> None:
        names = self._repository.names()
        if self._control == "explicit":
            self._load_chosen(names)
            return
        for name in names:
            self._try_load(name, strict=True)
        if not self._life.ready:
            raise RepositoryError(
                self._repository.path,
                "holds no model that runs here" if names else "holds no models",
                "make one with `facegen export RUN --to FOLDER`",
            )

    def _load_chosen(self, names: Sequence[str]) -> None:
        for name in self._load_models:
            if name == "*":
                for every in names:
                    self._try_load(every, strict=True)
            else:
                self._load(self._repository, name)

    def _try_load(self, name: str, *, strict: bool = False) -> None:
        """Load a model as far as it can be; the index tells what came of it."""
        try:
            self._load(self._repository, name)
        except BackendError:
            return
        except FacegenError:
            if strict:
                raise

    def _load(self, repository: Repository, name: str, config: Any = None) -> None:
        if repository is self._repository and name not in repository.names():
            raise ModelNotFoundError(name, available=tuple(self._life.ready))
        self._life.load(name, lambda: repository.read(name, config))

    def _need_explicit_control(self, done: str) -> None:
        if self._closed:
            raise EngineClosedError
        if self._control != "explicit":
            raise CapabilityError(
                f"models are not {done} on request with --model-control {self._control}",
                "start the server with --model-control explicit",
            )

    def _tell_change(self) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback()
            except Exception:  # the callback's outermost frame: what was replaced must be freed
                _LOGGER.exception("callback failed after models changed")
