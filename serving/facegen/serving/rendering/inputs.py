"""The files that a job reads: found once, in an order that stays, and read as they are needed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from facegen.serving.errors import InputError
from facegen.serving.rendering.output.places import open_place

__all__ = ["InputFile", "InputFolder", "digest_of"]

_MOST_FILE_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of a folder.

    Attributes:
        name: Its path within the folder, with slashes.
        size_bytes: Its size.
    """

    name: str
    size_bytes: int


class InputFolder:
    """A folder of photos or meshes, on this machine or wherever fsspec reaches.

    Args:
        url: Its path or URL.

    Raises:
        InputError: There is no such folder, or no way to it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._files: Any
        self._files, self._root = open_place(url, field="input")

    def find(self, suffixes: Sequence[str]) -> list[InputFile]:
        """List the files with these suffixes, at any depth, by name; hidden ones are left out.

        Raises:
            InputError: There are none, or the folder cannot be listed.
        """
        try:
            if not self._files.isdir(self._root):
                raise InputError("input", f"{self._url} is no folder; name one of photos or meshes")
            found = self._files.find(self._root, detail=True)
        except OSError as error:
            raise InputError("input", f"{self._url} cannot be listed: {error}") from error
        files = []
        for path, facts in found.items():
            name = path[len(self._root) :].lstrip("/")
            hidden = any(part.startswith(".") for part in name.split("/"))
            if name and not hidden and name.lower().endswith(tuple(suffixes)):
                files.append(InputFile(name, int(facts["size"] or 0)))
        if not files:
            kinds = ", ".join(suffixes)
            raise InputError(
                "input", f"there are no {kinds} files in {self._url}; name a folder of some"
            )
        return sorted(files, key=lambda file: file.name)

    def read(self, names: Sequence[str]) -> list[bytes | InputError]:
        """Read files, from afar several at a time; of one that cannot be read comes the error."""
        paths = {f"{self._root}/{name}": name for name in names}
        # Not `cat`, which takes brackets in names for patterns. Of what is too large no more comes.
        most = _MOST_FILE_BYTES + 1
        answers = self._files.cat_ranges(list(paths), 0, most, on_error="return")
        return [
            _checked(answer, name) for answer, name in zip(answers, paths.values(), strict=True)
        ]


def digest_of(files: Sequence[InputFile]) -> str:
    """Hash the names and sizes of files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(json.dumps([file.name, file.size_bytes]).encode() + b"\n")
    return digest.hexdigest()


def _checked(answer: bytes | Exception, name: str) -> bytes | InputError:
    if isinstance(answer, Exception):
        return InputError(name, f"cannot be read: {answer}")
    if len(answer) > _MOST_FILE_BYTES:
        return InputError(name, f"has more than {_MOST_FILE_BYTES} bytes; reduce it")
    return answer
