"""Puts a new version of a family into a repository that servers poll, as docs/scaling.md says."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

__all__ = ["copy_families", "keep_versions", "roll_out"]


def copy_families(models: Path, repository: Path, *families: str) -> Path:
    """Copy some families of a repository into one of their own."""
    for model in sorted(models.iterdir()):
        if model.is_dir() and model.name.startswith(tuple(f"{family}-" for family in families)):
            shutil.copytree(model, repository / model.name)
    return repository


def keep_versions(repository: Path, count: int) -> None:
    """Have the newest versions of every model served, so many of them."""
    for model in repository.iterdir():
        config = _read(model)
        config.version_policy.latest.num_versions = count
        _write(model, config)


def roll_out(
    repository: Path, family: str, version: str, *, make: Callable[[str, bytes], bytes]
) -> None:
    """Add a version to each model of a family; each appears whole.

    Args:
        repository: The repository, which servers poll.
        family: The family.
        version: The new version.
        make: Gives its graph, of a model's name and the graph of its first version.
    """
    for model in sorted(repository.glob(f"{family}-*")):
        graph = make(model.name, (model / "1" / "model.onnx").read_bytes())
        config = _read(model)
        hashed = hashlib.sha256(graph).hexdigest()
        config.parameters[f"facegen.sha256.{version}"].string_value = hashed
        _write(model, config)
        # Beside the repository, where no server looks, and on the same file system.
        staged = repository.with_name(f"{repository.name}.staged")
        staged.mkdir()
        (staged / "model.onnx").write_bytes(graph)
        staged.rename(model / version)


def _read(model: Path) -> model_config_pb2.ModelConfig:
    text = (model / "config.pbtxt").read_text("utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def _write(model: Path, config: model_config_pb2.ModelConfig) -> None:
    staged = model.parent.with_name(f"{model.parent.name}.config.pbtxt")
    staged.write_text(text_format.MessageToString(config), "utf-8")
    staged.replace(model / "config.pbtxt")
