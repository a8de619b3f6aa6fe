"""Contact sheets of data sets whose pictures are of one level each."""

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.errors import OutputError, StoppedError
from facegen.serving.rendering.sheet import sheet, write_sheet
from tests.serving.family_graphs import EXPRESSION_FAMILY, SIZE_PX
from tests.serving.mesh_graphs import MESH_FAMILY
from tests.serving.rendering.conftest import RenderSet
from tests.serving.rendering.stopping import StopAfter

FORMATS = ("png", "webdataset", "parquet")
TILE_PX = SIZE_PX
# Between tiles, and below them with captions, as `contact_sheet` leaves it.
ACROSS_PX, DOWN_PX = TILE_PX + 2, TILE_PX + 6


def _levels(drawn: NDArray[np.uint8], columns: int, count: int) -> list[int]:
    """The levels of tiles in their middles."""
    middles = [
        (
            DOWN_PX * (tile // columns) + 2 + TILE_PX // 2,
            ACROSS_PX * (tile % columns) + TILE_PX // 2,
        )
        for tile in range(count)
    ]
    return [int(drawn[middle][0]) for middle in middles]


def _written(folder: Path, pattern: str = "*.png") -> list[int]:
    """The levels of a folder's pictures in their middles, in their order."""
    return [
        int(np.asarray(Image.open(path))[TILE_PX // 2, TILE_PX // 2])
        for path in sorted(folder.rglob(pattern))
    ]


def test_pictures_are_spread_evenly_from_the_first_to_the_last(
    tmp_path: Path, render_set: RenderSet
) -> None:
    render_set(tmp_path, count=41, shard_size=20)

    drawn = sheet(str(tmp_path), count=5, columns=3, tile_px=TILE_PX)

    levels = _written(tmp_path)
    # The last shard has one row, those before it two each: 0, 10; 20, 30; 40.
    assert _levels(drawn, 3, 5) == [levels[index] for index in (0, 10, 20, 30, 40)]


@pytest.mark.parametrize("remote", [False, True])
def test_sheet_is_the_same_whatever_the_container(
    tmp_path: Path, render_set: RenderSet, remote: bool
) -> None:
    root = "memory://sheets" if remote else str(tmp_path)
    for name in FORMATS:
        render_set(f"{root}/{name}", format=name, count=12, shard_size=5, seed=3)

    for count in (1, 7, 12, 100):
        one, *others = (sheet(f"{root}/{name}", count=count) for name in FORMATS)
        assert all(np.array_equal(other, one) for other in others)


@pytest.mark.parametrize("name", FORMATS)
def test_only_shards_of_chosen_rows_are_opened(
    tmp_path: Path, render_set: RenderSet, name: str
) -> None:
    render_set(tmp_path, format=name, count=20, shard_size=2)
    for number in range(1, 9):
        (shard,) = tmp_path.glob(f"shard-00000{number}*")
        shutil.rmtree(shard) if shard.is_dir() else shard.unlink()

    assert sheet(str(tmp_path), count=2, columns=2, tile_px=TILE_PX).shape[1] == 2 * ACROSS_PX + 2
    with pytest.raises(OutputError, match="shard-000004"):
        sheet(str(tmp_path), count=3)


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_made_of_one_photo_lies_side_by_side(
    tmp_path: Path, render_set: RenderSet, hand_photos: Path, name: str
) -> None:
    job: dict[str, Any] = {"kind": "transfer", "family": EXPRESSION_FAMILY, "crops": True}
    job |= {"input": str(hand_photos), "cropped": True, "shard_size": 3}
    render_set(tmp_path / "set", **job, format=name, coding="png")
    render_set(tmp_path / "files", **job, format="png")

    drawn = sheet(str(tmp_path / "set"), count=17, tile_px=TILE_PX)

    # Three photos of five expressions each; without a reason, there would not be five columns.
    assert drawn.shape[1] == 5 * ACROSS_PX + 2
    levels = _levels(drawn, 5, 15)
    for row, index in enumerate((1, 4, 8)):
        files = _written(tmp_path / "files", f"00000000{index}-*.png")
        assert sorted(levels[5 * row : 5 * row + 5]) == sorted(files)


@pytest.mark.parametrize("name", ["ply", "obj", "webdataset", "parquet"])
def test_meshes_are_drawn(tmp_path: Path, render_set: RenderSet, name: str) -> None:
    render_set(tmp_path, family=MESH_FAMILY, format=name, count=6, shard_size=4)

    drawn = sheet(str(tmp_path), columns=3, tile_px=100)

    tiles = [drawn[5:95, 5 + 105 * column : 100 + 105 * column] for column in range(3)]
    assert all((tile.min(axis=-1) < 235).mean() > 0.3 for tile in tiles)
    assert not np.array_equal(tiles[0], tiles[1])


def test_meshes_of_gltf_are_refused(tmp_path: Path, render_set: RenderSet) -> None:
    render_set(tmp_path, family=MESH_FAMILY, format="glb", count=2)

    with pytest.raises(OutputError, match="glTF, which is written here but not read"):
        sheet(str(tmp_path))


def test_stopped_data_set_has_a_sheet_of_what_is_there(
    tmp_path: Path, render_set: RenderSet
) -> None:
    with pytest.raises(StoppedError):
        render_set(tmp_path, finished=StopAfter(1), count=40, shard_size=2)

    assert sheet(str(tmp_path), count=2, columns=2, tile_px=TILE_PX).shape[1] == 2 * ACROSS_PX + 2


def test_captions_of_a_film_tell_between_which_faces_it_is(
    tmp_path: Path, render_set: RenderSet
) -> None:
    settings = {"count": 6, "family": "hand-vae"}
    render_set(tmp_path / "film", kind="interpolate", frames=2, **settings)
    render_set(tmp_path / "faces", **settings)

    film, faces = (sheet(str(tmp_path / name), columns=6) for name in ("film", "faces"))

    below = slice(205, None)
    ink = [(drawn[below].max(axis=-1) < 140).sum() for drawn in (film, faces)]
    assert ink[0] > 2 * ink[1]


def test_written_sheet_is_a_png_that_tells_the_family(
    tmp_path: Path, render_set: RenderSet
) -> None:
    render_set(tmp_path / "set", count=9)

    drawn = write_sheet(str(tmp_path / "set"), tmp_path / "sheet.png", count=4, columns=4)

    data = (tmp_path / "sheet.png").read_bytes()
    pixels = np.asarray(Image.open(BytesIO(data)))
    assert drawn == 4
    assert np.array_equal(pixels, sheet(str(tmp_path / "set"), count=4, columns=4))
    assert b'facegen:family="hand-vae"' in data


@pytest.mark.parametrize("name", FORMATS)
def test_broken_data_set_is_told_with_what_to_do(
    tmp_path: Path, render_set: RenderSet, name: str
) -> None:
    render_set(tmp_path, count=3, format=name)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".png", ".tar", ".parquet"):
            path.write_bytes(b"broken")

    with pytest.raises(OutputError, match="facegen render verify"):
        sheet(str(tmp_path))


def test_data_set_without_rows_and_none_at_all_are_errors(
    tmp_path: Path, render_set: RenderSet
) -> None:
    render_set(tmp_path / "set", count=2, where="index > 5")

    with pytest.raises(OutputError, match="has no rows"):
        sheet(str(tmp_path / "set"))
    with pytest.raises(OutputError, match="is no data set"):
        sheet(str(tmp_path))


def test_file_that_cannot_be_written_is_an_error(tmp_path: Path, render_set: RenderSet) -> None:
    render_set(tmp_path / "set", count=2)

    with pytest.raises(OutputError, match="cannot be written"):
        write_sheet(str(tmp_path / "set"), tmp_path / "nowhere" / "sheet.png")
