"""Copies a model repository into another flavour, without the runs that it came from."""

import shutil
import tempfile
from pathlib import Path

from google.protobuf import text_format

from facegen.export.config import parse_config, to_text
from facegen.export.errors import OptionError
from facegen.export.flavour import TritonBackend, backend_files, set_backend
from facegen.export.repository import put_in_place

__all__ = ["convert_repository", "is_repository"]


def is_repository(folder: Path) -> bool:
    """Whether a folder is a model repository, not a run."""
    return next(folder.glob("*/config.pbtxt"), None) is not None


def convert_repository(source: Path, target: Path, *, backend: TritonBackend) -> tuple[Path, ...]:
    """Copy a repository's ONNX models for a backend; graphs stay as they are.

    Args:
        source: The repository, of either flavour.
        target: The folder to write to; made if it is not there. Models of the same name are
            replaced, each in one step.
        backend: The backend that shall run them.

    Returns:
        The models' folders written.

    Raises:
        OptionError: The target is the source or cannot be written, or a config.pbtxt is none.
    """
    if target.resolve() == source.resolve():
        raise OptionError("--to", str(target), expected="another folder than the repository's")
    try:
        target.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".export-", dir=target))
    except OSError as error:
        raise OptionError(
            "--to", str(target), expected=f"a folder that can be written ({error.strerror})"
        ) from error
    models = sorted({graph.parent.parent for graph in source.glob("*/*/model.onnx")})
    try:
        for model in models:
            _convert(model, staging / model.name, backend)
        for model in models:
            put_in_place(staging / model.name, target / model.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return tuple(target / model.name for model in models)


def _convert(source: Path, target: Path, backend: TritonBackend) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("model.py", "__pycache__"))
    path = target / "config.pbtxt"
    try:
        config = parse_config(path.read_text("utf-8"))
    except (OSError, text_format.ParseError) as error:
        raise OptionError(
            "repository", str(source / "config.pbtxt"), expected=f"a ModelConfig: {error}"
        ) from error
    set_backend(config, backend)
    path.write_text(to_text(config), "utf-8")
    for graph in target.glob("*/model.onnx"):
        for name, content in backend_files(backend).items():
            graph.with_name(name).write_bytes(content)
