"""The command as people and machines call it."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facegen.client.cli import main

Done = tuple[int, str, str]
Render = Callable[..., Done]


@pytest.fixture
def render(
    hand_repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Render:
    """Run `facegen render` in an empty folder; gives exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("GENERATE", "TRANSFER", "RECONSTRUCT", "INTERPOLATE", "RUN"):
        monkeypatch.setenv(f"FACEGEN_RENDER_{name}_ENGINE", f"onnx:{hand_repository}")

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["facegen", "render", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return run


def test_flags_make_a_job(render: Render, tmp_path: Path) -> None:
    code, out, err = render(
        "generate", "--count", "25", "--seed", "7", "--shard-size", "10", "--out", "faces"
    )

    assert (code, err) == (0, "")
    assert out.startswith("25 rows in faces · 3 shards, ")
    job = json.loads((tmp_path / "faces" / "manifest.json").read_text("utf-8"))["plan"]["job"]
    assert job["count"] == 25
    assert job["family"] == "hand-vae"
    assert job["format"] == "png"


def test_a_file_makes_the_same_job_and_flags_come_first(render: Render, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(
        'kind = "generate"\ncount = 25\nseed = 7\nshard_size = 10\n'
        '[run]\nout = "elsewhere"\nthreads = 1\n'
    )
    render("generate", "--count", "25", "--seed", "7", "--shard-size", "10", "--out", "faces")

    code, _, err = render("run", "job.toml", "--out", "again")

    assert (code, err) == (0, "")
    assert not (tmp_path / "elsewhere").exists()
    for path in (tmp_path / "faces").glob("shard-*/*"):
        assert (tmp_path / "again" / path.parent.name / path.name).read_bytes() == path.read_bytes()
    assert render("run", "job.toml")[0] == 0
    assert (tmp_path / "elsewhere" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind = ", "job.toml cannot be read: Invalid value"),
        ("count = 5", "job.toml: kind: Unable to extract tag"),
        ('kind = "generate"', "job.toml: count: Field required"),
        ('kind = "generate"\ncount = 0', "job.toml: count: Input should be greater than or equal"),
        ('kind = "generate"\ncount = 1\ncolour = 3', "job.toml: colour: Extra inputs are not"),
    ],
)
def test_a_file_that_is_no_job_says_where(
    render: Render, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "job.toml").write_text(text)

    code, _, err = render("run", "job.toml", "--out", "faces")

    assert code == 1
    assert says in err


def test_events_are_lines_of_json(render: Render) -> None:
    code, out, _ = render(
        "generate", "--count", "25", "--shard-size", "10", "--json", "--out", "faces"
    )

    told = [json.loads(line) for line in out.splitlines()]
    events = [event for event in told if event["event"] != "progress"]  # where a second has gone
    assert code == 0
    assert [event["event"] for event in events] == ["start", "shard", "shard", "shard", "done"]
    assert events[0]["job"]["count"] == 25
    last = events[3]
    assert (last["done"], last["total"], last["shards_done"], last["shards"]) == (25, 25, 3, 3)
    assert sorted(event["number"] for event in events[1:4]) == [0, 1, 2]
    assert events[-1]["counts"]["rows"] == 25


def test_errors_of_photos_are_shown_and_do_not_fail_the_run(
    render: Render, hand_photos: Path, tmp_path: Path
) -> None:
    code, out, err = render("reconstruct", "--input", hand_photos, "--out", "faces")

    assert code == 0
    assert out.splitlines()[1] == "1 errors, in faces/errors.jsonl"
    assert err.startswith("error: broken.jpg: is not a picture")
    _, out, _ = render("reconstruct", "--input", hand_photos, "--out", "again", "--json")
    (event,) = (it for it in map(json.loads, out.splitlines()) if it["event"] == "error")
    assert (event["source"], event["reason"]) == ("broken.jpg", "PictureError")


def test_where_nothing_could_be_rendered_the_run_has_failed(render: Render, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"nonsense")

    assert render("reconstruct", "--input", "photos", "--out", "faces")[0] == 1


def test_a_dry_run_tells_time_size_and_cost_and_writes_nothing(
    render: Render, tmp_path: Path
) -> None:
    code, out, err = render(
        "generate", "--count", "1000000000", "--dry-run", "--price", "2.5", "--out", "faces"
    )

    assert (code, err) == (0, "")
    first, second, third, *_ = out.splitlines()
    assert first.startswith("1,000,000,000 images take about ")
    assert " are free" in first
    assert second.startswith("they cost about ")
    assert "images were rendered for this, " in third
    assert not (tmp_path / "faces").exists()
    _, out, _ = render("generate", "--count", "64", "--dry-run", "--json", "--out", "faces")
    found = json.loads(out)
    assert found["event"] == "estimate"
    assert (found["probed_count"], found["row_count"], found["cost"]) == (64, 64, None)
    assert found["size_bytes"] > 64 * 50


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["generate", "--out", "x"], 2, "Missing option '--count'"),
        (["generate", "--count", "1"], 2, "Missing option '--out'"),
        (["generate", "--count", "0", "--out", "x"], 2, "greater than or equal to 1"),
        (["generate", "--count", "1", "--out", "x", "--format", "gif"], 2, "'gif' is not one of"),
        (["generate", "--count", "1", "--out", "x", "--family", "joe"], 1, '"joe" is not in'),
        (["generate", "--count", "1", "--out", "nowhere://x"], 1, "out: 'nowhere://x' cannot be"),
        (["run", "none.toml", "--out", "x"], 1, "none.toml cannot be read"),
        (
            ["generate", "--count", "1", "--out", "x", "--ray", "auto", "--processes", "2"],
            2,
            "with --ray use --workers",
        ),
    ],
)
def test_misuse_is_told(render: Render, arguments: list[str], code: int, says: str) -> None:
    got, _, err = render(*arguments)

    assert (got, says in err) == (code, True), err


def test_a_person_sees_a_bar(hand_repository: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).with_name("facegen")), "render", "generate"]
    job = ["--count", "3000", "--shard-size", "50", "--engine", f"onnx:{hand_repository}"]
    with subprocess.Popen(
        [*command, *job, "--out", str(tmp_path / "faces")],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"COLUMNS": "120", "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            seen += part
        assert process.wait() == 0
    os.close(ours)

    text = seen.decode()
    assert "rendering" in text
    assert "images/s" in text
    assert "/3000" in text


def test_server_and_repository_give_the_same_bytes(
    render: Render, hand_address: str, tmp_path: Path
) -> None:
    flags = ("--count", "70", "--shard-size", "30", "--family", "hand-vae")

    assert render("generate", *flags, "--out", "here")[0] == 0
    code, _, err = render(
        "generate", *flags, "--engine", f"triton://{hand_address}", "--out", "there"
    )

    assert (code, err) == (0, "")
    for path in (tmp_path / "here").glob("shard-*/*"):
        assert (tmp_path / "there" / path.parent.name / path.name).read_bytes() == path.read_bytes()
