import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from facegen.client import Client, InvalidRequestError
from tests.serving.family_graphs import EXPRESSION_FAMILY

Run = Callable[..., Any]
MAIN = [sys.executable, "-c", "from facegen.client.cli import main; main()"]
PHOTO = Path("docs/pictures/astronaut.jpg").resolve()
HAPPY = ("--expression", "happiness")


@pytest.fixture
def transfer(
    facegen: Run, expression_server: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Run `facegen transfer` against a real server."""
    monkeypatch.setenv("FACEGEN_SERVER", expression_server)
    monkeypatch.setenv("FACEGEN_TIMEOUT_S", "120")

    def run(*arguments: str | Path) -> Any:
        return facegen("transfer", *arguments)

    return run


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of photos: two of a face, of which one lies deeper, one of none, one broken."""
    folder = tmp_path / "album"
    (folder / "2024").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(PHOTO.read_bytes())
    with PillowImage.open(PHOTO) as picture:
        picture.save(folder / "2024" / "b.PNG")
    PillowImage.linear_gradient("L").convert("RGB").save(folder / "wall.webp")
    (folder / "broken.jpg").write_text("not a picture")
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(str(it.relative_to(folder)) for it in folder.rglob("*") if it.is_file())


def test_one_photo_becomes_the_file_named(transfer: Run, tmp_path: Path) -> None:
    done = transfer(PHOTO, *HAPPY, "--strength", "0.8", "--out", "new/happy.webp")

    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == f"1 photo in new/happy.webp · 1 face, {EXPRESSION_FAMILY} 1\n"
    assert files_in(tmp_path) == ["new/happy.webp"]
    with PillowImage.open(tmp_path / "new/happy.webp") as made, PillowImage.open(PHOTO) as photo:
        assert (made.format, made.size) == ("WEBP", photo.size)


def test_file_named_is_written_again(transfer: Run, tmp_path: Path) -> None:
    (tmp_path / "happy.jpg").write_text("old")

    assert transfer(PHOTO, *HAPPY, "--out", "happy.jpg").code == 0

    with PillowImage.open(tmp_path / "happy.jpg") as made:
        assert made.format == "JPEG"


def test_folder_goes_on_past_bad_photos_and_where_it_was_cut_off(
    transfer: Run, album: Path, tmp_path: Path
) -> None:
    done = transfer("album", *HAPPY, "--expression", "anger:0.5")

    out = tmp_path / "transferred"
    assert done.code == 1
    assert "error: album/broken.jpg: is not a picture" in done.stderr
    assert "error: album/wall.webp: shows no face" in done.stderr
    assert "--cropped" in done.stderr
    assert "2 photos in transferred/ · 2 faces" in done.stdout
    assert "2 failed" in done.stdout
    assert files_in(out) == [
        "2024/b-anger.PNG",
        "2024/b-happiness.PNG",
        "a-anger.jpg",
        "a-happiness.jpg",
    ]

    (album / "broken.jpg").unlink()
    (album / "wall.webp").unlink()
    (out / "a-anger.jpg").unlink()
    (out / "a-happiness.jpg").write_text("kept")
    again = transfer("album", *HAPPY, "--expression", "anger:0.5")

    assert (again.code, again.stderr) == (0, "")
    assert "1 photo in transferred/ · 1 face" in again.stdout
    assert "1 there already" in again.stdout
    assert (out / "a-happiness.jpg").read_text() == "kept"
    assert (out / "a-anger.jpg").stat().st_size > 1000


def test_what_is_there_needs_no_server(facegen: Run, album: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a-happiness.jpg").write_text("kept")

    skipped = facegen(
        "transfer", album / "a.jpg", *HAPPY, "--out", "out", "--server", "127.0.0.1:1"
    )
    redone = facegen(
        "transfer", album / "a.jpg", *HAPPY, "--out", "out", "--overwrite",
        "--server", "127.0.0.1:1",
    )  # fmt: skip

    assert (skipped.code, skipped.stderr) == (0, "")
    assert skipped.stdout == "0 photos in out/ · 1 there already\n"
    assert redone.code == 1
    assert redone.stderr.startswith("error: no answer from 127.0.0.1:1")
    assert (tmp_path / "out" / "a-happiness.jpg").read_text() == "kept"


def test_machines_get_a_line_for_each_photo(transfer: Run, album: Path) -> None:
    done = transfer("album", "missing.jpg", *HAPPY, "--crops", "--json")

    lines = {line["photo"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.code == 1
    assert len(lines) == 5
    good = lines["album/2024/b.PNG"]
    assert good["files"] == ["transferred/2024/b-face0-happiness.png"]
    assert good["model"] == f"{EXPRESSION_FAMILY} 1"
    assert good["faces"][0]["left_px"] < good["faces"][0]["right_px"]
    assert len(good["faces"][0]["points"]) == 5
    assert (good["error"], good["skipped"]) == ("", False)
    assert lines["album/wall.webp"]["reason"] == "NO_FACE"
    assert "No such file" in lines["missing.jpg"]["error"]
    with PillowImage.open(good["files"][0]) as crop:
        assert (crop.size, crop.mode) == ((48, 48), "L")


def test_sheet_of_every_expression(transfer: Run, album: Path, tmp_path: Path) -> None:
    full = transfer(album / "a.jpg", "--all", "--out", "sheets")
    weak = transfer(album / "wall.webp", "--all", "--strength", "0", "--cropped", "--out", "s.png")

    assert (full.code, weak.code) == (0, 0), weak.stderr
    assert files_in(tmp_path / "sheets") == ["a-expressions.jpg"]
    with PillowImage.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 5 * 48


def test_one_expression_at_two_strengths_makes_two_files(
    transfer: Run, album: Path, tmp_path: Path
) -> None:
    done = transfer(
        album / "a.jpg", "-e", "happiness:0.5", "-e", "happiness:1", "-e", "happiness:1",
        "--format", "jpeg",
    )  # fmt: skip

    assert done.code == 0, done.stderr
    assert files_in(tmp_path / "transferred") == ["a-happiness-0.5.jpg", "a-happiness-1.jpg"]


def test_wrong_expression_ends_it_with_one_error(transfer: Run, album: Path) -> None:
    done = transfer("album", "--expression", "joy")

    assert (done.code, done.stdout) == (1, "")
    assert 'has no "joy"' in done.stderr.splitlines()[-1]
    assert done.stderr.count("joy") == 1


def test_photo_larger_than_a_message_is_named(transfer: Run, tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(65 * 1024 * 1024)

    done = transfer("huge.jpg", PHOTO, *HAPPY)

    assert done.code == 1
    assert done.stderr.startswith("error: huge.jpg: ")
    assert "--max-message-bytes" in done.stderr
    assert "1 photo in transferred/" in done.stdout


def test_results_too_large_for_one_answer_come_one_by_one(
    facegen: Run, serve_expressions: Callable[..., Any], album: Path, tmp_path: Path
) -> None:
    photo = album / "2024" / "b.PNG"
    # Room for one of the results, each about as large as the photo, but not for two.
    limit = str(photo.stat().st_size * 3 // 2)

    with serve_expressions("--max-message-bytes", limit) as address:
        with (
            Client(address, timeout_s=120) as client,
            pytest.raises(InvalidRequestError) as together,
        ):
            client.transfer([photo], ["happiness", "anger"])
        done = facegen(
            "transfer", photo, *HAPPY, "-e", "anger:0.5", "--server", address, "--timeout-s", "120"
        )

    assert together.value.reason == "RESPONSE_SIZE"
    assert (done.code, done.stderr) == (0, "")
    assert files_in(tmp_path / "transferred") == ["b-anger.PNG", "b-happiness.PNG"]


def test_people_are_told_the_expressions_and_draw_with_one(
    facegen: Run, expression_server: str, tmp_path: Path
) -> None:
    listed = facegen("models", "--server", expression_server).stdout
    drawn = facegen(
        "generate", "--expression", "happiness", "--count", "1", "--temperature", "0",
        "--family", EXPRESSION_FAMILY, "--server", expression_server,
    )  # fmt: skip

    assert (
        f"{EXPRESSION_FAMILY} gives neutral, happiness, surprise, sadness, anger;"
        " experimental: fear\n"
    ) in listed
    assert drawn.code == 0, drawn.stderr
    with PillowImage.open(tmp_path / "faces" / "00000000.png") as face:
        assert face.getextrema() == (200, 200)


def test_people_see_how_far_it_is(expression_server: str, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("not a picture")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*MAIN, "transfer", "broken.jpg", str(PHOTO), *HAPPY, "--server", expression_server],
        cwd=tmp_path,
        stderr=theirs,
        stdout=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"},
    )
    os.close(theirs)
    shown = b""
    try:
        while more := os.read(ours, 65536):
            shown += more
    except OSError:  # how Linux ends the reading of a terminal that nobody holds
        pass
    os.close(ours)
    stdout, _ = process.communicate()

    assert process.returncode == 1
    assert b" broken.jpg: is not a picture" in shown
    assert b"2/2" in shown
    assert b"1 failed" in shown
    assert b"1 photo in transferred/" in stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "Missing argument"),
        (("a.jpg",), "--all"),
        (("a.jpg", "--all", *HAPPY), "--all goes with neither"),
        (("a.jpg", "--all", "--crops"), "--all goes with neither"),
        (("a.jpg", "-e", "happiness:2"), "happiness:2"),
        (("a.jpg", "-e", "happiness:very"), "happiness:very"),
        (("a.jpg", "-e", "happiness:nan"), "happiness:nan"),
        (("a.jpg", "-e", "../joy"), "../joy"),
        (("a.jpg", *HAPPY, "--strength", "1.6"), "equal to 1.5"),
        (("a.jpg", *HAPPY, "--out", "happy.gif"), "happy.gif"),
        (("a.jpg", "b.jpg", *HAPPY, "--out", "happy.jpg"), "one file"),
        (("a.jpg", *HAPPY, "-e", "anger", "--out", "happy.jpg"), "one file"),
        (("a.jpg", *HAPPY, "--crops", "--out", "happy.jpg"), "one file"),
        ((".", *HAPPY, "--out", "happy.jpg"), "one file"),
        (("a.jpg", *HAPPY, "--out", "./a.jpg"), "the photo itself"),
        (("a.jpg", *HAPPY, "--out", "happy.jpg", "--format", "png"), "happy.jpg"),
        ((".", *HAPPY, "--out", "."), "folder of the results"),
    ],
)
def test_misuse_ends_with_2_before_any_call(
    facegen: Run, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    done = facegen("transfer", *arguments)

    assert done.code == 2
    assert problem in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []
