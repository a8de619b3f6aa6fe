"""Where derived arrays are kept on disk, and how files come to be there whole."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cache_folder", "write_atomically"]


def cache_folder(root: Path) -> Path:
    """The folder of what is derived from a data set: beside it, or else in the user's cache.

    Args:
        root: The data set's folder.

    Returns:
        `.facegen-cache` in it, or $XDG_CACHE_HOME/facegen where that cannot be written.
    """
    beside = root / ".facegen-cache"
    try:
        beside.mkdir(exist_ok=True)
        if os.access(beside, os.W_OK):
            return beside
    except OSError:
        pass
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "facegen"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, content: NDArray[Any] | bytes | Iterable[bytes]) -> None:
    """Write a file that is either whole or not there, whenever the process ends.

    Args:
        path: The file; one of that name is replaced.
        content: An array, written as .npy, or bytes, in one piece or several.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if isinstance(content, np.ndarray):
                np.save(file, content)
            else:
                file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
