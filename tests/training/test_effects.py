import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from facegen.training import Run, load_config, load_run, train_run
from facegen.training.directions import Directions, kept_directions
from facegen.training.effects import LEAST_ACCURACY, edit_photos
from facegen.training.errors import ConfigurationError
from facegen.training.latent_commands import fit, nearest
from facegen.training.latents import decode_latents, encode_pictures
from facegen.training.refitting import FitOptions, fit_run

COUNT, VALIDATED = 100, 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CelebA of squares, red or blue, whose second attribute is a coin's."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows, partition = ["Red Coin"], []
    for number in range(1, COUNT + 1):
        name = f"{number:06d}.png"
        red, coin = random.random(2) < 0.5
        shade = int(random.integers(120, 250))
        color = (shade, 30, 30) if red else (30, 30, shade)
        picture = Image.new("RGB", (89, 109), color)
        grey = int(random.integers(0, 255))
        left, top = (int(it) for it in random.integers(25, 45, 2))
        picture.paste((grey, grey, grey), (left, top, left + 20, top + 20))
        picture.save(folder / name)
        rows.append(f"{name} {1 if red else -1} {1 if coin else -1}")
        partition.append(f"{name} {1 if number > COUNT - VALIDATED else 0}")
    (root / "celeba" / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n", "utf-8")
    (root / "celeba" / "list_eval_partition.txt").write_text("\n".join(partition) + "\n", "utf-8")
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A model of the squares as training leaves it: nothing measured yet."""
    config = load_config(
        "celeba-ae",
        [
            f"data.root='{data}'",
            "model.image_size=16",
            "model.widths=[8,12,16]",
            "model.latent_size=4",
            "batch_size=10",
            "epochs=40",
            "picture_count=4",
            "prior.components=1",
            "optimizer.warmup_steps=2",
            "optimizer.learning_rate=1e-2",
            "ema_decay=0.9",
        ],
    )
    folder = tmp_path_factory.mktemp("runs") / "squares"
    return train_run(config, folder, device="cpu", threads=1)


@pytest.fixture(scope="module")
def fitted(run: Run, data: Path) -> dict[str, Any]:
    options = FitOptions(labels=("Red", "-Red"), count=10)
    return fit_run(run.paths.folder, data, options=options)


def test_direction_that_works_is_measured_to_work(fitted: dict[str, Any]) -> None:
    red = fitted["effects"]["directions"]["Red"]

    assert red["balanced_accuracy"] > 0.95
    assert red["photos_without"] == red["photos_with"] == 10
    assert red["before"] < 0.2
    assert red["added"] > 0.5
    assert red["removed"] < -0.5
    assert 0 <= red["error"] < 0.2
    assert red["kept"] is True


def test_label_that_no_picture_shows_is_not_offered(fitted: dict[str, Any]) -> None:
    coin = fitted["effects"]["directions"]["Coin"]

    assert coin["balanced_accuracy"] < LEAST_ACCURACY
    assert coin["kept"] is False
    assert "added" not in coin


def test_what_was_fitted_and_measured_reads_back(fitted: dict[str, Any], run: Run) -> None:
    again = load_run(run.paths.folder)

    assert list(again.priors) == ["mixture", "not-red", "red"]
    assert fitted["priors"] == {name: len(p.weights) for name, p in again.priors.items()}
    assert again.effects == fitted["effects"]
    assert "EfficientNet-Lite0" in again.effects["protocol"]
    assert again.directions is not None
    assert list(again.directions.names) == fitted["directions"]
    assert kept_directions(again.directions, again.effects).names == (
        "Red", "component-1", "component-2", "component-3", "component-4",
    )  # fmt: skip


def test_fitting_keeps_the_mixture_that_training_left(fitted: dict[str, Any], run: Run) -> None:
    again = load_run(run.paths.folder)

    assert fitted["priors"]["mixture"] == 1
    np.testing.assert_array_equal(again.prior.means, run.prior.means)


def test_priors_of_labels_draw_pictures_with_the_label(fitted: dict[str, Any], run: Run) -> None:
    again = load_run(run.paths.folder)
    random = np.random.default_rng(0)
    noise = random.standard_normal((50, 4), dtype=np.float32)

    redder = {}
    for name in ("red", "not-red"):
        drawn = decode_latents(
            run.model, again.priors[name].sample(noise, np.zeros(50, np.float32))
        )
        redder[name] = (drawn[..., 0].mean((1, 2)) > drawn[..., 2].mean((1, 2))).mean()

    assert redder["red"] > 0.9
    assert redder["not-red"] < 0.1


def test_unmeasured_directions_are_all_kept() -> None:
    directions = Directions(("A", "component-1"), np.eye(2, dtype=np.float32))

    assert kept_directions(directions, {}).names == directions.names


def test_edit_of_strength_nothing_leaves_a_photo_alone(run: Run) -> None:
    photos = run.validation_images(3)
    latents = encode_pictures(run.model, photos)

    still = edit_photos(run.model, photos, latents, move=np.zeros(4, np.float32))
    moved = edit_photos(run.model, photos, latents, move=np.ones(4, np.float32))

    np.testing.assert_array_equal(still, photos)
    assert (moved != photos).any()


def test_label_that_is_none_is_refused_and_changes_nothing(run: Run, data: Path) -> None:
    before = run.paths.directions.stat().st_mtime_ns

    with pytest.raises(ConfigurationError, match=r'"red" is no label .*near: Red'):
        fit_run(run.paths.folder, data, options=FitOptions(labels=("red",)))

    assert run.paths.directions.stat().st_mtime_ns == before


def test_command_fits_without_measuring_and_forgets_what_was_measured(
    fitted: dict[str, Any], run: Run, data: Path, tmp_path: Path
) -> None:
    import shutil

    folder = shutil.copytree(run.paths.folder, tmp_path / "run")
    app = Typer()
    app.command()(fit)

    result = CliRunner().invoke(
        app, [str(folder), "--data", str(data), "--label", "Red", "--no-effects", "--json"]
    )

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["effects"] == {}
    again = load_run(folder)
    assert list(again.priors) == ["mixture", "red"]
    assert again.effects == {}


def test_command_draws_nearest_pictures(run: Run, data: Path, tmp_path: Path) -> None:
    app = Typer()
    app.command()(nearest)
    sheet = tmp_path / "nearest.png"

    result = CliRunner().invoke(
        app,
        [str(run.paths.folder), "--data", str(data), "--out", str(sheet), "--count", "3", "--json"],
    )

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["features"]["ratio"] > 0
    with Image.open(sheet) as picture:
        assert picture.height == 16 + 3 * (16 + 4)
