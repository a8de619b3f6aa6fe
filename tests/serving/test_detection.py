from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.imaging import DetectedFace, FaceDetector, align, grey, square_around
from facegen.serving.imaging.alignment import square_at

_PHOTO = Path(__file__).parents[2] / "docs" / "pictures" / "astronaut.jpg"
# Of the portrait's face, as anyone would draw it from brow to chin.
_CENTER_PX, _SIDE_PX = (128.0, 128.0), 92.0


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    """One face, 256 x 256 pixels."""
    return np.asarray(Image.open(_PHOTO).convert("RGB"))[:256, 96:352]


def _scaled(picture: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    image = Image.fromarray(picture).resize((side_px, side_px), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _turned(
    picture: NDArray[np.uint8], degrees: float, around_px: tuple[float, float]
) -> NDArray[np.uint8]:
    """Turn a picture clockwise about a place."""
    matrix = cv2.getRotationMatrix2D(around_px, -degrees, 1)
    turned = cv2.warpAffine(picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return turned.astype(np.uint8)


def _is_at(
    face: DetectedFace, center_px: tuple[float, float], side_px: float, *, within: float = 0.12
) -> bool:
    off_px = np.hypot(*np.subtract(face.center_px, center_px))
    return bool(off_px < within * side_px and abs(face.side_px - side_px) < 2 * within * side_px)


def test_the_face_of_a_portrait_is_found_alone_and_in_its_place(
    detector: FaceDetector, portrait: NDArray[np.uint8]
) -> None:
    faces = detector.detect(portrait)

    assert len(faces) == 1
    assert _is_at(faces[0], _CENTER_PX, _SIDE_PX)
    assert faces[0].rotation_degrees == 0
    assert faces[0].score > 0.5


def test_a_patch_of_cloth_beside_the_face_is_not_taken_for_one(detector: FaceDetector) -> None:
    photo = np.asarray(Image.open(_PHOTO).convert("RGB"))

    faces = detector.detect(photo)

    assert len(faces) == 1
    assert _is_at(faces[0], (224, 128), _SIDE_PX)


@pytest.mark.parametrize("side_px", [96, 128, 200, 1000])
def test_faces_are_found_in_photos_of_any_size(
    detector: FaceDetector, portrait: NDArray[np.uint8], side_px: int
) -> None:
    scale = side_px / 256

    faces = detector.detect(_scaled(portrait, side_px))

    assert len(faces) == 1
    assert _is_at(faces[0], (128 * scale, 128 * scale), _SIDE_PX * scale, within=0.2)


def test_a_mirrored_face_is_found_in_the_mirrored_place(
    detector: FaceDetector, portrait: NDArray[np.uint8]
) -> None:
    faces = detector.detect(np.ascontiguousarray(portrait[:, ::-1]))

    assert len(faces) == 1
    assert _is_at(faces[0], (256 - _CENTER_PX[0], _CENTER_PX[1]), _SIDE_PX)


def test_grey_photos_of_either_shape_give_what_coloured_ones_do(
    detector: FaceDetector, portrait: NDArray[np.uint8]
) -> None:
    plane = grey(portrait)

    expected = detector.detect(portrait)

    assert detector.detect(plane) == detector.detect(plane[..., None]) == expected


@pytest.mark.parametrize("degrees", [-75, -45, -25, 25, 60, 90])
def test_a_tilted_face_is_found_and_its_square_is_upright_on_it(
    detector: FaceDetector, portrait: NDArray[np.uint8], degrees: float
) -> None:
    tilted = _turned(portrait, degrees, _CENTER_PX)

    faces = detector.detect(tilted)

    assert len(faces) == 1
    assert _is_at(faces[0], _CENTER_PX, _SIDE_PX, within=0.2)
    assert abs(faces[0].rotation_degrees - degrees) <= 15
    upright = align(grey(portrait), square_at(_CENTER_PX, 1.4 * _SIDE_PX), size_px=32)
    seen = align(grey(tilted), square_around(faces[0]), size_px=32)
    straight = align(grey(tilted), square_at(_CENTER_PX, 1.4 * _SIDE_PX), size_px=32)
    likeness = np.corrcoef([upright.ravel(), seen.ravel(), straight.ravel()])[0]
    assert likeness[1] > max(0.4, likeness[2])


def test_two_faces_side_by_side_are_two_the_surest_first(
    detector: FaceDetector, portrait: NDArray[np.uint8]
) -> None:
    darker = (portrait * 0.6).astype(np.uint8)

    faces = detector.detect(np.hstack([portrait, darker]))

    assert len(faces) == 2
    assert faces[0].score >= faces[1].score
    left, right = sorted(faces, key=lambda face: face.left_px)
    assert _is_at(left, _CENTER_PX, _SIDE_PX)
    assert _is_at(right, (_CENTER_PX[0] + 256, _CENTER_PX[1]), _SIDE_PX)


def test_a_small_face_in_a_large_photo_is_found_by_a_closer_look(
    detector: FaceDetector, portrait: NDArray[np.uint8]
) -> None:
    photo = np.full((160, 160, 3), 128, np.uint8)
    photo[60:132, 70:142] = _scaled(portrait, 72)
    scale = 72 / 256

    faces = detector.detect(photo)

    assert len(faces) == 1
    assert _is_at(faces[0], (70 + 128 * scale, 60 + 128 * scale), _SIDE_PX * scale, within=0.2)


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_holds_no_face(detector: FaceDetector, seed: int) -> None:
    random = np.random.default_rng(seed)
    grain = random.integers(0, 256, (120, 160, 3)).astype(np.uint8)
    clouds = cv2.GaussianBlur(random.normal(128, 2000, (120, 160)), (0, 0), 8)

    assert detector.detect(grain) == []
    assert detector.detect(np.clip(clouds, 0, 255).astype(np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 3), (1, 5000), (5000, 1, 1), (40, 40, 3)])
def test_photos_too_small_or_narrow_for_a_face_hold_none(
    detector: FaceDetector, shape: tuple[int, ...]
) -> None:
    assert detector.detect(np.full(shape, 90, np.uint8)) == []


def test_threads_at_a_time_find_what_one_alone_does(portrait: NDArray[np.uint8]) -> None:
    detector = FaceDetector()
    photos = [_scaled(portrait, side_px) for side_px in (128, 160)]
    alone = [detector.detect(photo) for photo in photos]

    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(detector.detect, photos * 4))

    assert together == alone * 4
    assert all(alone)


def test_the_square_around_a_face_is_about_its_middle_and_turned_with_it() -> None:
    face = DetectedFace(10, 20, 110, 140, score=1, rotation_degrees=90)

    square = square_around(face)

    np.testing.assert_allclose(square @ (0.5, 0.5, 1), (60, 80))
    # Turned clockwise by a quarter, the square's top left corner is at the photo's top right.
    np.testing.assert_allclose(square @ (0, 0, 1), (60 + 77, 80 - 77))
    np.testing.assert_allclose(square @ (1, 0, 1), (60 + 77, 80 + 77))
