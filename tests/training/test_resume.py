import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from facegen.training import RunError, load_config, load_recipe, train_run
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
)
REFINEMENT_SETTINGS = (*SETTINGS, "model.head_width=4", "prior.labels=[]")
CLASSIFIER_SETTINGS = ("batch_size=8", "epochs=8", "half=both", "model.width=4")
EXPRESSION_SETTINGS = (
    "batch_size=10",
    "epochs=8",
    "steps_per_epoch=4",
    "unguided_steps=6",
    "model.expressions=['neutral', 'happiness', 'surprise', 'sadness', 'anger']",
    "picture_count=4",
    "model.latent_size=4",
    "model.widths=[4, 4, 4, 6, 6]",
    "model.feature_channels=3",
    "prior.components=2",
)
KILLED_AFTER_EPOCHS = 2


def command(preset: str, data: Path, out: Path, settings: Sequence[str]) -> list[str]:
    facegen = Path(sys.executable).with_name("facegen")
    changes = [part for setting in settings for part in ("--set", setting)]
    options = ["--data", str(data), "--out", str(out), "--device", "cpu", "--threads", "1"]
    return [str(facegen), "train", preset, *options, *changes]


def kill_in_the_middle(process: subprocess.Popen[bytes], facts: Path) -> None:
    while process.poll() is None:
        try:
            process.wait(timeout=0.01)
        except subprocess.TimeoutExpired:
            if facts.is_file() and json.loads(facts.read_bytes())["epochs"] >= KILLED_AFTER_EPOCHS:
                process.send_signal(signal.SIGKILL)
                process.wait()


def assert_killed_and_resumed_is_bit_equal(
    preset: str, data: Path, out: Path, *, settings: Sequence[str], pictures: Sequence[str]
) -> None:
    config = load_recipe(preset, [f"data.root='{data}'", *settings])
    killed, whole = RunPaths(out / preset), RunPaths(out / "whole")

    with subprocess.Popen(
        command(preset, data, out, settings), stderr=subprocess.DEVNULL
    ) as process:
        kill_in_the_middle(process, killed.facts)
    assert process.returncode == -signal.SIGKILL
    assert killed.checkpoint.is_file()
    assert not killed.weights.exists()
    resumed = train_run(config, killed.folder, resume=True, device="cpu", threads=1)
    train_run(config, whole.folder, device="cpu", threads=1)

    assert killed.weights.read_bytes() == whole.weights.read_bytes()
    assert killed.table.read_text("utf-8") == whole.table.read_text("utf-8")
    for picture in pictures:
        found = (killed.pictures / picture).read_bytes()
        assert found == (whole.pictures / picture).read_bytes()
    assert resumed.facts["epochs"] == 8
    assert (killed.pictures / "losses.png").is_file()
    if whole.prior.exists():
        with np.load(killed.prior) as prior, np.load(whole.prior) as expected:
            for name in expected.files:
                np.testing.assert_array_equal(prior[name], expected[name])


@pytest.mark.slow
def test_run_killed_by_kill_9_and_resumed_ends_bit_equal(celeba: Path, tmp_path: Path) -> None:
    assert_killed_and_resumed_is_bit_equal(
        "celeba-vae",
        celeba,
        tmp_path,
        settings=SETTINGS,
        pictures=("samples-008.png", "reconstructions-008.png"),
    )


@pytest.mark.slow
def test_killed_and_resumed_refinement_ends_bit_equal(celeba: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    config = load_config("celeba-vae", [f"data.root='{celeba}'", *SETTINGS, "epochs=1"])
    train_run(config, start, device="cpu", threads=1)

    assert_killed_and_resumed_is_bit_equal(
        "celeba-vae-sharp",
        celeba,
        tmp_path,
        settings=(*REFINEMENT_SETTINGS, f"start_from='{start}'"),
        pictures=("samples-008.png",),
    )


@pytest.mark.slow
def test_killed_and_resumed_classifier_ends_bit_equal(tiny_fer: Path, tmp_path: Path) -> None:
    assert_killed_and_resumed_is_bit_equal(
        "fer-guide-a", tiny_fer, tmp_path, settings=CLASSIFIER_SETTINGS, pictures=()
    )


@pytest.mark.slow
def test_killed_and_resumed_expressions_end_bit_equal(
    tiny_fer: Path, tiny_classifier_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    guides = f'guides=["{tiny_classifier_runs["guide"]}"]'

    assert_killed_and_resumed_is_bit_equal(
        "fer-expressions",
        tiny_fer,
        tmp_path,
        settings=(*EXPRESSION_SETTINGS, guides),
        pictures=("samples-008.png", "transfers-008.png"),
    )


def test_run_cut_off_after_its_last_epoch_is_only_finished(celeba: Path, tmp_path: Path) -> None:
    config = load_config("celeba-vae", [f"data.root='{celeba}'", *SETTINGS, "epochs=2"])
    paths = RunPaths(tmp_path / "run")
    train_run(config, paths.folder, device="cpu", threads=1)
    weights, prior = paths.weights.read_bytes(), paths.prior.read_bytes()
    facts = json.loads(paths.facts.read_text())
    paths.weights.unlink()
    paths.prior.unlink()

    train_run(config, paths.folder, device="cpu", threads=1)

    assert paths.weights.read_bytes() == weights
    assert paths.prior.read_bytes() == prior
    assert json.loads(paths.facts.read_text()) | {"seconds": facts["seconds"]} == facts


def test_unfinished_run_of_another_recipe_is_refused(celeba: Path, tmp_path: Path) -> None:
    config = load_config("celeba-vae", [f"data.root='{celeba}'", *SETTINGS, "epochs=1"])
    paths = RunPaths(tmp_path / "run")
    train_run(config, paths.folder, device="cpu", threads=1)
    paths.weights.unlink()
    other = load_config("celeba-vae", [f"data.root='{celeba}'", *SETTINGS, "epochs=3", "seed=4"])

    with pytest.raises(RunError, match=r"seed = 0, not 4, epochs = 1, not 3"):
        train_run(other, paths.folder, device="cpu", threads=1)
