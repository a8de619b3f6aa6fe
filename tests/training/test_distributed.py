"""Several processes of one training, on the CPU: gloo instead of NCCL, all else as on GPUs."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from facegen.training import TrainConfig, load_config, load_run, train_run
from facegen.training.errors import ConfigurationError, NonFiniteError, ProcessError
from facegen.training.launching import Team
from facegen.training.run import Run, RunPaths

WAIT_S = 800
pytestmark = pytest.mark.timeout(WAIT_S + 60)

SETTINGS = (
    "model.image_size=16",
    "model.widths=[4,6,8]",
    "model.latent_size=4",
    "batch_size=8",
    "epochs=6",
    "picture_count=4",
    "prior.components=2",
    "optimizer.warmup_steps=2",
    "data.shift_px=1",
    "precision='32'",
)


def tiny(celeba: Path, *changes: str) -> TrainConfig:
    return load_config("celeba-vae", [f"data.root='{celeba}'", *SETTINGS, *changes])


@pytest.fixture(scope="module")
def alone(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "alone"
    return train_run(tiny(celeba), folder, device="cpu", threads=1)


@pytest.fixture(scope="module")
def together(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "together"
    return train_run(tiny(celeba), folder, device="cpu", threads=1, devices=2)


def rows(run: RunPaths) -> list[dict[str, float]]:
    with run.table.open(encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def assert_close(run: Run, expected: Run) -> None:
    """24 steps in another order of sums: float32's last digits, which Adam makes larger."""
    for row, other in zip(rows(run.paths), rows(expected.paths), strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-3)
    torch.testing.assert_close(
        run.model.state_dict(), expected.model.state_dict(), rtol=1e-3, atol=1e-4
    )


def command(data: Path, out: Path, *options: str) -> list[str]:
    facegen = Path(sys.executable).with_name("facegen")
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    where = ["--data", str(data), "--out", str(out), "--device", "cpu", "--threads", "1"]
    return [str(facegen), "train", "celeba-vae", *where, *settings, *options]


@pytest.mark.slow
def test_two_processes_end_where_one_does(alone: Run, together: Run) -> None:
    assert_close(together, alone)
    assert together.facts["processes"] == 2
    assert together.facts["steps"] == alone.facts["steps"] == 24


@pytest.mark.slow
def test_only_the_first_process_writes_the_run_folder(alone: Run, together: Run) -> None:
    found, expected = (
        sorted(p.name.partition(".1")[0] for p in run.paths.folder.rglob("*") if p.is_file())
        for run in (together, alone)
    )

    assert found == expected


@pytest.mark.slow
def test_two_machines_end_where_one_does(alone: Run, celeba: Path, tmp_path: Path) -> None:
    port = str(find_free_network_port())
    started = [
        subprocess.Popen(
            command(celeba, tmp_path, "--num-nodes", "2"),
            env=os.environ
            | {"NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]

    try:
        outputs = [process.communicate(timeout=WAIT_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()

    assert [process.returncode for process in started] == [0, 0]
    assert outputs == [f"{tmp_path / 'celeba-vae'}\n"] * 2
    expected = alone.model.state_dict()
    found = load_run(tmp_path / "celeba-vae").model.state_dict()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def children(pid: int) -> list[int]:
    """Processes that run Python for a process, the one that tracks resources left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (folder / "cmdline").read_text()
        except (OSError, IndexError):
            continue
        if parent == pid and "spawn_main" in words:
            found.append(int(folder.name))
    return sorted(found)


@pytest.mark.slow
def test_killed_process_stops_the_others_and_the_run_goes_on_bit_equal(
    together: Run, celeba: Path, tmp_path: Path
) -> None:
    killed = RunPaths(tmp_path / "celeba-vae")

    with subprocess.Popen(
        command(celeba, tmp_path, "--devices", "2"), stderr=subprocess.PIPE, text=True
    ) as process:
        workers: list[int] = []
        while process.poll() is None:
            try:
                process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                if killed.checkpoint.is_file() and not workers:
                    workers = children(process.pid)
                    os.kill(workers[1], signal.SIGKILL)
        assert process.stderr is not None
        said = " ".join(process.stderr.read().split())

    assert process.returncode == 1
    assert "process 1 of 2 ended: SIGKILL; the others were stopped" in said
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert not killed.weights.exists()

    train_run(tiny(celeba), killed.folder, resume=True, device="cpu", threads=1, devices=2)

    assert killed.weights.read_bytes() == together.paths.weights.read_bytes()
    assert killed.table.read_text("utf-8") == together.paths.table.read_text("utf-8")


@pytest.mark.slow
def test_error_of_a_process_is_raised_as_it_was(celeba: Path, tmp_path: Path) -> None:
    config = tiny(
        celeba,
        "optimizer.learning_rate=1e30",
        "optimizer.schedule=constant",
        "optimizer.gradient_clip_norm=0",
        "optimizer.warmup_steps=0",
    )

    with pytest.raises(NonFiniteError, match=r"is (nan|inf|-inf) at step") as caught:
        train_run(config, tmp_path / "nan", device="cpu", threads=1, devices=2)

    assert caught.value.epoch == 0


def test_batch_that_processes_cannot_share_is_refused_before_they_start(
    celeba: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"--devices: 3 processes .* 8 rows evenly"):
        train_run(tiny(celeba), tmp_path / "odd", device="cpu", devices=3)

    assert not (tmp_path / "odd").exists()


@pytest.mark.parametrize(("devices", "num_nodes"), [(0, 1), (1, -1)])
def test_less_than_one_device_or_machine_is_refused(
    devices: int, num_nodes: int, celeba: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"--(devices|num-nodes): (0|-1) is less than 1"):
        train_run(
            tiny(celeba), tmp_path / "none", device="cpu", devices=devices, num_nodes=num_nodes
        )


def test_more_gpus_than_there_are_are_refused() -> None:
    count = torch.cuda.device_count()

    with pytest.raises(ConfigurationError, match=rf"--devices: {count + 1} GPUs .* sees {count}"):
        Team(devices=count + 1).check("cuda")


def test_machines_that_do_not_know_of_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NODE_RANK", "1")

    with pytest.raises(ConfigurationError, match=r"2 machines need MASTER_ADDR, MASTER_PORT in"):
        Team(devices=1, num_nodes=2).check("cpu")


def test_process_of_torchrun_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_RANK", "RANK"):
        monkeypatch.setenv(name, "1")

    team = Team(devices=2)

    assert team.started
    assert team.environment().local_rank() == 1


def test_only_several_devices_of_a_machine_are_started() -> None:
    assert Team().started
    assert Team(num_nodes=2).started
    assert not Team(devices=2).started


def test_ended_process_is_named() -> None:
    error = ProcessError(1, 4, how="SIGKILL")

    assert str(error).startswith("process 1 of 4 ended: SIGKILL; the others were stopped.")
