from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegen.training.data import Dataset, FaceArrays, Picture, label_slug, load_faces, load_labels
from facegen.training.data.dataset import Split
from facegen.training.errors import ConfigurationError


def fer_faces(labels: list[Mapping[str, float]]) -> FaceArrays:
    """Flat faces of FER2013 with these labels, all to train on."""
    pixels = np.zeros((len(labels), 2, 2, 1), np.uint8)
    pictures = tuple(Picture(f"{i}", "train", pixels[i], label) for i, label in enumerate(labels))
    rows: dict[Split, tuple[int, ...]] = {"train": tuple(range(len(labels))), "validation": ()}
    arrays = {split: pixels[list(indices)] for split, indices in rows.items()}
    return FaceArrays(Dataset("fer", Path(), pictures), arrays, rows, (), 0)


def votes(**counts: float) -> dict[str, float]:
    return {f"votes.{name}": count for name, count in counts.items()}


def test_attributes_follow_the_pictures_that_are_left(celeba_with_gaps: Path) -> None:
    faces = load_faces("celeba", celeba_with_gaps, size_px=16, channels=3)

    labels = load_labels(faces)

    # Files 3 and 6 are cut short; file 4 has no row. Odd numbers smile.
    assert faces.corrupt == ("000003.jpg", "000006.jpg")
    assert labels["train"].names == ("Smiling", "Bald")
    assert labels["train"].having("Smiling").tolist() == [True, False, False, True, True, False]
    assert labels["train"].known.tolist() == [True, True, False, True, True, True]
    assert labels["validation"].having("Smiling").tolist() == [True, False]


def test_a_leading_minus_asks_for_the_pictures_known_to_be_without(celeba_with_gaps: Path) -> None:
    labels = load_labels(load_faces("celeba", celeba_with_gaps, size_px=16, channels=3))["train"]

    assert labels.having("-Smiling").tolist() == [False, True, False, False, False, True]


def test_expressions_need_the_agreement_of_most_voters() -> None:
    faces = fer_faces(
        [
            votes(happiness=6, neutral=4),
            votes(happiness=5, neutral=5),
            votes(unknown=8, fear=2),
            votes(contempt=10),
            {"emotion": 3.0},
            {"emotion": 3.0, **votes(sadness=9, anger=1)},
            {},
        ]
    )

    labels = load_labels(faces)["train"]

    assert labels.exclusive
    assert labels.known.tolist() == [True, False, False, True, True, True, False]
    assert np.flatnonzero(labels.having("happiness")).tolist() == [0, 4]
    assert np.flatnonzero(labels.having("sadness")).tolist() == [5]
    assert np.flatnonzero(labels.having("-happiness")).tolist() == [3, 5]


def test_pictures_dropped_as_copies_leave_no_label_behind(tiny_fer: Path) -> None:
    faces = load_faces("fer", tiny_fer, size_px=48, channels=1)
    labels = load_labels(faces)["train"]
    names = [faces.dataset.pictures[i].name for i in faces.indices["train"]]

    # `draw_fer` writes the expressions in turns, by number.
    wanted = [int(name[3:10]) % 5 == 1 for name in names]
    assert len(names) == len(faces.pixels["train"]) == len(labels.known)
    assert labels.having("happiness").tolist() == wanted


def test_folder_has_no_labels_and_says_so(tmp_path: Path) -> None:
    for index in range(4):
        shade = Image.new("RGB", (8, 8), (60 * index, 0, 0))
        shade.save(tmp_path / f"{index}.png")
    labels = load_labels(load_faces("folder", tmp_path, size_px=8, channels=3))["train"]

    assert not labels
    with pytest.raises(ConfigurationError, match='"Smiling": the data set folder has no labels'):
        labels.having("Smiling")


@pytest.mark.parametrize(
    ("asked", "near"),
    [("smiling", "near: Smiling"), ("-Blad", "near: Bald"), ("xyz", "Smiling, B")],
)
def test_unknown_label_names_near_ones(celeba_with_gaps: Path, asked: str, near: str) -> None:
    labels = load_labels(load_faces("celeba", celeba_with_gaps, size_px=16, channels=3))["train"]

    with pytest.raises(ConfigurationError, match=near):
        labels.having(asked)


@pytest.mark.parametrize(
    ("label", "slug"),
    [
        ("Smiling", "smiling"),
        ("Blond_Hair", "blond-hair"),
        ("-Male", "not-male"),
        ("5_o_Clock_Shadow", "5-o-clock-shadow"),
        ("happiness", "happiness"),
    ],
)
def test_label_becomes_part_of_a_models_name(label: str, slug: str) -> None:
    assert label_slug(label) == slug


@pytest.fixture
def celeba_with_gaps(tmp_path: Path) -> Path:
    """Ten pictures, the last two to validate; two are cut short, one is in no row of the table."""
    folder = tmp_path / "img_align_celeba"
    folder.mkdir()
    rows = ["Smiling Bald"]
    partition = []
    for number in range(1, 11):
        name = f"{number:06d}.jpg"
        shades = np.random.default_rng(number).integers(0, 255, (109, 89, 3), np.uint8)
        Image.fromarray(shades).save(folder / name)
        if number in (3, 6):
            (folder / name).write_bytes((folder / name).read_bytes()[:100])
        if number != 4:
            rows.append(f"{name} {1 if number % 2 else -1:2d} -1")
        partition.append(f"{name} {1 if number > 8 else 0}")
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n", "utf-8")
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(partition) + "\n", "utf-8")
    return tmp_path
