import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from facegen.client import (
    RAW_PIXELS,
    AsyncClient,
    Client,
    ExpressionTarget,
    FailedPreconditionError,
    Image,
    InvalidRequestError,
)
from tests.serving.family_graphs import DECODERS, EXPERIMENTAL, EXPRESSION_FAMILY, PLAIN_FAMILY

PHOTO = Path("docs/pictures/astronaut.jpg").resolve()
SUPPORTED = tuple(name for name in DECODERS if name not in EXPERIMENTAL)


@pytest.fixture
def expressive(expression_server: str) -> Iterator[Client]:
    with Client(expression_server, timeout_s=120) as client:
        yield client


@pytest.fixture
def wall(tmp_path: Path) -> Path:
    path = tmp_path / "wall.png"
    PillowImage.linear_gradient("L").convert("RGB").save(path)
    return path


def test_photo_keeps_its_size_and_all_but_its_face(expressive: Client) -> None:
    transferred = expressive.transfer(
        [PHOTO], ["happiness", ExpressionTarget("anger", 0.8)], mime_type=RAW_PIXELS
    )

    [photo] = transferred.photos
    [face] = photo.faces
    with PillowImage.open(PHOTO) as picture:
        before = picture.convert("RGB")
    assert (transferred.family, transferred.version) == (EXPRESSION_FAMILY, "1")
    assert [(it.expression, it.strength) for it in photo.images] == [
        ("happiness", 1.0),
        ("anger", 0.8),
    ]
    for made in photo.images:
        after = PillowImage.frombytes("RGB", before.size, made.image.data)
        assert made.face_index is None
        assert after.getpixel((0, 0)) == before.getpixel((0, 0))
        middle = (int(face.left_px + face.right_px) // 2, int(face.top_px + face.bottom_px) // 2)
        assert after.getpixel(middle) != before.getpixel(middle)
    assert 0 < face.left_px < face.right_px < before.width
    assert 0 < face.top_px < face.bottom_px < before.height
    assert len(face.points) == 5
    assert face.points[0].x_px > face.points[2].x_px
    assert face.score > 0


def test_strength_0_gives_the_pixels_back(expressive: Client) -> None:
    with PillowImage.open(PHOTO) as picture:
        pixels = picture.convert("RGB")
    sent = Image(pixels.tobytes(), RAW_PIXELS, pixels.height, pixels.width, 3)

    transferred = expressive.transfer(
        [sent], [ExpressionTarget("happiness", 0)], mime_type=RAW_PIXELS
    )

    assert transferred.photos[0].images[0].image == sent


def test_no_targets_are_every_supported_expression(expressive: Client) -> None:
    transferred = expressive.transfer([PHOTO], view="crop")

    images = transferred.photos[0].images
    assert tuple(it.expression for it in images) == SUPPORTED
    assert {it.face_index for it in images} == {0}
    assert {(it.image.height_px, it.image.channel_count) for it in images} == {(48, 1)}


def test_sheet_is_one_picture_of_a_photo(expressive: Client) -> None:
    transferred = expressive.transfer([PHOTO, PHOTO], view="sheet", mime_type="image/webp")

    for photo in transferred.photos:
        [sheet] = photo.images
        assert (sheet.expression, sheet.face_index) == ("", None)
        with PillowImage.open(io.BytesIO(sheet.image.data)) as picture:
            assert picture.format == "WEBP"


def test_photo_without_a_face_is_named(expressive: Client, wall: Path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        expressive.transfer([PHOTO, wall], ["happiness"])

    assert (caught.value.field, caught.value.reason) == ("images[1]", "NO_FACE")


def test_cropped_photo_needs_no_detector(expressive: Client, wall: Path) -> None:
    transferred = expressive.transfer([wall], ["happiness"], finding="cropped")

    assert transferred.photos[0].faces[0].score == 0


def test_more_faces_than_allowed_are_refused(expressive: Client) -> None:
    with PillowImage.open(PHOTO) as picture:
        twins = PillowImage.new("RGB", (2 * picture.width, picture.height))
        twins.paste(picture, (0, 0))
        twins.paste(picture, (picture.width, 0))
    sent = Image(twins.tobytes(), RAW_PIXELS, twins.height, twins.width, 3)

    with pytest.raises(InvalidRequestError, match="2 faces") as caught:
        expressive.transfer([sent], ["happiness"], max_faces=1)
    crops = expressive.transfer([sent], ["happiness", "anger"], max_faces=2, view="crop")

    assert caught.value.reason == "TOO_MANY_FACES"
    assert [(it.face_index, it.expression) for it in crops.photos[0].images] == [
        (0, "happiness"),
        (0, "anger"),
        (1, "happiness"),
        (1, "anger"),
    ]


@pytest.mark.parametrize("target", ["joy", ExpressionTarget("happiness", 2)])
def test_wrong_target_names_its_field(expressive: Client, target: ExpressionTarget | str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        expressive.transfer([PHOTO], [target])

    assert caught.value.field.startswith("targets[0].")


def test_number_of_faces_that_cannot_be_sent_names_its_field(expressive: Client) -> None:
    with pytest.raises(InvalidRequestError, match="max_faces is 33, expected 0 to 32"):
        expressive.transfer([PHOTO], max_faces=33)


def test_family_without_expressions_is_a_failed_precondition(expressive: Client) -> None:
    with pytest.raises(FailedPreconditionError, match=EXPRESSION_FAMILY):
        expressive.transfer([PHOTO], family=PLAIN_FAMILY)
    with pytest.raises(FailedPreconditionError, match="happiness"):
        expressive.generate(1, family=PLAIN_FAMILY, expression="happiness")


def test_families_tell_their_expressions(expressive: Client) -> None:
    model = expressive.model(EXPRESSION_FAMILY)

    assert (model.kind, model.expressions) == ("expression", SUPPORTED)
    assert model.experimental_expressions == EXPERIMENTAL
    assert expressive.model(PLAIN_FAMILY).expressions == ()


def test_whatever_draws_draws_the_expression_asked_for(expressive: Client) -> None:
    some: dict[str, Any] = {"family": EXPRESSION_FAMILY, "mime_type": RAW_PIXELS}

    def drawn(expression: str) -> set[bytes]:
        asked = {**some, "expression": expression}
        # Noise of no temperature is the latent 0: what the decoder's level gives.
        faces = expressive.generate(1, temperature=0, include_latents=True, **asked).faces
        streamed = next(iter(expressive.generate_stream(1, temperature=0, **asked)))
        latent = faces[0].latent
        assert latent is not None
        decoded = expressive.decode([latent], **asked)
        path = expressive.interpolate(latent, latent, count=2, interpolation="linear", **asked)
        black = Image(bytes(48 * 48), RAW_PIXELS, 48, 48, 1)
        reconstructed = expressive.reconstruct([black], **asked)
        images = (faces[0].image, streamed.image, *decoded.images, *path.images)
        return {image.data for image in (*images, *reconstructed.images)}

    assert drawn("happiness") == {bytes([200]) * 48 * 48}
    assert drawn("") == drawn("neutral") == {bytes([60]) * 48 * 48}


async def test_asyncio_client_gives_the_answer_of_the_other(
    expressive: Client, expression_server: str
) -> None:
    async with AsyncClient(expression_server, timeout_s=120) as asynchronous:
        transferred = await asynchronous.transfer([PHOTO], ["anger"], view="crop")

    assert transferred == expressive.transfer([PHOTO], ["anger"], view="crop")
