"""What a load request brings instead of the repository's files."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from facegen.serving.errors import InputError

__all__ = ["check_model_name", "unpacked"]

# A version and a file's name: no separators beyond, no parent folders, no hidden files.
_FILE = re.compile(r"[1-9][0-9]{0,18}/[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,200}", re.ASCII)
_MODEL = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,200}")
_MOST_BYTES = 255  # of a name, in Linux's file systems


def check_model_name(name: str) -> None:
    """Refuse a name that could be no folder's.

    Raises:
        InputError: It has separators, control characters, or begins with a dot.
    """
    if not _MODEL.fullmatch(name) or len(name.encode()) > _MOST_BYTES:
        raise InputError("model", f"{name[:100]!r} is no model's name; use a folder's")


@contextmanager
def unpacked(name: str, files: Mapping[str, bytes]) -> Iterator[Path]:
    """Write the files of a model to a temporary repository, for as long as it is loaded.

    Args:
        name: The model's, checked.
        files: By `<version>/<file>`.

    Raises:
        InputError: A file has another kind of name.
    """
    for path in files:
        if not _FILE.fullmatch(path) or len(path.partition("/")[2].encode()) > _MOST_BYTES:
            raise InputError(f"file:{path[:100]}", "is not named <version>/<file>")
    with tempfile.TemporaryDirectory(prefix="facegen-") as folder:
        for path, content in files.items():
            target = Path(folder) / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        yield Path(folder)
