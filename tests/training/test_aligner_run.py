from pathlib import Path

import numpy as np
import pytest

from facegen.training import AlignerRun, load_any_run, load_recipe, train_run
from facegen.training.errors import ConfigurationError
from facegen.training.expression.aligner_data import load_face_squares
from facegen.training.recipes import AlignerRecipe


def recipe(data: Path, *changes: str) -> AlignerRecipe:
    found = load_recipe(
        "fer-aligner",
        [
            f"data.root='{data}'",
            'data.readers=["fer"]',
            "epochs=6",
            "batch_size=12",
            "optimizer.warmup_steps=2",
            "model.widths=[4, 8, 8, 8]",
            *changes,
        ],
    )
    assert isinstance(found, AlignerRecipe)
    return found


def test_squares_are_cut_around_every_found_face(tiny_fer: Path) -> None:
    train, validation = load_face_squares(["fer"], tiny_fer)
    again, _ = load_face_squares(["fer"], tiny_fer)

    assert train.squares.shape == (60, 128, 128)
    assert len(validation.squares) == 20
    assert ((train.points > 0.25) & (train.points < 0.75)).all()
    np.testing.assert_array_equal(train.squares, again.squares)


def test_aligner_trains_into_a_run_folder(tiny_fer: Path, tmp_path: Path) -> None:
    run = train_run(recipe(tiny_fer), tmp_path / "aligner", device="cpu", threads=1)

    header, *lines = run.paths.table.read_text("utf-8").splitlines()
    losses = [float(line.split(",")[header.split(",").index("train/loss")]) for line in lines]
    assert losses[-1] < losses[0]
    assert "validation/distance" in header
    assert not run.paths.prior.exists()
    assert isinstance(load_any_run(run.paths.folder), AlignerRun)


def test_data_set_without_a_reader_is_refused(tiny_fer: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"data\.readers"):
        recipe(tiny_fer, 'data.readers=["nowhere"]')
