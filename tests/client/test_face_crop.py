"""Crops around faces, asked of a real server of hand-made families."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from facegen.client import (
    RAW_PIXELS,
    CenterCrop,
    Client,
    DatasetCrop,
    FaceCrop,
    FailedPreconditionError,
    InvalidRequestError,
    SquareCrop,
)
from facegen.serving.imaging import FaceDetector

ASTRONAUT = Path(__file__).parents[2] / "docs" / "pictures" / "astronaut.jpg"


@pytest.fixture
def client(movable_server: str) -> Iterator[Client]:
    with Client(movable_server, timeout_s=60) as client:
        yield client


@pytest.fixture(scope="module")
def framed() -> SquareCrop:
    """The square of the astronaut's face whose frame is [0.5, 0.6, 0.5], as hand-vae says."""
    import numpy as np

    with PillowImage.open(ASTRONAUT) as picture:
        face = FaceDetector().detect(np.asarray(picture.convert("RGB")))[0]
    side = round(face.side_px / 0.5)
    left, top = (
        round(middle - place * side)
        for middle, place in zip(face.center_px, (0.5, 0.6), strict=True)
    )
    return SquareCrop(left_px=left, top_px=top, side_px=side)


def view(client: Client, crop: SquareCrop | FaceCrop | CenterCrop | DatasetCrop) -> bytes:
    answer = client.reconstruct(
        [ASTRONAUT], family="hand-vae", crop=crop, mime_type=RAW_PIXELS, include_inputs=True
    )
    return answer.inputs[0].data


def test_model_sees_the_face_as_its_family_frames_it(client: Client, framed: SquareCrop) -> None:
    seen = view(client, FaceCrop())

    alike = [
        view(client, SquareCrop(framed.left_px + x, framed.top_px + y, framed.side_px))
        for x in (-1, 0, 1)
        for y in (-1, 0, 1)
    ]
    assert seen in alike  # rounding may differ by a pixel
    assert seen != view(client, CenterCrop(1))


def test_edited_photo_changes_around_the_face_alone(client: Client, framed: SquareCrop) -> None:
    answer = client.edit(
        [ASTRONAUT], {"Smiling": 3}, family="hand-vae", crop=FaceCrop(), mime_type=RAW_PIXELS
    )

    image = answer.faces[0].images[0]
    with PillowImage.open(ASTRONAUT) as picture:
        size, before = picture.size, picture.convert("RGB")
    after = PillowImage.frombytes("RGB", size, image.data)
    left, top, right, bottom = changed_box(before, after)
    assert framed.left_px - 2 <= left
    assert right <= framed.left_px + framed.side_px + 2
    assert framed.top_px - 2 <= top
    assert bottom <= framed.top_px + framed.side_px + 2
    assert right - left > 0.9 * framed.side_px


def changed_box(before: PillowImage.Image, after: PillowImage.Image) -> tuple[int, int, int, int]:
    from PIL import ImageChops

    box = ImageChops.difference(before, after).getbbox()
    assert box is not None
    return box


def test_photo_without_a_face_is_refused_by_name(client: Client, tmp_path: Path) -> None:
    PillowImage.new("RGB", (200, 200), "teal").save(tmp_path / "wall.png")

    with pytest.raises(InvalidRequestError, match=r"images\[1\].*no face.*crop.square_px"):
        client.encode([ASTRONAUT, tmp_path / "wall.png"], family="hand-vae", crop=FaceCrop())
    with pytest.raises(InvalidRequestError, match=r"no face.*crop.square_px"):
        client.edit([tmp_path / "wall.png"], {"Smiling": 1}, family="hand-vae", crop=FaceCrop())


def test_family_that_says_nothing_of_its_frame_cannot(client: Client) -> None:
    with pytest.raises(FailedPreconditionError, match=r'"hand-zero" does not say.*crop.square_px'):
        client.encode([ASTRONAUT], family="hand-zero", crop=FaceCrop())
