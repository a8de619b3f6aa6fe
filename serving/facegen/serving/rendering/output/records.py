"""What is told of a shard that is done: in the journal, and then in the manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from facegen.serving.rendering.rows import Fault

__all__ = ["ShardFile", "ShardOrder", "ShardRecord", "shard_name"]


@dataclass(frozen=True, slots=True)
class ShardOrder:
    """A shard to be rendered.

    Attributes:
        number: Its place among the shards, from 0.
        first: The place of its first item in the job.
        count: Its items.
        inputs: The names of their files, if the job reads some.
    """

    number: int
    first: int
    count: int
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file of a shard.

    Attributes:
        name: Its path in the data set.
        size_bytes: Its size.
        sha256: Of its bytes, in hexadecimal digits. A folder's is that of its metadata.jsonl, which
            tells those of its pictures.
    """

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A shard that is done.

    Attributes:
        number: Its place among the shards.
        first: The place of its first item in the job.
        item_count: Its items.
        row_count: The rows that it has.
        rejected_count: Rows that the job's `where` left out.
        size_bytes: Of all its files together.
        files: Its file, of a folder metadata.jsonl and latents.npy; none if it has no rows.
        faults: Of the items that could not be rendered.
        duration_s: How long it took.
        worker: Who rendered it: machine and process.
    """

    number: int
    first: int
    item_count: int
    row_count: int
    rejected_count: int
    size_bytes: int
    files: tuple[ShardFile, ...]
    faults: tuple[Fault, ...]
    duration_s: float
    worker: str

    def as_json(self) -> dict[str, Any]:
        """Give it as an object of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "ShardRecord":
        """Read what `as_json` gave.

        Raises:
            KeyError, TypeError: It is something else.
        """
        files = tuple(ShardFile(**file) for file in fields["files"])
        faults = tuple(Fault(**fault) for fault in fields.get("faults", ()))
        return cls(**{**fields, "files": files, "faults": faults})


def shard_name(number: int) -> str:
    """Name a shard."""
    return f"shard-{number:06}"
