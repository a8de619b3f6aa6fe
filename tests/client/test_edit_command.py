import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

Run = Callable[..., Any]


@pytest.fixture
def edit(facegen: Run, movable_server: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `facegen edit` against a real server."""
    monkeypatch.setenv("FACEGEN_SERVER", movable_server)

    def run(*arguments: str | Path) -> Any:
        return facegen("edit", *arguments)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "me.jpg"
    path.parent.mkdir()
    PillowImage.linear_gradient("L").convert("RGB").resize((90, 70)).save(path)
    return path


def _files_in(folder: Path) -> list[str]:
    return sorted(str(it.relative_to(folder)) for it in folder.rglob("*") if it.is_file())


def test_one_photo_becomes_the_file_named(edit: Run, photo: Path, tmp_path: Path) -> None:
    done = edit(photo, "--more", "Smiling", "--less", "Blond_Hair:0.5", "--out", "new/me.webp")

    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == "1 face in new/me.webp · hand-vae 1 · Smiling +1, Blond_Hair -0.5\n"
    with PillowImage.open(tmp_path / "new/me.webp") as made:
        assert (made.format, made.size) == ("WEBP", (90, 70))
        assert b'moves="Smiling=1 Blond_Hair=-0.5"' in made.info["xmp"]


def test_folders_and_seeds_are_edited_into_a_folder(edit: Run, photo: Path, tmp_path: Path) -> None:
    done = edit("photos", "--seed", "3", "--seed", "4", "--more", "Smiling:2", "--prior", "normal")

    assert done.code == 0, done.stderr
    assert "3 faces in edited/" in done.stdout
    assert _files_in(tmp_path / "edited") == [
        "me-edited.jpg",
        "seed-3-edited.png",
        "seed-4-edited.png",
    ]


def test_row_has_a_file_for_each_strength(edit: Run, tmp_path: Path) -> None:
    done = edit(
        "--seed", "3", "--traverse", "component-1", "--from", "-3", "--to", "3", "-n", "4",
        "--out", "row", "--format", "jpeg",
    )  # fmt: skip

    assert done.stdout == "1 face in row/ · hand-vae 1 · component-1 -3 to +3\n"
    assert _files_in(tmp_path / "row") == [f"seed-3-edited-000{step}.jpg" for step in range(4)]


def test_strip_shows_before_and_after_or_the_row(edit: Run, photo: Path, tmp_path: Path) -> None:
    pair = edit(photo, "--seed", "1", "--more", "Smiling", "--strip", "pair.png")
    row = edit(photo, "--traverse", "Smiling", "--count", "3", "--strip", "row.png")

    assert pair.code == row.code == 0, pair.stderr + row.stderr
    assert "2 faces in pair.png" in pair.stdout
    with PillowImage.open(tmp_path / "pair.png") as sheet:
        assert sheet.size == (2 * 50 + 2, 2 * 50 + 2)
        pixels = np.asarray(sheet).astype(int)
        assert (pixels[2:40, 52:100] - pixels[2:40, 2:50] == 20).all()
        assert "compositeWithTrained" in sheet.info["XML:com.adobe.xmp"]
    with PillowImage.open(tmp_path / "row.png") as sheet:
        assert sheet.size == (3 * 50 + 2, 50 + 2)
    assert _files_in(tmp_path) == ["pair.png", "photos/me.jpg", "row.png"]


@pytest.mark.parametrize(("suffix", "kind"), [("gif", "GIF"), ("webp", "WEBP")])
def test_animation_goes_there_and_back(
    edit: Run, photo: Path, tmp_path: Path, suffix: str, kind: str
) -> None:
    row = ("--traverse", "Smiling", "--count", "4")

    both = edit(photo, *row, "--animation", f"a/both.{suffix}", "--frame-ms", "60")
    one = edit(photo, *row, "--animation", f"a/one.{suffix}", "--one-way")

    assert both.code == one.code == 0, both.stderr + one.stderr
    for name, count, frame_ms in (("both", 6, 60), ("one", 4, 100)):
        with PillowImage.open(tmp_path / f"a/{name}.{suffix}") as picture:
            assert (picture.format, picture.size) == (kind, (90, 70))
            assert getattr(picture, "n_frames", 1) == count
            picture.load()
            assert picture.info["duration"] == frame_ms


def test_path_between_seeds_is_animated(
    facegen: Run, movable_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEGEN_SERVER", movable_server)

    done = facegen(
        "interpolate", "--seeds", "1,2", "-n", "3", "--animation", "p.gif", "--strip", "p.png"
    )

    assert done.stdout == "3 pictures in p.png and p.gif · spherical\n"
    assert _files_in(tmp_path) == ["p.gif", "p.png"]
    with PillowImage.open(tmp_path / "p.gif") as picture:
        assert (picture.format, getattr(picture, "n_frames", 1)) == ("GIF", 4)


def test_one_bad_photo_does_not_stop_the_others(edit: Run, photo: Path, tmp_path: Path) -> None:
    (photo.parent / "bad.jpg").write_text("not a picture")

    done = edit("photos", "missing.jpg", "--more", "Smiling", "--json")

    result = json.loads(done.stdout)
    assert done.code == 1
    assert result["files"] == {"photos/me.jpg": ["edited/me-edited.jpg"]}
    assert set(result["errors"]) == {"photos/bad.jpg", "missing.jpg"}
    assert (result["model"], result["moves"]) == ("hand-vae 1", {"Smiling": 1})
    assert "error: photos/bad.jpg: " in done.stderr


def test_unknown_direction_ends_at_once(edit: Run, photo: Path) -> None:
    done = edit(photo, "--seed", "1", "--more", "blond")

    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.count("error: ") == 1
    assert "near: Blond_Hair" in done.stderr


def test_unknown_prior_names_those_there_are(
    facegen: Run, movable_server: str, tmp_path: Path
) -> None:
    done = facegen("generate", "--prior", "norml", "--server", movable_server)

    assert done.code == 1
    assert 'family "hand-vae" has no "norml" (near: normal); it has normal' in done.stderr


def test_models_tell_directions(
    facegen: Run, movable_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEGEN_SERVER", movable_server)

    table, card = facegen("models").stdout, facegen("models", "hand-vae").stdout
    machine = json.loads(facegen("models", "hand-vae", "--json").stdout)

    assert "hand-vae moves along Smiling, Blond_Hair, component-1" in table
    assert "hand-zero moves" not in table
    assert "Smiling 0.75, Blond_Hair, component-1" in card
    assert machine["directions"][0] == {"name": "Smiling", "effect": 0.75}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--more", "Smiling"),
        ("me.jpg",),
        ("me.jpg", "--more", "Smiling:much"),
        ("me.jpg", "--more", ":1"),
        ("me.jpg", "--less", "Smiling:-1"),
        ("me.jpg", "--more", "Smiling:21"),
        ("me.jpg", "--more", "Smiling", "--from", "1"),
        ("me.jpg", "--more", "Smiling", "--animation", "a.gif"),
        ("me.jpg", "--traverse", "Smiling", "--animation", "a.png"),
        ("me.jpg", "--seed", "1", "--traverse", "Smiling", "--animation", "a.gif"),
        ("me.jpg", "--traverse", "Smiling", "--out", "a.png"),
        ("me.jpg", "you.jpg", "--more", "Smiling", "--out", "a.png"),
        ("me.jpg", "--more", "Smiling", "--out", "me.jpg"),
        ("me.jpg", "--more", "Smiling", "--out", "a.gif"),
        ("me.jpg", "--more", "Smiling", "--strip", "a.jpg"),
    ],
)
def test_misuse_ends_with_2_before_any_call(facegen: Run, arguments: tuple[str, ...]) -> None:
    done = facegen("edit", *arguments)

    assert done.code == 2, done.stderr
    assert "Error" in done.stderr
