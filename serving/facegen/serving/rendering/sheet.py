"""Draws a contact sheet of a data set: pictures or meshes from all over it."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, islice
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.errors import OutputError, PictureError
from facegen.serving.imaging import (
    Origin,
    PictureFormat,
    PictureLimits,
    SheetPicture,
    Upload,
    contact_sheet,
    encode_pictures,
    open_pictures,
    photo_of,
)
from facegen.serving.meshes.mesh_file import MeshFile, MeshLimits
from facegen.serving.meshes.obj import read_obj
from facegen.serving.meshes.ply import is_ply, read_ply
from facegen.serving.rendering.job import MESH_FORMATS, TransferJob
from facegen.serving.rendering.mesh_drawing import draw_meshes
from facegen.serving.rendering.output.journal import Journal
from facegen.serving.rendering.output.reading import ShardRows, index_of, open_rows
from facegen.serving.rendering.output.records import shard_name
from facegen.serving.rendering.rows import Row

__all__ = ["sheet", "write_sheet"]

Pixels = NDArray[np.uint8]

# Captions below smaller tiles cannot be read, and larger ones show little more.
_LEAST_TILE_PX, _MOST_TILE_PX, _MESH_TILE_PX = 192, 320, 240
_ASPECT = 1.5
_ANY_MESH = MeshLimits(10_000_000, 10_000_000)


def sheet(
    url: str, *, count: int = 48, columns: int | None = None, tile_px: int | None = None
) -> Pixels:
    """Draw a contact sheet of rows that are spread evenly over a data set, done or not.

    Of transfers all that was made of one photo lies side by side.

    Args:
        url: The data set's folder or URL.
        count: The most pictures.
        columns: Pictures in a row of the sheet; None for as many as make it about 3 : 2.
        tile_px: The longer side of a picture; None for about the pictures' own size.

    Returns:
        (H, W, 3).

    Raises:
        OutputError: There is no data set with rows, or it cannot be read or drawn.
        InputError: Nothing reaches the URL.
    """
    return _laid_out(_DataSet(url).tiles(count, tile_px), columns=columns, tile_px=tile_px)


def write_sheet(url: str, path: Path, *, count: int = 48, columns: int | None = None) -> int:
    """Write a data set's contact sheet, as `sheet` draws it, to a PNG file.

    Returns:
        How many pictures are on it.

    Raises:
        OutputError: As `sheet`; or the file cannot be written.
        InputError: Nothing reaches the URL.
    """
    data_set = _DataSet(url)
    tiles = data_set.tiles(count, None)
    pixels = _laid_out(tiles, columns=columns, tile_px=None)
    (data,) = encode_pictures(pixels[None], PictureFormat(), origins=[data_set.origin])
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error}", "choose another file") from error
    return len(tiles)


@dataclass(frozen=True, slots=True)
class _Tile:
    """A picture of the sheet.

    Attributes:
        pixels: (H, W) or (H, W, 3).
        caption: What is written below it.
        index: That of its row.
    """

    pixels: Pixels
    caption: str
    index: int


class _DataSet:
    """A data set that has rows.

    Args:
        url: Its folder or URL.
    """

    def __init__(self, url: str) -> None:
        journal = Journal(url)
        plan = journal.plan()
        if plan is None:
            raise OutputError(
                url, "is no data set", "name the folder that `facegen render` wrote to"
            )
        if plan.job.coding == "glb":
            raise OutputError(
                url,
                "its meshes are glTF, which is written here but not read",
                "render a few with --format ply",
            )
        self._url, self._place, self._plan = url, journal.place, plan
        self._records = [record for record in journal.records() if record.files]
        if not self._records:
            raise OutputError(url, "has no rows", "render some first")

    @property
    def origin(self) -> Origin:
        """What made its pictures."""
        job = self._plan.job
        edited = isinstance(job, TransferJob) and not job.crops
        return Origin(job.family, job.version, edited=edited)

    def tiles(self, count: int, tile_px: int | None) -> list[_Tile]:
        """Read pictures, or draw meshes, from all over it.

        Args:
            count: The most that there are to be.
            tile_px: The longer sides of drawn meshes, and the most of pictures'; None for some.
        """
        rows = self._rows(count)
        if self._plan.job.coding not in MESH_FORMATS:
            limit_px = tile_px or _MOST_TILE_PX
            return [_Tile(self._photo(row, limit_px), _caption(row), row.index) for row in rows]
        named = [(self._mesh(row), _caption(row), row.index) for row in rows]
        drawn = draw_meshes([mesh for mesh, _, _ in named], side_px=tile_px or _MESH_TILE_PX)
        return [
            _Tile(pixels, caption, index)
            for pixels, (_, caption, index) in zip(drawn, named, strict=True)
        ]

    def _rows(self, count: int) -> Iterator[Row]:
        """Read rows, of a shard only those that are needed."""
        transferred = isinstance(self._plan.job, TransferJob)
        row_count = sum(record.row_count for record in self._records)
        each = 1
        if transferred:
            photos = sum(record.item_count - len(record.faults) for record in self._records)
            each = max(1, round(row_count / max(1, photos)))
        chosen = _spread(row_count, max(1, count // each))
        return islice(self._read(chosen, whole_items=transferred), count)

    def _read(self, chosen: Sequence[int], *, whole_items: bool) -> Iterator[Row]:
        firsts = list(accumulate((record.row_count for record in self._records), initial=0))
        for number, places in groupby(chosen, lambda place: bisect_right(firsts, place) - 1):
            record, within = self._records[number], [place - firsts[number] for place in places]
            try:
                with open_rows(self._place, record, container=self._plan.container) as rows:
                    if whole_items:
                        within = _items_of(rows, within)
                    elif len(within) == 1:
                        # Any would do, and the first one of a tar is found at once.
                        within = [0]
                    for place in within:
                        yield rows.row(place)
            except (OSError, OutputError, LookupError, ValueError) as error:
                raise self._unreadable(shard_name(record.number), error) from error

    def _photo(self, row: Row, limit_px: int) -> Pixels:
        """Decode a picture, and reduce it to what is needed."""
        try:
            pixels = photo_of(open_pictures([Upload(row.data, row.key)], PictureLimits())[0])
        except PictureError as error:
            raise self._unreadable(row.key, error) from error
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        picture.thumbnail((limit_px, limit_px), Image.Resampling.LANCZOS)
        return np.asarray(picture)

    def _mesh(self, row: Row) -> MeshFile:
        try:
            return (read_ply if is_ply(row.data) else read_obj)(row.data, _ANY_MESH)
        except ValueError as error:
            raise self._unreadable(row.key, error) from error

    def _unreadable(self, name: str, error: Exception) -> OutputError:
        return OutputError(
            f"{self._url}: {name}",
            f"cannot be read: {error}",
            "see what is wrong with `facegen render verify`",
        )


def _spread(row_count: int, count: int) -> list[int]:
    """Spread places evenly over rows, from the first to the last."""
    count = min(count, row_count)
    return [step * (row_count - 1) // max(1, count - 1) for step in range(count)]


def _items_of(rows: ShardRows, places: Sequence[int]) -> list[int]:
    """Give the places of all rows of the items that some rows are of."""
    indices = list(map(index_of, rows.keys()))
    wanted = {indices[place] for place in places}
    return [place for place, index in enumerate(indices) if index in wanted]


def _caption(row: Row) -> str:
    """Name a row: by its index, and by what tells it from others of the index."""
    facts = row.facts
    name, words = f"{row.index}", []
    if "from_index" in facts:
        start, end, place = facts["from_index"], facts["to_index"], facts["place"]
        name = f"{start} to {end}, {place:.2f}" if place else f"{start}"
    if "face" in facts and facts["face_count"] != 1:
        words.append(f"face {facts['face']}")
    if "expression" in facts:
        words.append(f"{facts['expression']}")
    elif "source" in facts:
        words.append(PurePosixPath(f"{facts['source']}").stem)
    return ": ".join([name, *words])


def _laid_out(tiles: Sequence[_Tile], *, columns: int | None, tile_px: int | None) -> Pixels:
    """Lay tiles out; where each item has several, its row is not broken."""
    if tile_px is None:
        side_px = max(max(tile.pixels.shape[:2]) for tile in tiles)
        tile_px = min(max(side_px, _LEAST_TILE_PX), _MOST_TILE_PX)
    runs = {len(list(run)) for _, run in groupby(tiles, lambda tile: tile.index)}
    if columns is None and len(runs) == 1 and (run := runs.pop()) > 1:
        columns = min(
            range(run, len(tiles) + 1, run),
            key=lambda columns: abs(math.log(columns**2 / len(tiles) / _ASPECT)),
        )
    pictures = [SheetPicture(tile.pixels, tile.caption) for tile in tiles]
    return contact_sheet(pictures, tile_px=tile_px, columns=columns)
