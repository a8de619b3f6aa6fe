"""Folders on this machine or wherever fsspec reaches; a file gets there whole or not at all.

Nothing is written in its place. On this machine it is written aside, synced and renamed, and so is
its folder synced; object stores show an object when the whole of it has come.
"""

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from facegen.serving.errors import InputError, OutputError

__all__ = ["LocalPlace", "Place", "RemotePlace", "explained", "open_output", "open_place"]

_LIBC = ctypes.CDLL(None, use_errno=True)


class Place(ABC):
    """A folder that a data set is written to; safe to use from several threads and machines.

    Names are relative and have slashes. What is raised is OutputError.
    """

    @abstractmethod
    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a new folder on this machine to write in; what is left there is removed."""

    @abstractmethod
    def put(self, staged: Path, name: str) -> None:
        """Move a staged file, or folder of files, to its name, whole or not at all."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a small file whole or not at all, in place of one that may be there."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Read a file; None: there is none."""

    @abstractmethod
    def read_all(self, folder: str) -> dict[str, bytes]:
        """Read all files of a folder, by their names in it; none if it is not there."""

    @abstractmethod
    def names(self) -> list[str]:
        """List what is directly in it; nothing if it is not there."""

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """List all files of a folder at any depth, by their paths in it, and their bytes."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Tell the bytes of a file; None: there is none."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, or a folder and all in it; one that is not there is no harm."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Tell how many bytes it has room for; None: nobody knows."""

    @abstractmethod
    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keep others from writing here; where a place has no locks, nothing does.

        Raises:
            OutputError: Somebody else holds the lock.
        """

    @abstractmethod
    def open(self, name: str) -> Any:
        """Open a file to read bytes of it, anywhere in it."""


class LocalPlace(Place):
    """A folder of this machine, or one that several machines mount.

    Args:
        root: The folder; made where it is missing.
        work: The name of the folder in it for what is not done yet.
    """

    def __init__(self, root: Path, *, work: str) -> None:
        self._root, self._staging = root, root / work / "staging"

    def __str__(self) -> str:
        return str(self._root)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a new folder to write in, on the file system of the place."""
        folder = self._staging / secrets.token_hex(8)
        with explained(self._root):
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put(self, staged: Path, name: str) -> None:
        """Sync a staged file or folder, rename it to its name, and sync the folder it is in."""
        target = self._root / name
        with explained(self._root):
            _sync(staged)
            if staged.is_dir() and target.is_dir():
                # Left by a run that was killed before it told of it: a folder cannot be replaced.
                target.rename(staged.with_name(f"{staged.name}.old"))
            staged.replace(target)
            _sync_one(target.parent)

    def write(self, name: str, data: bytes) -> None:
        """Write a file aside, sync and rename it."""
        target = self._root / name
        with explained(self._root):
            target.parent.mkdir(parents=True, exist_ok=True)
            with self.staging() as folder:
                staged = folder / target.name
                staged.write_bytes(data)
                _sync(staged)
                staged.replace(target)
            _sync_one(target.parent)

    def read(self, name: str) -> bytes | None:
        """Read a file; None: there is none."""
        with explained(self._root):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def read_all(self, folder: str) -> dict[str, bytes]:
        """Read all files of a folder."""
        with explained(self._root):
            if not (self._root / folder).is_dir():
                return {}
            return {path.name: path.read_bytes() for path in (self._root / folder).iterdir()}

    def names(self) -> list[str]:
        """List what is directly in it."""
        with explained(self._root):
            return sorted(path.name for path in self._root.iterdir()) if self._root.is_dir() else []

    def size(self, name: str) -> int | None:
        """Tell the bytes of a file."""
        with explained(self._root):
            try:
                return (self._root / name).stat().st_size
            except FileNotFoundError:
                return None

    def sizes(self, folder: str) -> dict[str, int]:
        """List all files of a folder and their bytes."""
        root = self._root / folder
        with explained(self._root):
            return {
                path.relative_to(root).as_posix(): path.stat().st_size
                for path in root.rglob("*")
                if path.is_file()
            }

    def remove(self, name: str) -> None:
        """Remove a file or a folder."""
        path = self._root / name
        with explained(self._root):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def free_bytes(self) -> int | None:
        """Tell how much room the file system has."""
        folder = next(it for it in (self._root, *self._root.absolute().parents) if it.exists())
        return shutil.disk_usage(folder).free

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock that the kernel takes back when this process ends."""
        path = self._root / name
        with explained(self._root):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(
                    self._root, "another run is writing to it", "wait for it, or stop it"
                ) from error
            except OSError as error:
                raise OutputError(
                    self._root, f"cannot be locked: {error}", "choose another folder"
                ) from error
            yield

    def open(self, name: str) -> Any:
        """Open a file."""
        with explained(self._root):
            return (self._root / name).open("rb")


class RemotePlace(Place):
    """A folder that fsspec reaches, such as a prefix of a bucket.

    Args:
        files: The file system.
        root: The folder in it.
        url: Its URL, for messages.
    """

    def __init__(self, files: Any, root: str, url: str) -> None:
        self._files, self._root, self._url = files, root.rstrip("/"), url

    def __str__(self) -> str:
        return self._url

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a new folder to write in, where temporary files go."""
        with tempfile.TemporaryDirectory(prefix="facegen-") as folder:
            yield Path(folder)

    def put(self, staged: Path, name: str) -> None:
        """Upload a staged file or the files of a folder; an object shows when all of it came."""
        with explained(self._url):
            if not staged.is_dir():
                self._files.put_file(str(staged), self._path(name))
                return
            names = sorted(path.name for path in staged.iterdir())
            self._files.makedirs(self._path(name), exist_ok=True)
            self._files.put(
                [str(staged / it) for it in names], [self._path(f"{name}/{it}") for it in names]
            )

    def write(self, name: str, data: bytes) -> None:
        """Upload a small file."""
        with explained(self._url):
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(self._path(name), data)

    def read(self, name: str) -> bytes | None:
        """Fetch a file; None: there is none."""
        with explained(self._url):
            try:
                return bytes(self._files.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def read_all(self, folder: str) -> dict[str, bytes]:
        """Fetch all files of a folder, several at a time."""
        with explained(self._url):
            self._files.invalidate_cache()
            paths = self._files.find(self._path(folder))
            contents = self._files.cat_ranges(paths, None, None)
        return {
            path.rpartition("/")[2]: bytes(data) for path, data in zip(paths, contents, strict=True)
        }

    def names(self) -> list[str]:
        """List what is directly in it."""
        with explained(self._url):
            self._files.invalidate_cache()
            try:
                found = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
        names = {path.rstrip("/").rpartition("/")[2] for path in found}
        return sorted(names - {self._root.rpartition("/")[2]})

    def size(self, name: str) -> int | None:
        """Tell the bytes of a file."""
        with explained(self._url):
            try:
                return int(self._files.size(self._path(name)))
            except FileNotFoundError:
                return None

    def sizes(self, folder: str) -> dict[str, int]:
        """List all files of a folder and their bytes."""
        root = self._path(folder)
        with explained(self._url):
            self._files.invalidate_cache()
            found = self._files.find(root, detail=True)
        return {path[len(root) + 1 :]: int(facts["size"]) for path, facts in found.items()}

    def remove(self, name: str) -> None:
        """Remove a file or all files of a folder."""
        with explained(self._url):
            self._files.invalidate_cache()
            if self._files.exists(self._path(name)):
                self._files.rm(self._path(name), recursive=True)

    def free_bytes(self) -> int | None:
        """Nobody knows."""
        return None

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Do nothing: object stores have no locks. Two runs of a job write the same bytes."""
        yield

    def open(self, name: str) -> Any:
        """Open a file."""
        with explained(self._url):
            return self._files.open(self._path(name), "rb")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def open_place(url: str, *, field: str) -> tuple[Any, str]:
    """Open the file system of a path or URL.

    Args:
        url: The path or URL.
        field: What names it, for the error.

    Returns:
        The file system, and the path in it.

    Raises:
        InputError: Nothing reaches it, or a package is missing that would.
    """
    try:
        files, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(field, f"{url!r} cannot be reached: {error}") from error
    return files, str(root).rstrip("/")


def open_output(url: str, *, work: str) -> Place:
    """Open the place of a data set.

    Args:
        url: Its path or URL.
        work: The name of the folder in it for what is not done yet.

    Raises:
        InputError: Nothing reaches it.
    """
    if "://" not in url and "::" not in url:
        return LocalPlace(Path(url).expanduser(), work=work)
    files, root = open_place(url, field="out")
    if "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol):
        return LocalPlace(Path(root), work=work)
    return RemotePlace(files, root, url)


@contextmanager
def explained(where: object) -> Iterator[None]:
    """Turn what the operating system or a store says into our error.

    Raises:
        OutputError: Something was said.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room" if full else "mend that"
        raise OutputError(
            where,
            f"cannot be used: {error.strerror or error}",
            f"{remedy}, and go on with --resume",
        ) from error


def _sync(staged: Path) -> None:
    """Bring a file, or a folder and its files, to the disk."""
    if not staged.is_dir():
        _sync_one(staged)
        return
    # One call for the whole file system: a file at a time costs more than coding the pictures.
    descriptor = os.open(staged, os.O_RDONLY)
    try:
        if _LIBC.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
