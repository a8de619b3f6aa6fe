import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facegen.training import RunError, load_config, train_run
from facegen.training.run import RunPaths

SETTINGS = (
    "model.image_size=16",
    "model.widths=[4,6,8]",
    "model.latent_size=4",
    "batch_size=8",
    "epochs=8",
    "picture_count=4",
    "prior.components=2",
    "optimizer.warmup_steps=2",
    "data.shift_px=1",
    "loss.adversarial_weight=0.05",
)
KILLED_AFTER_EPOCHS = 2


def command(data: Path, out: Path) -> list[str]:
    facegen = Path(sys.executable).with_name("facegen")
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    options = ["--data", str(data), "--out", str(out), "--device", "cpu", "--threads", "1"]
    return [str(facegen), "train", "celeba-vae", *options, *settings]


def kill_in_the_middle(process: subprocess.Popen[bytes], facts: Path) -> None:
    while process.poll() is None:
        try:
            process.wait(timeout=0.01)
        except subprocess.TimeoutExpired:
            if facts.is_file() and json.loads(facts.read_bytes())["epochs"] >= KILLED_AFTER_EPOCHS:
                process.send_signal(signal.SIGKILL)
                process.wait()


@pytest.mark.slow
def test_run_killed_by_kill_9_and_resumed_ends_bit_equal(celeba: Path, tmp_path: Path) -> None:
    config = load_config("celeba-vae", [f"data.root='{celeba}'", *SETTINGS])
    killed, whole = RunPaths(tmp_path / "celeba-vae"), RunPaths(tmp_path / "whole")

    with subprocess.Popen(command(celeba, tmp_path), stderr=subprocess.DEVNULL) as process:
        kill_in_the_middle(process, killed.facts)
    assert process.returncode == -signal.SIGKILL
    assert killed.checkpoint.is_file()
    assert not killed.weights.exists()
    resumed = train_run(config, killed.folder, resume=True, device="cpu", threads=1)
    train_run(config, whole.folder, device="cpu", threads=1)

    assert killed.weights.read_bytes() == whole.weights.read_bytes()
    assert killed.table.read_text("utf-8") == whole.table.read_text("utf-8")
    with np.load(killed.prior) as prior, np.load(whole.prior) as expected:
        for name in expected.files:
            np.testing.assert_array_equal(prior[name], expected[name])
    for picture in ("samples-008.png", "reconstructions-008.png"):
        found = (killed.pictures / picture).read_bytes()
        assert found == (whole.pictures / picture).read_bytes()
    assert resumed.facts["epochs"] == 8
    assert (killed.pictures / "losses.png").is_file()


def test_run_cut_off_after_its_last_epoch_is_only_finished(celeba: Path, tmp_path: Path) -> None:
    config = load_config("celeba-vae", [f"data.root='{celeba}'", *SETTINGS, "epochs=2"])
    paths = RunPaths(tmp_path / "run")
    train_run(config, paths.folder, device="cpu", threads=1)
    weights, prior = paths.weights.read_bytes(), paths.prior.read_bytes()
    paths.weights.unlink()
    paths.prior.unlink()

    train_run(config, paths.folder, device="cpu", threads=1)

    assert paths.weights.read_bytes() == weights
    assert paths.prior.read_bytes() == prior


def test_unfinished_run_of_another_recipe_is_refused(celeba: Path, tmp_path: Path) -> None:
    config = load_config("celeba-vae", [f"data.root='{celeba}'", *SETTINGS, "epochs=1"])
    paths = RunPaths(tmp_path / "run")
    train_run(config, paths.folder, device="cpu", threads=1)
    paths.weights.unlink()
    other = load_config("celeba-vae", [f"data.root='{celeba}'", *SETTINGS, "epochs=3", "seed=4"])

    with pytest.raises(RunError, match=r"seed = 0, not 4, epochs = 1, not 3"):
        train_run(other, paths.folder, device="cpu", threads=1)
