"""Opens the engine of a run: the models of one family, and patience with a server that is away."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from facegen.errors import FacegenError
from facegen.serving.config import ServerConfig
from facegen.serving.engine import Array, Done, Engine, InferRequest, ModelInfo, VersionState
from facegen.serving.engines import open_engine
from facegen.serving.errors import (
    CallCancelledError,
    DeadlineError,
    EngineClosedError,
    InputError,
    NotReadyError,
    QueueFullError,
)
from facegen.serving.rendering.job import RunConfig
from facegen.serving.statistics import ModelStatistics

__all__ = ["PatientEngine", "open_run_engine"]

_LOGGER = logging.getLogger(__name__)

# What passes by itself: the server restarts, or others keep it busy.
_PASSING = (QueueFullError, EngineClosedError, NotReadyError, DeadlineError)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0


def open_run_engine(config: RunConfig, family: str, *, kind: str = "", threads: int = 0) -> Engine:
    """Open an engine for one family: of a repository no other models are loaded.

    Args:
        config: Which engine.
        family: The family; empty: the first VAE of a repository by name, or the first of `kind`.
        kind: What kind the default family is of.
        threads: Executions at a time; 0: one for each CPU available.

    Raises:
        InputError: There is no such family.
        FacegenError: As `open_engine`.
    """
    scheme, _, where = config.engine.partition(":")
    if scheme != "onnx" or not where:
        return PatientEngine(open_engine(ServerConfig(engine=config.engine)), config.retry_s)
    # Imported here: who asks a server needs no ONNX Runtime.
    from facegen.serving.onnx.engine import OnnxEngine

    return OnnxEngine(
        Path(where),
        device=config.device,
        threads=threads,
        model_control="explicit",
        load_models=_models_of(Path(where), family, kind),
        # Of batches all but a shard's last have one size. Without, a session has phases in which
        # the same batch takes 1.2 times as long: where its tensors lie is chance then.
        memory_patterns=True,
    ).start()


def _models_of(repository_path: Path, family: str, kind: str) -> tuple[str, ...]:
    """Name the models of a family in a repository, by their configurations alone."""
    from facegen.serving.onnx.model_config import read_config
    from facegen.serving.onnx.repository import Repository

    repository = Repository(repository_path)
    families: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    for name in repository.names():
        said = read_config(repository_path / name / "config.pbtxt").parameters
        if "facegen.family" in said:
            own = said["facegen.family"].string_value
            families.setdefault(own, []).append(name)
            kinds[own] = said["facegen.kind"].string_value if "facegen.kind" in said else ""
    wanted = family or _default_family(kinds, kind)
    if wanted not in families:
        known = ", ".join(sorted(families)) or "none"
        which = f'"{wanted}"' if wanted else f"one of kind {kind or 'vae'}"
        raise InputError("family", f"{which} is not in {repository_path}, which has {known}")
    return tuple(families[wanted])


def _default_family(kinds: Mapping[str, str], kind: str) -> str:
    """Name the family of jobs that name none."""
    names = sorted((said != (kind or "vae"), name) for name, said in kinds.items())
    of_kind = [name for other, name in names if not other]
    return next(iter(of_kind or [name for _, name in names if not kind]), "")


class PatientEngine(Engine):
    """An engine that tries again what another one refuses for the moment.

    Args:
        engine: The other one; it is closed with this.
        patience_s: Seconds after which its error is passed on.
    """

    def __init__(self, engine: Engine, patience_s: float) -> None:
        self._engine, self._patience_s = engine, patience_s
        self._warned_at = -_LONGEST_PAUSE_S

    def models(self) -> Sequence[ModelInfo]:
        """List every version of every model that is ready."""
        return self._engine.models()

    def model(self, name: str, version: str = "") -> ModelInfo:
        """Describe a ready model."""
        return self._engine.model(name, version)

    def index(self) -> Sequence[VersionState]:
        """List every version of every model that the repository has."""
        return self._engine.index()

    def submit(self, request: InferRequest, done: Done) -> None:
        """Run a request; again and again while what keeps it from running passes by itself."""
        give_up_at = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S

        def answered(answer: dict[str, Array] | FacegenError) -> None:
            nonlocal pause_s
            if not isinstance(answer, _PASSING) or time.monotonic() + pause_s > give_up_at:
                done(answer)
                return
            if request.context.cancelled:
                done(CallCancelledError())
                return
            self._warn(answer)
            timer = threading.Timer(pause_s, self._engine.submit, (request, answered))
            timer.daemon = True
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            timer.start()

        self._engine.submit(request, answered)

    def load(
        self, model: str, *, config: str = "", files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load or reload a model."""
        self._engine.load(model, config=config, files=files)

    def unload(self, model: str) -> None:
        """Stop serving a model."""
        self._engine.unload(model)

    def statistics(self, model: str = "", version: str = "") -> Sequence[ModelStatistics]:
        """Tell what ready models did."""
        return self._engine.statistics(model, version)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after the models that are ready have changed."""
        self._engine.on_change(callback)

    def close(self) -> None:
        """Close the other engine."""
        self._engine.close()

    def _warn(self, error: FacegenError) -> None:
        """Tell of what is waited for, not more often than the longest pause."""
        now = time.monotonic()
        if now - self._warned_at >= _LONGEST_PAUSE_S:
            self._warned_at = now
            _LOGGER.warning("waiting for the server error=%s", error)
