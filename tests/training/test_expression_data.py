import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegen.training.errors import ConfigurationError, DatasetError
from facegen.training.expression.data import AlignedFaces, half_of, load_aligned_faces
from facegen.training.expression.model import EXPRESSIONS
from facegen.training.recipes import ExpressionDataConfig
from tests.conftest import draw_expression


def load(root: Path, *expressions: str, majority: float = 0.6) -> AlignedFaces:
    config = ExpressionDataConfig(root=str(root), majority=majority)
    return load_aligned_faces(config, expressions or EXPRESSIONS)


@pytest.fixture
def own_fer(tiny_fer: Path, tmp_path: Path) -> Path:
    """A copy to change, without what was computed from the original."""
    return shutil.copytree(
        tiny_fer, tmp_path / "data", ignore=shutil.ignore_patterns(".facegen-cache")
    )


def revote(root: Path, name: str, **votes: int) -> None:
    table = root / "ferplus" / "fer2013new.csv"
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    for row in rows:
        if row["Image name"] == name:
            row |= {column: "0" for column in row if column not in ("Usage", "Image name")}
            row |= {column: str(count) for column, count in votes.items()}
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_every_face_is_aligned_labelled_and_good(tiny_fer: Path) -> None:
    found = load(tiny_fer)

    assert (len(found.train), len(found.validation)) == (60, 20)
    assert found.train.images.shape == (60, 48, 48, 1)
    assert found.train.images.dtype == np.uint8
    np.testing.assert_array_equal(found.train.labels, np.arange(60) % 5)
    np.testing.assert_array_equal(found.train.votes, np.eye(5)[np.arange(60) % 5])
    assert found.train.good.mean() > 0.9


def test_alignment_brings_faces_into_one_place(tiny_fer: Path) -> None:
    neutral = [i for i in range(60) if i % 5 == 0]
    found = load(tiny_fer)
    before = np.stack(
        [
            np.asarray(Image.open(tiny_fer / "ferplus" / "FER2013Train" / found.train.names[i]))
            for i in neutral
        ]
    )

    def spread(pictures: np.ndarray) -> float:
        pictures = pictures.astype(float).reshape(len(pictures), -1)
        pictures -= pictures.mean(1, keepdims=True)
        return float((pictures / pictures.std(1, keepdims=True)).std(0).mean())

    # Mirrored faces differ, which no alignment can help; places and sizes agree.
    assert spread(found.train.images[neutral]) < 0.8 * spread(before)


def test_votes_without_a_majority_give_no_label(own_fer: Path) -> None:
    revote(own_fer, "fer0000000.png", neutral=5, sadness=4, NF=1)
    revote(own_fer, "fer0000001.png", happiness=6, contempt=4)
    revote(own_fer, "fer0000002.png", contempt=9, surprise=1)

    found = load(own_fer).train

    assert found.labels[:3].tolist() == [-1, EXPRESSIONS.index("happiness"), -1]
    np.testing.assert_allclose(found.votes[0], [5 / 9, 0, 0, 4 / 9, 0], rtol=1e-6)
    np.testing.assert_allclose(found.votes[1], [0, 1, 0, 0, 0])
    assert load(own_fer, majority=0.5).train.labels[0] == 0
    assert len(found.labelled()) == 58


def test_experimental_expressions_are_labelled_when_asked_for(own_fer: Path) -> None:
    for name in ("fer0000002.png", "fer0000062.png"):
        revote(own_fer, name, contempt=9, surprise=1)

    found = load(own_fer, *EXPRESSIONS, "contempt")

    assert found.train.labels[2] == found.validation.labels[2] == 5
    np.testing.assert_allclose(found.train.votes[2], [0, 0, 0.1, 0, 0, 0.9], rtol=1e-6)


def test_copies_and_flat_pictures_are_left_out_and_validation_keeps_its_own(own_fer: Path) -> None:
    train, validation = (own_fer / "ferplus" / f"FER2013{s}" for s in ("Train", "Valid"))
    shutil.copy(validation / "fer0000060.png", train / "fer0000000.png")
    shutil.copy(train / "fer0000002.png", train / "fer0000001.png")
    pixels = np.full((48, 48), 90, np.uint8)
    pixels[:20] += 3  # not all one value, but nothing to see either
    Image.fromarray(pixels).save(train / "fer0000003.png")

    found = load(own_fer)

    left_out = {f"fer000000{i}.png" for i in (0, 3)}
    assert not left_out & set(found.train.names)
    assert len(found.train) == 57
    assert "fer0000060.png" in found.validation.names


def test_picture_without_a_face_is_not_good(own_fer: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    Image.fromarray(noise).save(own_fer / "ferplus" / "FER2013Train" / "fer0000000.png")

    found = load(own_fer).train

    assert found.labels[0] == 0
    assert not found.good[0]


def test_points_are_found_once(own_fer: Path) -> None:
    first = load(own_fer)
    (cache,) = (own_fer / "ferplus" / ".facegen-cache").glob("fer-points-*.npy")
    rows = np.load(cache)
    rows["score"][7] = -9
    np.save(cache, rows)

    again = load(own_fer)

    np.testing.assert_array_equal(again.train.images, first.train.images)
    assert np.flatnonzero(again.train.good != first.train.good).tolist() == [7]


def test_half_of_a_picture_depends_on_its_name_alone() -> None:
    halves = [half_of(f"fer{i:07d}.png") for i in range(2000)]

    # The last digits of `printf NAME | sha256sum`: even is a.
    assert halves[:4] == ["b", "b", "b", "b"]
    assert 0.45 < halves.count("a") / len(halves) < 0.55


def test_own_faces_are_read_from_a_folder_for_each_expression(tmp_path: Path) -> None:
    for index in range(16):
        expression = ("neutral", "happiness")[index % 2]
        (tmp_path / expression).mkdir(exist_ok=True)
        face = draw_expression(expression, seed=index, size_px=150)
        face.convert("RGB").save(tmp_path / expression / f"{index}.jpg", quality=95)

    config = ExpressionDataConfig(reader="folder", root=str(tmp_path))
    found = load_aligned_faces(config, ("neutral", "happiness"))

    assert len(found.train) + len(found.validation) == 16
    for split in (found.train, found.validation):
        folders = [name.partition("/")[0] for name in split.names]
        assert [found.expressions[i] for i in split.labels] == folders
        assert split.good.all()


def test_expression_without_faces_is_named(tiny_fer: Path) -> None:
    with pytest.raises(DatasetError, match="labelled faces with fear in"):
        load(tiny_fer, *EXPRESSIONS, "fear")


def test_expression_that_nobody_voted_on_is_refused(tiny_fer: Path) -> None:
    with pytest.raises(ConfigurationError, match="FER\\+ has no joy; it has neutral, happiness"):
        load(tiny_fer, "neutral", "joy")
