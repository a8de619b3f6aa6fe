"""Writes a family into a model repository: all of it, each model in one step, or nothing."""

import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import text_format

from facegen.export.config import (
    BatchingOptions,
    FamilyFacts,
    GraphRole,
    model_config,
    parse_config,
    to_text,
)
from facegen.export.errors import OptionError, RepositoryConflictError
from facegen.export.flavour import TritonBackend, backend_files, set_backend

__all__ = ["StagedModel", "publish", "put_in_place"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_HASH_PREFIX = "facegen.sha256."


@dataclass(frozen=True, slots=True)
class StagedModel:
    """A graph that passed its checks.

    Attributes:
        role: What it does in its family.
        model: The graph.
    """

    role: GraphRole
    model: onnx.ModelProto


def publish(
    repository: Path,
    models: Sequence[StagedModel],
    facts: FamilyFacts,
    *,
    version: int,
    batching: BatchingOptions,
    files: Mapping[str, bytes | None],
    backend: TritonBackend = "onnxruntime",
) -> tuple[Path, ...]:
    """Write a version of a family.

    Everything is written and synced in a hidden folder of the repository first. Then each model's
    folder takes the place of the old one in one step; other versions are kept. A reader sees the
    old model or the new one, never a mixture of both. What the version had and has no more, as the
    prior of a label, goes: it is of other latents.

    Args:
        repository: The folder; made if it is not there.
        models: The family's graphs.
        facts: What the family says of itself; the newest version's stand in config.pbtxt.
        version: The version to write; the same version is replaced.
        batching: How a server may batch.
        files: Contents by file name, put beside the models' folders; None takes such a file away.
        backend: The backend of Triton that shall run them.

    Returns:
        The paths written.

    Raises:
        OptionError: The repository's path is a file, or cannot be written.
        RepositoryConflictError: Another version of a model has other inputs or outputs.
    """
    try:
        repository.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".export-", dir=repository))
    except OSError as error:
        raise OptionError(
            "--to", str(repository), expected=f"a folder that can be written ({error.strerror})"
        ) from error
    written: list[Path] = []
    try:
        names = [staged.role.model_name(facts.family) for staged in models]
        for name, staged in zip(names, models, strict=True):
            _stage(
                staging / name,
                repository / name,
                staged=staged,
                facts=facts,
                version=version,
                batching=batching,
                backend=backend,
            )
        contents = {file: content for file, content in files.items() if content is not None}
        for file, content in contents.items():
            _write(staging / file, content)
        for name in names:
            put_in_place(staging / name, repository / name)
            written.append(repository / name / str(version) / "model.onnx")
        for left in _left_over(repository, facts.family, names=names, version=version):
            _withdraw(left, staging, version=version)
        for file in files.keys() - contents.keys():
            (repository / file).unlink(missing_ok=True)
        for file in contents:
            (staging / file).replace(repository / file)
            written.append(repository / file)
        _sync_folder(repository)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return tuple(written)


def _stage(
    target: Path,
    existing: Path,
    *,
    staged: StagedModel,
    facts: FamilyFacts,
    version: int,
    batching: BatchingOptions,
    backend: TritonBackend,
) -> None:
    """Build a model's folder beside the existing one, with its other versions."""
    others = sorted(int(p.name) for p in existing.glob("*/") if p.name.isdecimal())
    others = [other for other in others if other != version]
    graph = staged.model.SerializeToString(deterministic=True)
    hashes = {str(version): hashlib.sha256(graph).hexdigest()}
    config = model_config(staged.model, facts, role=staged.role, hashes=hashes, batching=batching)
    if others and (existing / "config.pbtxt").is_file():
        config = _merge(existing, config, version=version, others=others)
    set_backend(config, backend)
    _write(target / str(version) / "model.onnx", graph)
    for other in others:
        ignored = shutil.ignore_patterns("model.py", "__pycache__")
        shutil.copytree(existing / str(other), target / str(other), ignore=ignored)
    for name, content in backend_files(backend).items():
        for each in (version, *others):
            _write(target / str(each) / name, content)
    _write(target / "config.pbtxt", to_text(config).encode())
    _sync_folder(target)


def _left_over(repository: Path, family: str, *, names: Sequence[str], version: int) -> list[Path]:
    """Models of a family that have a version which is not theirs any more."""
    found = []
    for path in repository.glob(f"{family}-*/config.pbtxt"):
        model = path.parent
        if model.name in names or not (model / str(version)).is_dir():
            continue
        try:
            config = parse_config(path.read_text("utf-8"))
        except text_format.ParseError:
            continue  # nobody's of ours
        if config.parameters["facegen.family"].string_value == family:
            found.append(model)
    return found


def _withdraw(model: Path, staging: Path, *, version: int) -> None:
    """Take a version out of a model's folder, and the whole folder where it is the only one."""
    others = [p for p in model.glob("*/") if p.name.isdecimal() and p.name != str(version)]
    target = staging / f"{model.name}.withdrawn"
    (model / str(version) if others else model).rename(target)


def _merge(existing: Path, new: Any, *, version: int, others: Sequence[int]) -> Any:
    """Say both versions' hashes in one config; what else it says is the newest version's."""
    text = (existing / "config.pbtxt").read_text("utf-8")
    try:
        old = parse_config(text)
    except text_format.ParseError as error:
        raise OptionError(
            "--to", str(existing / "config.pbtxt"), expected=f"a ModelConfig: {error}"
        ) from error
    for side in ("input", "output"):
        before, after = (
            [(t.name, t.data_type, tuple(t.dims)) for t in getattr(c, side)] for c in (old, new)
        )
        if before != after:
            raise RepositoryConflictError(
                new.name,
                versions=[str(other) for other in others],
                difference=f"{side}s {before} and {after}",
            )
    merged = new if version > max(others) else old
    # What both say of one version is the new one's.
    hashes = _hashes(old) | _hashes(new)
    for key in {f"{_HASH_PREFIX}{number}" for number in (version, *others)} & hashes.keys():
        merged.parameters[key].string_value = hashes[key]
    return merged


def _hashes(config: Any) -> dict[str, str]:
    return {
        key: parameter.string_value
        for key, parameter in config.parameters.items()
        if key.startswith(_HASH_PREFIX)
    }


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(staged: Path, target: Path) -> None:
    """Move a folder to a place that another folder may hold; that one goes to the staged path."""
    if not target.exists():
        staged.rename(target)
        return
    if _exchange(staged, target):
        return
    # Without an atomic exchange the model is missing for the time between two renames.
    old = staged.with_name(f"{staged.name}.old")
    target.rename(old)
    staged.rename(target)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step, where the system and the file system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))
