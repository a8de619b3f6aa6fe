"""Reads a model repository in Triton's layout.

Every model is a folder: `<name>/config.pbtxt` and `<name>/<version>/model.onnx`. Files beside the
folders, such as model cards, are passed over.
"""

import re
from pathlib import Path
from typing import Any

from facegen.serving.errors import ModelNotFoundError, RepositoryError
from facegen.serving.onnx.model_config import RepositoryModel, describe_version, read_config

__all__ = ["Repository"]

_VERSION = re.compile(r"[1-9][0-9]*", re.ASCII)


class Repository:
    """A folder of models.

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

    def names(self) -> tuple[str, ...]:
        """List the models: every folder whose name begins with no dot.

        Raises:
            RepositoryError: There is none.
        """
        names = tuple(
            sorted(p.name for p in self.path.iterdir() if p.is_dir() and p.name[0] != ".")
        )
        if not names:
            raise RepositoryError(
                self.path, "holds no models", "make one with `facegen export RUN --to FOLDER`"
            )
        return names

    def read(self, name: str) -> tuple[RepositoryModel, ...]:
        """Read a model's config.pbtxt and find the versions that its policy serves, rising.

        Raises:
            ModelNotFoundError: The repository has no folder of this name.
            RepositoryError: The config is missing or broken, or a version's model.onnx is missing.
        """
        names = self.names()
        if name not in names:  # also keeps `..` and separators out
            raise ModelNotFoundError(name, available=names)
        path = self.path / name / "config.pbtxt"
        config = read_config(path)
        versions = _served_versions(path, config.version_policy)
        return tuple(describe_version(path, config, version) for version in versions)


def _served_versions(path: Path, policy: Any) -> list[int]:
    folder = path.parent
    present = sorted(
        int(p.name) for p in folder.iterdir() if p.is_dir() and _VERSION.fullmatch(p.name)
    )
    if not present:
        raise RepositoryError(
            folder, "has no version folder", f"put a graph at {folder}/1/model.onnx"
        )
    if policy.HasField("all"):
        return present
    if not policy.HasField("specific"):
        return present[-(policy.latest.num_versions or 1) :]
    wanted = sorted(policy.specific.versions)
    missing = [version for version in wanted if version not in present]
    if missing or not wanted:
        raise RepositoryError(
            path,
            f"its version_policy names {missing or 'no version'}, present are {present}",
            "correct the policy or add the version",
        )
    return wanted
