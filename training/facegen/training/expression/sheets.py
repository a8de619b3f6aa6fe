"""Contact sheets of edits: the first sources as they come, chosen by nobody."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facegen.training.expression.judging import Judge
from facegen.training.expression.sources import LabelledFaces, Pixels
from facegen.training.expression.transferring import Transfer

__all__ = ["Cell", "Sheet", "expression_sheet", "strength_sheet"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a sheet.

    Attributes:
        image: (H, W, C) uint8.
        verdict: What the judge sees.
        wanted: What it should see, or was said to see; empty where nothing is asked.
    """

    image: Pixels
    verdict: str
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows of pictures under headings.

    Attributes:
        columns: A heading for each column.
        rows: A label and the cells of each row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def expression_sheet(
    transfer: Transfer,
    judge: Judge,
    sources: LabelledFaces,
    *,
    expressions: Sequence[str],
    row_count: int,
) -> Sheet:
    """Make a sheet of sources (rows) by expressions (columns), their own included.

    Args:
        transfer: Edits faces.
        judge: Says what is seen.
        sources: The first of them are taken.
        expressions: To give to each.
        row_count: How many sources.
    """
    first = sources.take(np.arange(min(row_count, len(sources))))
    columns = [_cells(judge, first.pixels, first.expressions.tolist())]
    columns += [
        _cells(judge, transfer(first.pixels, name, 1.0).images, [name] * len(first))
        for name in expressions
    ]
    rows = zip(first.expressions.tolist(), zip(*columns, strict=True), strict=True)
    return Sheet(("source", *expressions), tuple(rows))


def strength_sheet(
    transfer: Transfer,
    judge: Judge,
    sources: LabelledFaces,
    *,
    expressions: Sequence[str],
    strengths: Sequence[float],
    row_count: int,
) -> Sheet:
    """Make a sheet of edits (rows) by strength (columns).

    Args:
        transfer: Edits faces.
        judge: Says what is seen.
        sources: The first of other expressions are taken, different ones for each expression
            while there are some.
        expressions: To give.
        strengths: From left to right.
        row_count: How many sources an expression.
    """
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    taken: set[int] = set()
    for name in expressions:
        others = np.flatnonzero(sources.expressions != name).tolist()
        chosen = sorted(others, key=lambda row: row in taken)[:row_count]
        taken.update(chosen)
        before = sources.pixels[np.array(chosen, dtype=np.intp)]
        columns = [
            _cells(judge, transfer(before, name, s).images, [name if s >= 1 else ""] * len(before))
            for s in strengths
        ]
        rows += [(name, cells) for cells in zip(*columns, strict=True)]
    return Sheet(tuple(f"{strength:g}" for strength in strengths), tuple(rows))


def _cells(judge: Judge, images: Pixels, wanted: Sequence[str]) -> list[Cell]:
    verdicts = judge.verdicts(images).tolist()
    return [Cell(*it) for it in zip(images, verdicts, wanted, strict=True)]
