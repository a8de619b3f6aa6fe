"""What a data set holds, to compare it with another."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def hashes(folder: Path) -> Mapping[str, str]:
    """The hashes of the data set's files but the manifest, which tells of times."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
