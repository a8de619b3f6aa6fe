"""Reads a model repository in Triton's layout.

Every model is a folder: `<name>/config.pbtxt`, which may be missing, and `<name>/<version>/` with
its graph, model.onnx unless the configuration names another file. Files beside the folders, such as
model cards, and folders whose name begins with a dot are passed over.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2

from facegen.serving.errors import ModelNotFoundError, RepositoryError
from facegen.serving.onnx.model_config import read_config, settle_backend

__all__ = ["Repository", "Stamp", "VersionFiles"]

_LOGGER = logging.getLogger(__name__)

_VERSION = re.compile(r"[1-9][0-9]*", re.ASCII)
_HASH_PARAMETER = "facegen.sha256."
_MAX_DEPTH = 8

# Paths, sizes, times of change and inodes: equal stamps are the same files, unchanged.
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """One version of a model as it lies in a repository.

    Attributes:
        version: Its number.
        config_path: The model's config.pbtxt.
        config: The model's `ModelConfig`, not yet completed from the graph.
        graph: Its graph.
        sha256: What the configuration says that the graph's hash is; empty if nothing.
        labels: What the values of outputs mean, by output, from their label files.
        fingerprint: Equal for the same files and the same configuration.
    """

    version: str
    config_path: Path
    config: Any
    graph: Path
    sha256: str
    labels: Mapping[str, tuple[str, ...]]
    fingerprint: object

    def read_graph(self) -> bytes:
        """Read the graph and check it against its hash, where that is given.

        Raises:
            RepositoryError: It cannot be read, or is not the file that was exported.
        """
        try:
            graph = self.graph.read_bytes()
        except OSError as error:
            raise RepositoryError(
                self.graph, f"cannot be read: {error.strerror}", "export the model again"
            ) from error
        actual = hashlib.sha256(graph).hexdigest()
        if self.sha256 not in ("", actual):
            raise RepositoryError(
                self.graph,
                f"its sha256 is {actual}, config.pbtxt says {self.sha256}",
                "the file was changed or cut off: export the model again, or fetch it again",
            )
        return graph


class Repository:
    """A folder of models. Nothing outside it is read: neither through names nor through links.

    Args:
        path: The folder.

    Raises:
        RepositoryError: It is not there, or no folder.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise RepositoryError(
                path,
                "is no folder" if path.exists() else "does not exist",
                "name a model repository, or make one with `facegen export RUN --to FOLDER`",
            )
        self.path = path
        self._root = path.resolve()

    def names(self) -> tuple[str, ...]:
        """List the models: every folder whose name is text and begins with no dot.

        Raises:
            RepositoryError: The repository cannot be read any more.
        """
        try:
            folders = [path.name for path in self.path.iterdir() if path.is_dir()]
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return tuple(sorted(name for name in folders if name[0] != "." and _is_text(name)))

    def stamp(self, name: str) -> Stamp:
        """Tell the state of all files of a model, to notice changes.

        Raises:
            ModelNotFoundError: The repository has no folder of this name.
            RepositoryError: A link leaves the repository, or a file went away meanwhile.
        """
        return self._stamp(self._folder(name))

    def read(self, name: str, config: Any = None) -> tuple[VersionFiles, ...]:
        """Read a model's configuration and find the versions that its policy serves, rising.

        Args:
            name: The model.
            config: A `ModelConfig` that stands for its config.pbtxt.

        Raises:
            ModelNotFoundError: The repository has no folder of this name.
            BackendError: Another backend must serve it.
            RepositoryError: The configuration is wrong, or a version's graph is missing.
        """
        folder = self._folder(name)
        path = folder / "config.pbtxt"
        if config is None:
            self._check_inside(path)
            config = read_config(path)
        try:
            present = _versions(folder)
        except OSError as error:
            raise _unreadable(folder, error) from error
        has_graph = any((folder / str(version) / "model.onnx").exists() for version in present)
        settle_backend(path, config, name, has_graph=has_graph)
        versions = _served_versions(path, config.version_policy, present)
        return tuple(self._version(path, config, str(version)) for version in versions)

    def _folder(self, name: str) -> Path:
        names = self.names()
        if name not in names:  # also keeps `..` and separators out
            raise ModelNotFoundError(name, available=names)
        folder = self.path / name
        self._check_inside(folder)
        return folder

    def _version(self, path: Path, config: Any, version: str) -> VersionFiles:
        folder = path.parent / version
        labels = self._labels(path, config)
        graph = folder / config.default_model_filename
        if graph.is_dir():  # Triton's layout for graphs with tensors in files of their own
            graph /= config.default_model_filename
        if not graph.is_file():
            raise RepositoryError(
                graph, "does not exist", "export the model again or remove the version"
            )
        hashes = {
            key: value.string_value
            for key, value in config.parameters.items()
            if key.startswith(_HASH_PARAMETER)
        }
        return VersionFiles(
            version=version,
            config_path=path,
            config=config,
            graph=graph,
            sha256=hashes.get(_HASH_PARAMETER + version, ""),
            labels=labels,
            fingerprint=(_config_digest(config, version), self._stamp(folder), labels),
        )

    def _labels(self, path: Path, config: Any) -> dict[str, tuple[str, ...]]:
        """Read the label files, which lie in the model's folder, one label a line."""
        labels = {}
        for output in config.output:
            if not output.label_filename:
                continue
            file = path.parent / output.label_filename
            if not file.resolve().is_relative_to(self._root):
                raise RepositoryError(file, "is not in the repository", "move it into the model's")
            try:
                labels[output.name] = tuple(file.read_text(encoding="utf-8").splitlines())
            except (OSError, UnicodeDecodeError) as error:
                _LOGGER.warning("labels not read output=%s problem=%s", output.name, error)
        return labels

    def _stamp(self, folder: Path) -> Stamp:
        return tuple(sorted(self._stamps(folder)))

    def _stamps(self, folder: Path) -> Iterator[tuple[str, int, int, int]]:
        try:
            for path in self._files(folder):
                state = path.stat()
                yield str(path), state.st_size, state.st_mtime_ns, state.st_ino
        except OSError as error:
            raise _unreadable(folder, error) from error

    def _files(self, folder: Path, depth: int = 0) -> Iterator[Path]:
        """All that lies in a folder, through links too, but not outside the repository."""
        self._check_inside(folder)
        if depth > _MAX_DEPTH:
            raise RepositoryError(folder, "lies too deep", "remove the folder, or the link's loop")
        for path in folder.iterdir():
            if path.is_dir():
                yield from self._files(path, depth + 1)
            else:
                self._check_inside(path)
            yield path

    def _check_inside(self, path: Path) -> None:
        if path.is_symlink() and not path.resolve().is_relative_to(self._root):
            raise RepositoryError(
                path, "is a link out of the repository", "copy what it points to into it"
            )


def _is_text(name: str) -> bool:
    """Whether a file's name, any bytes in Linux, can be told in a message."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _unreadable(path: Path, error: OSError) -> RepositoryError:
    return RepositoryError(path, f"cannot be read: {error}", "check its files, or try again")


def _config_digest(config: Any, version: str) -> str:
    """Digest what of a configuration concerns a version: not the choice, nor hashes, of others."""
    own = model_config_pb2.ModelConfig()
    own.CopyFrom(config)
    own.ClearField("version_policy")
    for key in list(own.parameters):
        if key.startswith(_HASH_PARAMETER) and key != _HASH_PARAMETER + version:
            del own.parameters[key]
    return hashlib.sha256(own.SerializeToString(deterministic=True)).hexdigest()


def _versions(folder: Path) -> list[int]:
    present = sorted(
        int(p.name) for p in folder.iterdir() if p.is_dir() and _VERSION.fullmatch(p.name)
    )
    if not present:
        raise RepositoryError(
            folder, "has no version folder", f"put a graph at {folder}/1/model.onnx"
        )
    return present


def _served_versions(path: Path, policy: Any, present: list[int]) -> list[int]:
    if policy.HasField("all"):
        return present
    if not policy.HasField("specific"):
        return present[-(policy.latest.num_versions or 1) :]
    wanted = sorted(set(policy.specific.versions))
    missing = [version for version in wanted if version not in present]
    if missing or not wanted:
        raise RepositoryError(
            path,
            f"its version_policy names {missing or 'no version'}, present are {present}",
            "correct the policy or add the version",
        )
    return wanted
