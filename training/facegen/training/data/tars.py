"""Files in tar archives, as WebDataset's shards are: listed once, then read where they lie."""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from facegen.training.errors import DatasetError

__all__ = ["TarMember", "tar_members"]


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in a tar archive without compression.

    Attributes:
        path: The archive.
        offset: Where the file begins in it, in bytes.
        size_bytes: Its length.
    """

    path: Path
    offset: int
    size_bytes: int

    def read(self) -> bytes:
        """The file's bytes."""
        with self.path.open("rb") as archive:
            archive.seek(self.offset)
            return archive.read(self.size_bytes)


def tar_members(path: Path) -> Mapping[str, TarMember]:
    """List the files of an archive; of files of one name the last counts, as if it were unpacked.

    Args:
        path: The archive.

    Returns:
        The files by name, in their order.

    Raises:
        DatasetError: It is compressed, cut short or no tar archive; right once it is written again.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            members = {
                PurePosixPath(it.name).as_posix(): TarMember(path, it.offset_data, it.size)
                for it in archive
                if it.isreg()
            }
            # tarfile takes a broken header for the end, which is a block of zeros.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no file and no end at byte {archive.offset}")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DatasetError(
            "tar archive",
            looked_for="files without compression up to the archive's end",
            where=path,
            remedy=f"It cannot be read: {error}. Write it again, or take it away.",
        ) from error
    return members
