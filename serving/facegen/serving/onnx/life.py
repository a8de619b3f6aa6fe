"""The life of models: loaded, replaced, unloaded, and what a repository's index tells of it."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from facegen.serving.engine import VersionState
from facegen.serving.errors import EngineClosedError
from facegen.serving.onnx.memory import release_memory
from facegen.serving.onnx.repository import VersionFiles
from facegen.serving.onnx.versions import Loader, ServedVersion
from facegen.serving.statistics import ModelStatistics

__all__ = ["ModelLife", "Ready"]

_LOGGER = logging.getLogger(__name__)

_UNLOADED = "unloaded"
State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
# What serves: by name, then by version, rising.
Ready = Mapping[str, dict[str, ServedVersion]]


class ModelLife:
    """Which versions serve, and why the others do not.

    One change happens at a time. `ready` is replaced, never changed, so reading it needs no lock.
    `retiring` are versions that still answer who names them, while `changed` tells of the new ones.

    Args:
        loader: Makes versions ready.
        changed: Called, by the thread that changes models, when `ready` has changed and what was
            replaced still runs.
    """

    def __init__(self, loader: Loader, changed: Callable[[], None]) -> None:
        self._loader = loader
        self._changed = changed
        self._changing = threading.RLock()  # a callback may load and unload too
        self._states: dict[str, dict[str, VersionState]] = {}
        self._statistics: dict[tuple[str, str], ModelStatistics] = {}
        self._closed = False
        self.ready: Ready = {}
        self.retiring: Mapping[tuple[str, str], ServedVersion] = {}

    def load(self, name: str, read: Callable[[], Sequence[VersionFiles]]) -> None:
        """Make the versions that a repository wants ready, then let go of those it does not.

        Versions that have not changed are kept. If one fails, all stays as it was before.

        Args:
            name: The model.
            read: Reads which versions these are.

        Raises:
            FacegenError: What `read` or loading raised; the index tells it too.
            EngineClosedError: The engine is shutting down.
        """
        with self._changing:
            if self._closed:
                raise EngineClosedError
            before = self.ready.get(name, {})
            after = self._prepare(name, before, read)
            if after == before:
                self._settle(name, after)
            else:
                self._swap(name, after)
            _LOGGER.info("model ready model=%s versions=%s", name, ",".join(after))

    def unload(self, name: str) -> None:
        """Let a model finish what waits for it, and free it; without harm if it does not serve."""
        with self._changing:
            if self.ready.get(name):
                self._swap(name, {})
                _LOGGER.info("model unloaded model=%s", name)

    def forget(self, name: str) -> None:
        """Unload a model that is in the repository no more, and drop it from the index."""
        with self._changing:
            self.unload(name)
            self._states.pop(name, None)

    def index(self, names: Sequence[str]) -> list[VersionState]:
        """Tell the state of every version, of these models and of all that were loaded."""
        states = {name: dict(versions) for name, versions in list(self._states.items())}
        index: list[VersionState] = []
        for name in sorted({*names, *states}):
            versions = states.get(name) or {"": VersionState(name, "", "UNAVAILABLE", "not loaded")}
            index.extend(versions[v] for v in sorted(versions, key=lambda v: int(v or 0)))
        return index

    def close(self) -> None:
        """Take no more models and let go of all."""
        self._closed = True
        with self._changing:
            before, self.ready = self.ready, {}
            for versions in before.values():
                _close(list(versions.values()))

    def _prepare(
        self,
        name: str,
        before: Mapping[str, ServedVersion],
        read: Callable[[], Sequence[VersionFiles]],
    ) -> dict[str, ServedVersion]:
        """Open what is new or has changed, keep the rest; if one fails, let go of those opened."""
        after: dict[str, ServedVersion] = {}
        version = ""
        try:
            for files in read():
                version = files.version
                served = before.get(version)
                if served is None:
                    self._state(name, version, "LOADING")
                if served is None or served.fingerprint != files.fingerprint:
                    served = self._open(name, files)
                after[version] = served
        except BaseException as error:
            opened = {v: served for v, served in after.items() if before.get(v) is not served}
            for aborted in opened.keys() - before.keys():
                self._state(name, aborted, "UNAVAILABLE", f"version {version} failed")
            self._fail(name, version, error)
            _close(list(opened.values()))
            raise
        return after

    def _open(self, name: str, files: VersionFiles) -> ServedVersion:
        key = (name, files.version)
        statistics = self._statistics.setdefault(key, ModelStatistics(*key))
        return self._loader.open(files, statistics)

    def _swap(self, name: str, after: dict[str, ServedVersion]) -> None:
        """Let other versions serve, tell it, then drain and free those that do not any more."""
        before = self.ready.get(name, {})
        ready = {**self.ready, name: after}
        if not after:
            del ready[name]
        self.ready = dict(sorted(ready.items()))
        replaced = [served for v, served in before.items() if after.get(v) is not served]
        gone = {v: served for v, served in before.items() if v not in after}
        self._settle(name, after)
        for version in gone:
            self._state(name, version, "UNLOADING")
        self.retiring = {(name, version): served for version, served in gone.items()}
        self._changed()
        self.retiring = {}
        _close(replaced)
        for version in gone:
            self._state(name, version, "UNAVAILABLE", _UNLOADED)

    def _settle(self, name: str, after: Mapping[str, ServedVersion]) -> None:
        """Note what serves, and forget the failures before it."""
        states = self._states.get(name, {})
        unloaded = {v: state for v, state in states.items() if state.reason == _UNLOADED}
        ready = {v: VersionState(name, v, "READY") for v in after}
        self._states[name] = unloaded | ready

    def _state(self, name: str, version: str, state: State, reason: str = "") -> None:
        states = self._states.setdefault(name, {})
        # A new dictionary, so that the index can be read meanwhile.
        self._states[name] = {**states, version: VersionState(name, version, state, reason)}

    def _fail(self, name: str, version: str, error: BaseException) -> None:
        """Note why a load failed: at the version at fault, or at all that serve instead."""
        _LOGGER.warning("model not loaded model=%s version=%s reason=%s", name, version, error)
        serving = self.ready.get(name, {})
        states = dict(self._states.get(name, {}))
        states.pop("", None)
        at_fault = [version] if version else list(serving) or [""]
        for fault in at_fault:
            state: State = "READY" if fault in serving else "UNAVAILABLE"
            states[fault] = VersionState(name, fault, state, str(error))
        self._states[name] = states


def _close(versions: Sequence[ServedVersion]) -> None:
    for served in versions:
        served.close()
    if versions:
        release_memory()
