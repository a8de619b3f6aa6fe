"""Reading pictures and meshes from files and writing files whole or not at all."""

import os
import secrets
from pathlib import Path

from facegen.client.errors import FileError

__all__ = ["read_mesh", "read_picture", "write_atomically"]


def read_picture(path: str | os.PathLike[str]) -> bytes:
    """Read the encoded bytes of a picture.

    Raises:
        FileError: The file is missing, unreadable or empty.
    """
    return _read(path, expected="a PNG, JPEG or WebP picture")


def read_mesh(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a mesh.

    Raises:
        FileError: The file is missing, unreadable or empty.
    """
    return _read(path, expected="a PLY or OBJ mesh")


def _read(path: str | os.PathLike[str], *, expected: str) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(path, problem=error.strerror or str(error)) from error
    if not data:
        raise FileError(path, problem=f"the file is empty, expected {expected}")
    return data


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file by way of a temporary one beside it, so that no reader ever sees half of it.

    Raises:
        FileError: The file cannot be written.
    """
    target = Path(path)
    # Not tempfile: its files are private to the user whatever the umask says.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(target)
    except OSError as error:
        raise FileError(path, problem=f"cannot write: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
