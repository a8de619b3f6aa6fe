import os
from pathlib import Path

import pytest

from facegen.client.commands.photos import Photo, find_photos

OUT = Path("out")


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*paths: str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_are_searched_at_any_depth_and_found_again_in_the_results() -> None:
    touch("a/z.png", "a/2024/may/x.JPG", "a/2024/y.webp", "a/notes.txt", "a/.x.jpg", "a/.y/z.jpg")

    photos, errors = find_photos([Path("a")], out=OUT)

    assert errors == []
    assert [(str(photo.path), str(photo.file("anger"))) for photo in photos] == [
        ("a/z.png", "out/z-anger.png"),
        ("a/2024/y.webp", "out/2024/y-anger.webp"),
        ("a/2024/may/x.JPG", "out/2024/may/x-anger.JPG"),
    ]
    assert [photo.mime_type for photo in photos] == ["image/png", "image/webp", "image/jpeg"]


def test_results_within_the_folder_are_not_taken_for_photos() -> None:
    touch("a/x.jpg", "a/out/x-anger.jpg", "a/b/out/y.jpg")

    photos, _ = find_photos([Path("a")], out=Path("a/out"))

    assert [str(photo.path) for photo in photos] == ["a/x.jpg", "a/b/out/y.jpg"]


def test_results_of_one_name_are_numbered_and_photos_named_twice_are_one() -> None:
    touch("a/x.jpg", "b/x.jpg", "b/x.png")

    photos, _ = find_photos([Path("a/x.jpg"), Path("b"), Path("b/../a/x.jpg")], out=OUT)
    as_png, _ = find_photos([Path("a"), Path("b")], out=OUT, suffix=".png")

    assert [photo.file("anger").name for photo in photos] == [
        "x-anger.jpg",
        "x-2-anger.jpg",
        "x-anger.png",
    ]
    assert [photo.file("anger").name for photo in as_png] == [
        "x-anger.png",
        "x-2-anger.png",
        "x-3-anger.png",
    ]


def test_files_are_taken_as_they_are() -> None:
    photos, errors = find_photos([Path("missing/photo"), Path("x.bmp")], out=OUT)

    assert errors == []
    assert photos == [
        Photo(Path("missing/photo"), OUT / "photo", ".png"),
        Photo(Path("x.bmp"), OUT / "x", ".png"),
    ]


def test_folders_without_photos_are_errors() -> None:
    touch("a/notes.txt", "b/x.jpg")

    photos, [error] = find_photos([Path("a"), Path("b")], out=OUT)

    assert [str(photo.path) for photo in photos] == ["b/x.jpg"]
    assert str(error) == "a: no .jpg, .jpeg, .png, .webp files in the folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_folders_that_cannot_be_read_are_errors() -> None:
    touch("a/x.jpg", "a/b/y.jpg")
    Path("a/b").chmod(0)

    photos, [error] = find_photos([Path("a")], out=OUT)
    Path("a/b").chmod(0o700)

    assert [str(photo.path) for photo in photos] == ["a/x.jpg"]
    assert str(error) == "a/b: Permission denied"
