import os
from pathlib import Path

import pytest

from facegen.client import FileError, Image
from facegen.client.files import read_picture


def test_saved_image_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(b"old")

    Image(b"new").save(path)

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_saved_image_is_as_readable_as_the_umask_allows(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        Image(b"new").save(tmp_path / "face.png")
    finally:
        os.umask(umask)

    assert (tmp_path / "face.png").stat().st_mode & 0o777 == 0o644


def test_image_that_cannot_be_saved_names_its_path(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "face.png"

    with pytest.raises(FileError, match=r"missing/face\.png: cannot write: No such file"):
        Image(b"new").save(path)


def test_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "face.png"
    folder.mkdir()

    with pytest.raises(FileError, match="cannot write"):
        Image(b"new").save(folder)

    assert list(tmp_path.iterdir()) == [folder]


def test_empty_picture_names_its_path(tmp_path: Path) -> None:
    (tmp_path / "face.png").touch()

    with pytest.raises(FileError, match=r"face\.png: the file is empty"):
        read_picture(tmp_path / "face.png")
