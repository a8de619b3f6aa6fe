"""Whether a file has changed since it was read."""

from pathlib import Path

__all__ = ["FileStamp", "file_stamp"]

FileStamp = tuple[int, ...]


def file_stamp(path: Path) -> FileStamp:
    """Give a value that changes with the file; empty if it cannot be looked at.

    Links are followed, so that a secret which Kubernetes mounts changes when its link is turned.
    """
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_size, status.st_ino)
