"""System shared memory: clients on this machine pass tensors through files in /dev/shm.

They are read and written, never mapped: a client that cuts its file short would otherwise end this
process with SIGBUS. A copy is what that costs.
"""

import os
import re
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facegen.serving.errors import InputError, RegionError, UnsupportedError
from facegen.serving.kserve.parameters import read_parameter

__all__ = ["Place", "Region", "Regions"]

_FOLDER = Path("/dev/shm")
_KEY = re.compile(r"/?(?!\.{1,2}$)[^/\0]{1,255}")


class Region:
    """A part of a shared memory file, open until nobody holds it any more.

    Args:
        name: What clients call it.
        key: The file's name, perhaps after a slash.
        offset: Where it begins, bytes.
        byte_size: How long it is.

    Raises:
        InputError: The key is no plain name, or the file no such file or too short.
        RegionError: There is no such file, or it may not be used.
    """

    def __init__(self, name: str, key: str, *, offset: int, byte_size: int) -> None:
        self._file = -1
        self.name = name
        self.key = key
        self.offset = offset
        self.byte_size = byte_size
        if not _KEY.fullmatch(key):
            raise InputError("key", f"is {key!r}; give the name of a file in /dev/shm alone")
        try:
            # Neither follow links out of the folder nor wait for a pipe's other end.
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._file = os.open(_FOLDER / key.removeprefix("/"), flags)
        except OSError as error:
            raise RegionError(
                name, f"cannot be opened: {key!r} in /dev/shm: {error.strerror}; create it first"
            ) from error
        self._check_file()

    def __del__(self) -> None:
        # A call may still use what another has unregistered: the last to let go closes it.
        if self._file >= 0:
            os.close(self._file)

    def read(self, offset: int, byte_size: int) -> bytes:
        """Copy bytes out.

        Raises:
            RegionError: The file has become shorter, or is more than there is memory.
        """
        try:
            read = os.pread(self._file, byte_size, self.offset + offset)
        except MemoryError as error:  # the size of a file is what its owner says
            raise RegionError(self.name, f"has {byte_size} bytes, too many to read") from error
        if len(read) != byte_size:
            raise RegionError(self.name, f"was cut short: {len(read)} of {byte_size} bytes left")
        return read

    def write(self, offset: int, written: bytes) -> None:
        """Copy bytes in.

        Raises:
            RegionError: The file has become shorter, or there is no memory for it.
        """
        end = self.offset + offset + len(written)
        if os.fstat(self._file).st_size < end:
            raise RegionError(self.name, f"was cut short: it ends before byte {end} of its file")
        try:
            count = os.pwrite(self._file, written, self.offset + offset)
        except OSError as error:
            raise RegionError(self.name, f"cannot be written: {error.strerror}") from error
        if count != len(written):
            raise RegionError(self.name, f"took {count} of {len(written)} bytes: memory is full")

    def _check_file(self) -> None:
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise InputError("key", f"is {self.key!r}, which is no shared memory; name a file")
        if self.byte_size < 1 or self.offset + self.byte_size > status.st_size:
            raise InputError(
                "byte_size",
                f"is {self.byte_size} from offset {self.offset}, {self.key!r} has "
                f"{status.st_size} bytes; stay within",
            )


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a region a tensor is.

    Attributes:
        region: The region.
        offset: Where in it the tensor begins.
        byte_size: How many bytes there are for it.
    """

    region: Region
    offset: int
    byte_size: int

    def read(self) -> bytes:
        """Copy the tensor out."""
        return self.region.read(self.offset, self.byte_size)

    def write(self, field: str, written: bytes) -> None:
        """Copy a tensor in.

        Raises:
            InputError: It is longer than the place.
        """
        if len(written) > self.byte_size:
            raise InputError(
                f'{field}["shared_memory_byte_size"]',
                f"is {self.byte_size}, the output has {len(written)} bytes; give as many or more",
            )
        self.region.write(self.offset, written)


class Regions:
    """The regions that clients have registered; safe to use from several threads.

    Args:
        enabled: Whether they may.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._lock = threading.Lock()
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, *, offset: int, byte_size: int) -> None:
        """Register a region.

        Raises:
            UnsupportedError: Regions are not enabled.
            InputError: The name is empty, or as `Region`.
            RegionError: The name is taken, or as `Region`.
        """
        if not self.enabled:
            raise UnsupportedError(
                "this server takes no tensors through shared memory",
                "send them in the messages, or start it with --shared-memory",
            )
        if not name:
            raise InputError("name", "is empty; name the region")
        with self._lock:
            if name in self._regions:
                raise RegionError(name, "is registered; unregister it first", exists=True)
            self._regions[name] = Region(name, key, offset=offset, byte_size=byte_size)

    def unregister(self, name: str) -> None:
        """Forget a region, or all if the name is empty; one that is not there is no harm."""
        with self._lock:
            if name:
                self._regions.pop(name, None)
            else:
                self._regions.clear()

    def find(self, name: str) -> Region:
        """Give a region.

        Raises:
            RegionError: It is not registered.
        """
        region = self._regions.get(name)
        if region is None:
            raise RegionError(name, "is not registered; register it first")
        return region

    def list(self, name: str = "") -> tuple[Region, ...]:
        """Give a region, or all if the name is empty.

        Raises:
            RegionError: It is not registered.
        """
        if name:
            return (self.find(name),)
        with self._lock:
            return tuple(self._regions.values())

    def place(self, field: str, parameters: Any) -> Place | None:
        """Read where the parameters of a tensor say that it is; None: in the message.

        Raises:
            InputError: They are of the wrong kind, incomplete, or beyond the region.
            RegionError: The region is not registered.
        """
        name = read_parameter(field, parameters, "shared_memory_region", "string_param")
        if name is None:
            return None
        byte_size = read_parameter(field, parameters, "shared_memory_byte_size", "int64_param")
        offset = read_parameter(field, parameters, "shared_memory_offset", "int64_param") or 0
        if byte_size is None:
            raise InputError(
                f'{field}["shared_memory_byte_size"]', "is missing; give it with the region"
            )
        region = self.find(name)
        if byte_size < 0 or offset < 0 or offset + byte_size > region.byte_size:
            raise InputError(
                f'{field}["shared_memory_byte_size"]',
                f'is {byte_size} from offset {offset}, region "{name}" has {region.byte_size} '
                "bytes; stay within",
            )
        return Place(region, offset, byte_size)
