"""What shards are made of: rows, and the faults of what could not be rendered."""

from collections.abc import Mapping
from dataclasses import dataclass

from facegen.serving.faces.latent_pipelines import Floats

__all__ = ["Chunk", "Column", "Fact", "Fault", "Rendered", "Row"]

Fact = str | int | float | None
Column = str
"""The type of a fact, as Arrow names it: `uint64`, `int32`, `double`, `string`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of a job's items that is rendered at once.

    Attributes:
        first: The first item's place in the job, from 0.
        count: Items, at least 1.
        inputs: The names of their files, if the job reads some.
    """

    first: int
    count: int
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A picture or mesh of the data set.

    Attributes:
        key: Its name in the data set, without a dot or slash.
        index: The index of the face under its seed, or of the input among all.
        data: The coded picture or mesh.
        facts: What is known of it, by the job's columns.
        latent: (Z,); None if there is none.
    """

    key: str
    index: int
    data: bytes
    facts: Mapping[str, Fact]
    latent: Floats | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an item could not be rendered.

    Attributes:
        index: As of a row.
        source: The input's name; empty if there is none.
        reason: The error's kind, for example `NoFaceError`.
        message: What was wrong, and what to do.
    """

    index: int
    source: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """What became of a chunk.

    Attributes:
        rows: Those that are kept, in the order of the items.
        faults: Of the items that could not be rendered.
        rejected_count: Rows that the job's `where` left out.
    """

    rows: tuple[Row, ...]
    faults: tuple[Fault, ...] = ()
    rejected_count: int = 0
