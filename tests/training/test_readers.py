import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegen.training.data import Dataset, read_dataset
from facegen.training.errors import DatasetError


def face(index: int, width_px: int = 48, height_px: int = 48) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (height_px, width_px, 3), np.uint8)


def save(path: Path, index: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(face(index)).save(path)


def names(dataset: Dataset, split: str) -> list[str]:
    return [p.name for p in dataset.pictures if p.split == split]


def test_celeba_without_partition_validates_on_the_last_ninth(celeba: Path) -> None:
    dataset = read_dataset("celeba", celeba)

    assert len(names(dataset, "train")) == 32
    assert names(dataset, "validation") == [f"{n:06d}.jpg" for n in range(33, 37)]


def test_celeba_attributes_become_labels(celeba: Path) -> None:
    first, second, *_ = read_dataset("celeba", celeba).pictures

    assert first.labels == {"Smiling": 1, "Male": -1}
    assert second.labels["Smiling"] == -1


def test_celeba_attributes_may_begin_with_the_number_of_rows(tmp_path: Path) -> None:
    save(tmp_path / "img_align_celeba" / "000001.jpg")
    (tmp_path / "list_attr_celeba.txt").write_text("1\nBald Young\n000001.jpg -1  1\n", "utf-8")

    (picture,) = read_dataset("celeba", tmp_path).pictures

    assert picture.labels == {"Bald": -1, "Young": 1}


def test_celeba_partition_file_decides_the_split(tmp_path: Path) -> None:
    for number in range(1, 5):
        save(tmp_path / "img_align_celeba" / f"{number:06d}.jpg", number)
    (tmp_path / "list_attr_celeba.txt").write_text("Bald\n", "utf-8")
    (tmp_path / "list_eval_partition.txt").write_text(
        "000001.jpg 2\n000002.jpg 0\n000003.jpg 1\n000004.jpg 0\n", "utf-8"
    )

    dataset = read_dataset("celeba", tmp_path)

    assert names(dataset, "train") == ["000002.jpg", "000004.jpg"]
    assert names(dataset, "validation") == ["000003.jpg"]
    assert names(dataset, "test") == ["000001.jpg"]


def test_celeba_row_with_too_few_attributes_is_named(tmp_path: Path) -> None:
    save(tmp_path / "img_align_celeba" / "000001.jpg")
    (tmp_path / "list_attr_celeba.txt").write_text("Bald Young\n000001.jpg -1\n", "utf-8")

    with pytest.raises(DatasetError, match=r"2 attributes in row 2 of list_attr_celeba\.txt"):
        read_dataset("celeba", tmp_path)


@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        ("celeba", "img_align_celeba/000001.jpg"),
        ("lfw", "Name_Surname_0001.jpg"),
        ("fer", "fer2013.csv"),
        ("folder", "two pictures or more"),
    ],
)
def test_missing_data_set_says_what_where_and_how(
    tmp_path: Path, reader: str, expected: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        read_dataset(reader, tmp_path / "nowhere")

    assert expected in str(caught.value)
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert "Get" in caught.value.remedy or "Give" in caught.value.remedy


def test_nobody_of_lfw_is_in_both_splits(tmp_path: Path) -> None:
    for person in range(40):
        for number in (1, 2):
            save(tmp_path / "lfw" / f"Face_{person}" / f"Face_{person}_{number:04d}.jpg", person)

    dataset = read_dataset("lfw", tmp_path)

    train = {name.partition("/")[0] for name in names(dataset, "train")}
    validation = {name.partition("/")[0] for name in names(dataset, "validation")}
    assert len(train) + len(validation) == 40
    assert validation
    assert not train & validation


def test_folder_split_survives_new_files(tmp_path: Path) -> None:
    for number in range(60):
        save(tmp_path / "deep" / f"{number}.png", number)
    before = read_dataset("folder", tmp_path)

    save(tmp_path / "new.webp")
    (tmp_path / "notes.txt").write_text("not a picture", "utf-8")
    after = read_dataset("folder", tmp_path)

    assert len(after.pictures) == len(before.pictures) + 1
    assert set(names(before, "validation")) <= set(names(after, "validation"))
    assert set(names(before, "train")) <= set(names(after, "train"))


def test_folder_of_two_pictures_has_both_splits(tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / f"{number}.png", number)

    dataset = read_dataset("folder", tmp_path)

    assert len(names(dataset, "train")) == len(names(dataset, "validation")) == 1


def test_fer_table_gives_pixels_splits_and_emotions(tmp_path: Path) -> None:
    rows = ["emotion, Usage, pixels"]
    for number, usage in enumerate(["Training", "PublicTest", "PrivateTest"]):
        pixels = face(number)[..., 0]
        rows.append(f"{number}, {usage}, {' '.join(map(str, pixels.ravel()))}")
    (tmp_path / "icml_face_data.csv").write_text("\n".join(rows), "utf-8")

    dataset = read_dataset("fer", tmp_path)

    assert [p.split for p in dataset.pictures] == ["train", "validation", "test"]
    assert [p.labels["emotion"] for p in dataset.pictures] == [0, 1, 2]
    assert isinstance(dataset.pictures[1].source, np.ndarray)
    np.testing.assert_array_equal(dataset.pictures[1].source, face(1)[..., 0])


def test_fer_table_with_a_short_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n0,1 2 3,Training\n", "utf-8")

    with pytest.raises(DatasetError, match=r"48 x 48 pixels, Usage in row 0 of fer2013\.csv"):
        read_dataset("fer", tmp_path)


def test_fer_plus_folders_give_votes_and_emotions(tmp_path: Path) -> None:
    root = tmp_path / "ferplus"
    save(root / "FER2013Train" / "fer0000000.png", 0)
    save(root / "FER2013Valid" / "fer0000007.png", 1)
    (root / "fer2013_labels.csv").write_text("image,emotion\nfer0000007.png,3\n", "utf-8")
    (root / "fer2013new.csv").write_text(
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,"
        "fear,contempt,unknown,NF\n"
        "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\n"
        "PublicTest,,0,0,0,0,0,0,0,0,0,10\n",
        "utf-8",
    )

    train, validation = read_dataset("fer", tmp_path).pictures

    assert (train.split, validation.split) == ("train", "validation")
    assert train.labels["votes.neutral"] == 4
    assert validation.labels == {"emotion": 3}


def test_fingerprint_changes_with_a_file(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", number)
    before = read_dataset("folder", tmp_path).fingerprint()

    assert read_dataset("folder", tmp_path).fingerprint() == before
    os.utime(tmp_path / "1.png", (1, 1))

    assert read_dataset("folder", tmp_path).fingerprint() != before
