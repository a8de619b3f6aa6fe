import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from facegen.client import (
    RAW_PIXELS,
    Animation,
    AsyncClient,
    Client,
    DatasetCrop,
    Direction,
    DrawnFace,
    FailedPreconditionError,
    InvalidRequestError,
    Traversal,
)

FAMILY = "hand-vae"


@pytest.fixture
def client(movable_server: str) -> Iterator[Client]:
    with Client(movable_server, timeout_s=60) as client:
        yield client


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of 96 x 80 pixels."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    PillowImage.linear_gradient("L").resize((96, 80)).convert("RGB").save(path)
    return path


def test_photo_moves_by_all_moves_and_keeps_its_size(client: Client, photo: Path) -> None:
    moves = {"Smiling": 1.5, "Blond_Hair": -1.0}

    answer = client.edit([photo], moves, mime_type="image/webp")

    (face,) = answer.faces
    changes = [
        after - before
        for after, before in zip(face.latents[0].values, face.original.values, strict=True)
    ]
    assert changes[:3] == pytest.approx([3, -1, 0])
    assert (face.images[0].width_px, face.images[0].height_px) == (96, 80)
    assert face.images[0].mime_type == "image/webp"
    assert (answer.family, answer.version, answer.strengths) == (FAMILY, "1", ())
    assert face.original == client.encode([photo], family=FAMILY)[0].mean


def test_views_are_of_the_models_size(client: Client, photo: Path) -> None:
    crop = client.edit([photo], {"Smiling": 0}, view="crop", crop=DatasetCrop())
    decoded = client.edit([photo], {"Smiling": 0}, view="decoded", mime_type=RAW_PIXELS)

    assert crop.faces[0].images[0].height_px == 48
    again = client.reconstruct([photo], family=FAMILY, mime_type=RAW_PIXELS)
    assert decoded.faces[0].images[0].data == again.images[0].data


def test_latents_and_faces_of_seeds_are_edited_too(client: Client) -> None:
    drawn = DrawnFace(7, index=3, prior="normal", temperature=0.5)
    face = client.generate(
        1, family=FAMILY, seed=7, first_index=3, temperature=0.5, include_latents=True
    ).faces[0]
    assert face.latent is not None

    of_seed, of_latent = client.edit([drawn, face.latent], {"component-1": -2}).faces

    assert of_seed.original == face.latent == of_latent.original
    assert of_seed.latents == of_latent.latents


def test_traversal_gives_a_row_of_pictures_or_one_animation(client: Client) -> None:
    traversal = Traversal("Smiling", start=-1, end=1, count=5)

    row = client.edit([DrawnFace(1)], traversal=traversal)
    animated = client.edit(
        [DrawnFace(1)],
        traversal=traversal,
        animation=Animation(frame_ms=50, there_and_back=True),
        mime_type="image/gif",
    )

    assert row.strengths == (-1, -0.5, 0, 0.5, 1)
    assert len(row.faces[0].images) == len(row.faces[0].latents) == 5
    assert row.faces[0].animation is None
    assert animated.faces[0].images == ()
    assert animated.faces[0].latents == row.faces[0].latents
    assert animated.faces[0].animation is not None
    with PillowImage.open(io.BytesIO(animated.faces[0].animation.data)) as picture:
        assert (picture.format, getattr(picture, "n_frames", 1)) == ("GIF", 8)


def test_path_between_seeds_may_be_animated(client: Client) -> None:
    start, end = DrawnFace(1, temperature=10), DrawnFace(2, temperature=10)

    path = client.interpolate(start, end, count=4, animation=Animation())

    assert path.images == ()
    assert len(path.latents) == 4
    assert path.animation is not None
    with PillowImage.open(io.BytesIO(path.animation.data)) as picture:
        assert (picture.format, getattr(picture, "n_frames", 1)) == ("WEBP", 4)


def test_unknown_direction_names_near_ones(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match=r"near: Smiling.*it has Smiling, Blond_Hair"):
        client.edit([DrawnFace(1)], {"smile": 1})


def test_family_without_directions_names_one_that_has(client: Client) -> None:
    with pytest.raises(FailedPreconditionError, match=f"address one that has: {FAMILY}"):
        client.edit([DrawnFace(1)], {"Smiling": 1}, family="hand-zero")


def test_models_tell_directions_and_effects(client: Client) -> None:
    assert client.model(FAMILY).directions == (
        Direction("Smiling", 0.75),
        Direction("Blond_Hair", None),
        Direction("component-1", None),
    )
    assert client.model("hand-zero").directions == ()


async def test_asyncio_client_gives_the_answers_of_the_other(
    client: Client, movable_server: str, photo: Path
) -> None:
    traversal, animation = Traversal("Smiling", count=3), Animation()
    async with AsyncClient(movable_server) as asynchronous:
        edited = await asynchronous.edit([photo, DrawnFace(2)], {"Smiling": 1})
        moving = await asynchronous.edit([photo], traversal=traversal, animation=animation)

    assert edited == client.edit([photo, DrawnFace(2)], {"Smiling": 1})
    assert moving == client.edit([photo], traversal=traversal, animation=animation)
