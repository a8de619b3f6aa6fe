from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facegen.training.data import load_faces, load_labels
from facegen.training.data.alignment import TEMPLATE, align, fits_template, square_to_picture
from facegen.training.data.points import face_frame
from facegen.training.errors import DatasetError
from tests.conftest import draw_expression


def spread(pictures: NDArray[np.uint8]) -> float:
    """How much standardised pictures differ from their mean."""
    flat = pictures.astype(float).reshape(len(pictures), -1)
    flat -= flat.mean(1, keepdims=True)
    return float((flat / flat.std(1, keepdims=True)).std(0).mean())


def test_aligned_faces_lie_in_one_place(tiny_fer: Path) -> None:
    plain = load_faces("fer", tiny_fer, size_px=64, channels=1)

    aligned = load_faces("fer-aligned", tiny_fer, size_px=64, channels=1)

    assert aligned.dataset.name == "fer-aligned"
    assert aligned.pixels["train"].shape[1:] == (64, 64, 1)
    assert spread(aligned.pixels["train"]) < 0.8 * spread(plain.pixels["train"])


def test_labels_stay_with_their_faces(tiny_fer: Path) -> None:
    faces = load_faces("fer-aligned", tiny_fer, size_px=64, channels=1)

    labels = load_labels(faces)["train"]

    names = [faces.dataset.pictures[i].name for i in faces.indices["train"]]
    expected = [int(name[3:10]) % 5 for name in names]  # as conftest draws them
    order = ["neutral", "happiness", "surprise", "sadness", "anger"]
    found = [order.index(labels.names[int(row.argmax())]) for row in labels.values]
    assert found == expected


def test_pictures_without_a_face_are_dropped_and_counted(tmp_path: Path) -> None:
    for number in range(12):
        picture = draw_expression("neutral", seed=number, size_px=256)
        if number < 3:
            picture = Image.new("L", (256, 256), 40 * number)
        picture.save(tmp_path / f"{number:02d}.png")

    faces = load_faces("folder-aligned", tmp_path, size_px=32, channels=3)

    count = sum(len(pixels) for pixels in faces.pixels.values())
    assert faces.dropped_count == 12 - count
    assert 6 <= count <= 9
    kept = [faces.dataset.pictures[i].name for rows in faces.indices.values() for i in rows]
    assert not {"00.png", "01.png", "02.png"} & set(kept)


def test_a_folder_without_faces_is_refused(tmp_path: Path) -> None:
    for number in range(8):
        Image.new("RGB", (64, 64), (30 * number, 0, 0)).save(tmp_path / f"{number}.png")

    with pytest.raises(DatasetError, match="pictures to train on"):
        load_faces("folder-aligned", tmp_path, size_px=32, channels=3)


def test_a_face_half_outside_its_picture_does_not_fit() -> None:
    points = TEMPLATE * 40 + 4

    assert fits_template(square_to_picture(points), points, side_px=48)
    outside = points + np.array([24, 0])
    assert not fits_template(square_to_picture(outside), outside, side_px=48)
    squeezed = points * (1, 0.2)
    assert not fits_template(square_to_picture(squeezed), squeezed, side_px=48)


def test_colour_and_grey_faces_are_cut_alike() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    matrix = square_to_picture(TEMPLATE * 40 + 4)

    colour = align(np.repeat(grey[..., None], 3, 2), matrix, size_px=32)

    assert (colour == align(grey, matrix, size_px=32)[..., None]).all()


def test_frame_tells_where_a_detector_sees_faces(tiny_fer: Path) -> None:
    faces = load_faces("fer", tiny_fer, size_px=48, channels=1).pixels["train"]

    frame = face_frame(faces)

    assert frame is not None
    x, y, side = frame
    assert x == 0.5
    assert 0.45 < y < 0.6  # conftest's faces: 87 of 117 to 148 pixels, in the middle
    assert 0.55 < side < 0.85


def test_pictures_without_faces_have_no_frame() -> None:
    assert face_frame(np.zeros((3, 48, 48, 1), np.uint8)) is None
