"""Runs that end before their time, and go on: nothing is lost, nothing is there twice."""

import json
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from facegen.serving.errors import ChangedJobError, OutputError, StoppedError
from tests.serving.family_graphs import EXPRESSION_FAMILY
from tests.serving.rendering.data_sets import hashes
from tests.serving.rendering.stopping import StopAfter

RenderSet = Callable[..., dict[str, Any]]
FORMATS = ("png", "webdataset", "parquet")


def kept_facts(folder: Path) -> Any:
    """What a manifest tells that no time changes."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    shards = [
        {key: shard[key] for key in shard if key not in ("duration_s", "worker")}
        for shard in manifest["shards"]
    ]
    return manifest["plan"], manifest["counts"], shards


@contextmanager
def rendering(repository: Path, out: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run `facegen render generate` in a process of its own."""
    command = [str(Path(sys.executable).with_name("facegen")), "render", "generate", "--json"]
    places = ["--engine", f"onnx:{repository}", "--family", "hand-vae", "--out", str(out)]
    process = subprocess.Popen(
        [*command, *places, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def shards_of(process: subprocess.Popen[str]) -> Iterator[int]:
    """The shards that a run tells of as they are done."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "shard":
            yield event["number"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bytes(
    hand_repository: Path, render_set: RenderSet, tmp_path: Path, file_format: str
) -> None:
    flags = ["--count", "8000", "--shard-size", "100", "--format", file_format, "--seed", "5"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    render_set(whole, count=8000, shard_size=100, format=file_format, seed=5)
    moments = random.Random(file_format)

    for kill in range(2):
        resume = ["--resume"] if kill else []
        with rendering(hand_repository, cut, *flags, *resume) as process:
            for _, _ in zip(range(moments.randint(1, 5)), shards_of(process), strict=False):
                pass
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    with rendering(hand_repository, cut, *flags, "--resume") as process:
        assert process.wait() == 0, process.stderr

    assert hashes(cut) == hashes(whole)
    assert kept_facts(cut) == kept_facts(whole)
    assert not (cut / ".render").exists()


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_shard_in_its_place_that_was_not_journalled_is_written_anew(
    render_set: RenderSet, tmp_path: Path, file_format: str
) -> None:
    fields = {"count": 40, "shard_size": 10, "format": file_format}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    render_set(whole, **fields)
    with pytest.raises(StoppedError):
        render_set(cut, **fields, finished=StopAfter(2))
    journal = sorted((cut / ".render" / "journal").iterdir())
    journal[0].unlink()
    left = cut / ".render" / "staging" / "0123456789abcdef"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half a shard")

    manifest = render_set(cut, **fields, resume=True)

    assert manifest["timings"]["resumed_after_items"] == 10 * (len(journal) - 1)
    assert hashes(cut) == hashes(whole)


def test_a_signal_ends_a_run_between_shards_and_it_goes_on(
    render_set: RenderSet, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(StoppedError) as error:
        render_set(tmp_path / "cut", count=400, shard_size=10, finished=StopAfter(3))

    assert error.value.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert list((tmp_path / "cut" / ".render" / "staging").iterdir()) == []
    done = len(list((tmp_path / "cut" / ".render" / "journal").iterdir()))
    assert 3 <= done < 40
    manifest = render_set(tmp_path / "cut", count=400, shard_size=10, resume=True)
    assert manifest["timings"]["resumed_after_items"] == 10 * done


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_ends_the_command_cleanly(
    hand_repository: Path, tmp_path: Path, processes: int
) -> None:
    flags = ("--count", "200000", "--shard-size", "100", "--processes", str(processes))
    with rendering(hand_repository, tmp_path / "out", *flags) as process:
        next(shards_of(process))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)

        assert process.returncode == 128 + signal.SIGTERM
    told = "stopped; what is done is kept, go on with --resume"
    assert errors == f"{tmp_path}/out: {told}\n"
    assert list((tmp_path / "out" / ".render" / "staging").iterdir()) == []


def test_workers_end_with_a_run_that_is_killed(hand_repository: Path, tmp_path: Path) -> None:
    flags = ("--count", "200000", "--shard-size", "100", "--processes", "2")
    with rendering(hand_repository, tmp_path / "out", *flags) as process:
        next(shards_of(process))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
        workers = [os.pidfd_open(int(child)) for child in children.split()]
        process.send_signal(signal.SIGKILL)
        process.wait()

    assert len(workers) >= 2
    for worker in workers:
        # Readable once the process has ended.
        assert select.select([worker], [], [], 30)[0], "a worker outlived its run"
        os.close(worker)


def test_a_worker_that_is_killed_loses_no_shard(
    hand_repository: Path, render_set: RenderSet, tmp_path: Path
) -> None:
    fields = {"count": 8000, "shard_size": 50}
    render_set(tmp_path / "whole", **fields)
    flags = ("--count", "8000", "--shard-size", "50", "--processes", "2")
    with rendering(hand_repository, tmp_path / "out", *flags) as process:
        events = shards_of(process)
        next(events)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
        for child in children.split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"spawn_main" in command:
                os.kill(int(child), signal.SIGKILL)
                break
        list(events)

        assert process.wait() == 0

    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_a_data_set_is_not_written_over_or_gone_on_with_unasked(
    render_set: RenderSet, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        render_set(tmp_path / "out", count=200, shard_size=10, finished=StopAfter(1))

    with pytest.raises(OutputError, match=r"holds this job already, \d+ of 20 shards are done; go"):
        render_set(tmp_path / "out", count=200, shard_size=10)


def test_files_of_others_are_left_alone(render_set: RenderSet, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"of somebody")

    with pytest.raises(OutputError, match=r"has other files, such as holiday.jpg; choose"):
        render_set(tmp_path, count=1)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.jpg"]


def test_a_changed_job_does_not_go_on_with_an_old_one(
    render_set: RenderSet, tmp_path: Path
) -> None:
    render_set(tmp_path / "out", count=20, shard_size=10)
    before = hashes(tmp_path / "out")

    with pytest.raises(ChangedJobError) as error:
        render_set(tmp_path / "out", count=30, shard_size=10, temperature=0.5, resume=True)

    told = str(error.value)
    assert "count was 20 and is 30; " in told
    assert "temperature was 1.0 and is 0.5; " in told
    assert "go on with the same job, or choose another folder" in told
    assert hashes(tmp_path / "out") == before


def test_a_changed_folder_of_photos_does_not_go_on(
    render_set: RenderSet, tmp_path: Path, hand_photos: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in hand_photos.iterdir():
        (photos / path.name).write_bytes(path.read_bytes())
    job = {"kind": "transfer", "family": EXPRESSION_FAMILY, "input": str(photos), "cropped": True}
    render_set(tmp_path / "out", **job)
    (photos / "photo 3.png").unlink()

    with pytest.raises(ChangedJobError, match="the input files are others, or have other sizes"):
        render_set(tmp_path / "out", **job, resume=True)


def test_a_finished_data_set_is_repaired_by_going_on(render_set: RenderSet, tmp_path: Path) -> None:
    fields = {"count": 30, "shard_size": 10, "format": "webdataset"}
    render_set(tmp_path / "out", **fields)
    before = hashes(tmp_path / "out")
    (tmp_path / "out" / "shard-000001.tar").unlink()

    manifest = render_set(tmp_path / "out", **fields, resume=True)

    assert hashes(tmp_path / "out") == before
    assert manifest["counts"]["items"] == 30


def test_going_on_with_a_finished_data_set_does_nothing(
    render_set: RenderSet, tmp_path: Path
) -> None:
    manifest = render_set(tmp_path / "out", count=30, shard_size=10)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}

    again = render_set(tmp_path / "out", count=30, shard_size=10, resume=True)

    assert again == json.loads(json.dumps(manifest))
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_two_runs_do_not_write_to_one_folder(
    hand_repository: Path, render_set: RenderSet, tmp_path: Path
) -> None:
    flags = ("--count", "200000", "--shard-size", "100")
    with rendering(hand_repository, tmp_path / "out", *flags) as process:
        next(shards_of(process))

        with pytest.raises(OutputError, match="another run is writing to it; wait for it, or stop"):
            render_set(tmp_path / "out", count=200000, shard_size=100, resume=True)


def test_a_full_disk_ends_the_run_and_it_goes_on_when_there_is_room(
    hand_repository: Path, render_set: RenderSet, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        flags = ("--count", "20000", "--shard-size", "500")
        with rendering(hand_repository, disk / "out", *flags) as process:
            _, errors = process.communicate(timeout=60)

            assert process.returncode == 1
        assert "No space left on device; make room, and go on with --resume" in errors
        assert list((disk / "out" / ".render" / "staging").iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        manifest = render_set(disk / "out", count=20000, shard_size=500, resume=True)
        assert manifest["counts"]["rows"] == 20000
    finally:
        subprocess.run(["umount", disk], check=True)
