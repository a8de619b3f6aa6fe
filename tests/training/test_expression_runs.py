from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from facegen.training import (
    ClassifierRun,
    ExpressionRun,
    RunError,
    load_any_run,
    load_classifier_run,
    load_expression_run,
    load_recipe,
    load_run,
    train_run,
)
from facegen.training.errors import ConfigurationError
from facegen.training.expression.data import load_aligned_faces
from facegen.training.expression.model import EXPRESSIONS, apply_edit
from facegen.training.latents import encode_pictures
from facegen.training.recipes import ClassifierRecipe, ExpressionRecipe
from facegen.training.run import RunPaths

TINY = (
    "batch_size=10",
    "optimizer.warmup_steps=1",
    "model.expressions=['neutral', 'happiness', 'surprise', 'sadness', 'anger']",
)
TINY_EXPRESSION = (
    *TINY,
    "epochs=4",
    "steps_per_epoch=2",
    "unguided_steps=2",
    "picture_count=3",
    "model.latent_size=4",
    "model.widths=[4, 4, 4, 6, 6]",
    "model.feature_channels=3",
    "prior.components=2",
)


def classifier(data: Path, *changes: str) -> ClassifierRecipe:
    recipe = load_recipe(
        "fer-judge",
        [f"data.root='{data}'", *TINY, "half=both", "model.width=4", "epochs=4", *changes],
    )
    assert isinstance(recipe, ClassifierRecipe)
    return recipe


def expressions(data: Path, guide: Path, *changes: str) -> ExpressionRecipe:
    settings = [f"data.root='{data}'", f"guides=['{guide}']", *TINY_EXPRESSION, *changes]
    recipe = load_recipe("fer-expressions", settings)
    assert isinstance(recipe, ExpressionRecipe)
    return recipe


def rows(run: ClassifierRun | ExpressionRun) -> list[dict[str, str]]:
    header, *lines = run.paths.table.read_text("utf-8").splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]


def test_classifier_learns_to_tell_expressions_apart(tiny_fer: Path, tmp_path: Path) -> None:
    recipe = classifier(tiny_fer, "epochs=40", "ema_decay=0.9", "model.width=8")

    run = train_run(recipe, tmp_path / "judge", device="cpu", threads=1)

    table = rows(run)
    assert float(table[-1]["validation/accuracy"]) > 0.5
    assert float(table[-1]["train/loss"]) < float(table[0]["train/loss"])
    recalls = [float(table[-1][f"validation/recall_{name}"]) for name in EXPRESSIONS]
    assert np.mean(recalls) == pytest.approx(float(table[-1]["validation/accuracy"]), abs=1e-5)
    assert (run.paths.pictures / "losses.png").is_file()
    validation = load_aligned_faces(recipe.data, EXPRESSIONS).validation
    x = torch.from_numpy(validation.images).permute(0, 3, 1, 2) / 255.0
    right = run.model(x).argmax(1).numpy() == validation.labels
    assert right.mean() == pytest.approx(float(table[-1]["validation/accuracy"]), abs=1e-5)


def test_halves_train_on_different_pictures(tiny_classifier_runs: Mapping[str, Path]) -> None:
    guide = load_classifier_run(tiny_classifier_runs["guide"])

    assert guide.config.half == "a"
    assert 0 < guide.facts["train_pictures"] < 60
    assert sum(guide.facts["train_expressions"].values()) == guide.facts["train_pictures"]
    assert guide.facts["validation_pictures"] == 20


def test_run_folder_of_expressions_holds_everything(tiny_expression_run: Path) -> None:
    run = load_expression_run(tiny_expression_run)
    found = {p.relative_to(run.paths.folder).as_posix() for p in run.paths.folder.rglob("*")}

    assert found >= {
        "config.toml",
        "run.json",
        "model.safetensors",
        "prior.npz",
        "checkpoints/last.ckpt",
        "metrics/metrics.csv",
        "pictures/losses.png",
        "pictures/samples-002.png",
        "pictures/transfers-001.png",
    }
    assert run.prior.means.shape == (2, 8)
    assert run.facts["steps"] == 6
    assert run.facts["guides"][0]["train_pictures"] > 0
    assert {"train/nll", "train/guidance", "validation/convinced"} <= rows(run)[-1].keys()
    assert not run.model.training


def test_sheet_shows_validation_faces_and_every_edit(tiny_expression_run: Path) -> None:
    run = load_expression_run(tiny_expression_run)
    aligned = load_aligned_faces(run.config.data, EXPRESSIONS)
    with Image.open(run.paths.pictures / "transfers-002.png") as image:
        sheet = np.asarray(image).reshape(4, 48, 6, 48).swapaxes(1, 2)
    with Image.open(run.paths.pictures / "samples-002.png") as image:
        assert image.size == (4 * 48, 5 * 48)

    good = aligned.validation.where(aligned.validation.good)
    faces = {
        picture.tobytes(): label for picture, label in zip(good.images, good.labels, strict=True)
    }
    assert [faces[row[0].tobytes()] for row in sheet] == [0, 1, 2, 3]
    x = torch.from_numpy(sheet[:, 0].copy())[:, None] / 255.0
    posterior, features = run.model.encoder(x)
    edited = apply_edit(x, run.model.decoders["anger"](posterior.mu, features))
    difference = edited.clamp(0, 1).mul(255).round()[:, 0].numpy() - sheet[:, 5]
    assert np.abs(difference).max() <= 1


def test_every_decoder_is_saved_whole(tiny_expression_run: Path) -> None:
    weights = load_file(RunPaths(tiny_expression_run).weights)
    shared = [weights[f"decoders.{name}.linear.weight"] for name in EXPRESSIONS]

    assert all(torch.equal(shared[0], other) for other in shared[1:])
    assert not any("critic" in name or "guide" in name for name in weights)


def test_latents_of_expressions_are_the_posterior_means(tiny_expression_run: Path) -> None:
    run = load_expression_run(tiny_expression_run)
    images = load_aligned_faces(run.config.data, EXPRESSIONS).validation.images

    latents = encode_pictures(run.model, images)

    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255.0
    torch.testing.assert_close(torch.from_numpy(latents), run.model.encoder(x).posterior.mu)


def test_expressions_start_from_a_finished_run(
    tiny_fer: Path, tiny_classifier_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    guide = tiny_classifier_runs["guide"]
    first = train_run(
        expressions(tiny_fer, guide, "epochs=1"), tmp_path / "vae", device="cpu", threads=1
    )
    recipe = expressions(
        tiny_fer,
        guide,
        f"start_from='{first.paths.folder}'",
        "unguided_steps=0",
        "epochs=1",
        "ema_decay=0",
        "optimizer.learning_rate=1e-12",
    )

    tuned = train_run(recipe, tmp_path / "tuned", device="cpu", threads=1)

    for name, weights in tuned.model.named_parameters():
        torch.testing.assert_close(weights, first.model.get_parameter(name))


def test_guides_of_other_expressions_are_refused(
    tiny_fer: Path, tiny_classifier_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    recipe = expressions(
        tiny_fer, tiny_classifier_runs["guide"], "model.expressions=['neutral', 'anger']"
    )

    with pytest.raises(RunError, match="other expressions"):
        train_run(recipe, tmp_path / "run", device="cpu", threads=1)


def test_run_of_another_kind_is_refused(
    tiny_expression_run: Path, tiny_classifier_runs: Mapping[str, Path]
) -> None:
    with pytest.raises(RunError, match='kind "expression"; give one of an autoencoder'):
        load_run(tiny_expression_run)
    with pytest.raises(RunError, match='kind "classifier"; give one of an expression model'):
        load_expression_run(tiny_classifier_runs["judge"])
    assert isinstance(load_any_run(tiny_expression_run), ExpressionRun)
    assert isinstance(load_any_run(tiny_classifier_runs["judge"]), ClassifierRun)


def test_batch_too_small_for_every_expression_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="batch_size 5 is less than 6 expressions"):
        load_recipe("fer-expressions", ["batch_size=5"])
