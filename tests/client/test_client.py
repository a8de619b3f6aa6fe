import io
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from facegen.client import (
    RAW_PIXELS,
    AsyncClient,
    CenterCrop,
    Client,
    DeadlineError,
    HealthStatus,
    Image,
    InvalidRequestError,
    Latent,
    NotFoundError,
    SquareCrop,
    UnavailableError,
)


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo that is not square: 96 x 80, left half red, right half blue."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    picture = PillowImage.new("RGB", (96, 80), "red")
    picture.paste("blue", (48, 0, 96, 80))
    picture.save(path)
    return path


def test_same_seed_gives_the_same_faces(client: Client) -> None:
    first = client.generate(3, seed=7)
    second = client.generate(1, seed=7, first_index=2)

    assert [face.index for face in first.faces] == [0, 1, 2]
    assert second.faces[0].image == first.faces[2].image
    assert (first.seed, first.faces[0].seed) == (7, 7)
    assert first.faces[0].image.mime_type == "image/png"


def test_seed_zero_is_a_seed_and_a_drawn_seed_is_echoed(client: Client) -> None:
    drawn = client.generate(1)

    assert client.generate(1, seed=0).seed == 0
    assert client.generate(1, seed=drawn.seed).faces == drawn.faces


def test_stream_gives_the_faces_of_generate(client: Client) -> None:
    generated = client.generate(20, seed=3, include_latents=True)

    assert tuple(client.generate_stream(20, seed=3, include_latents=True)) == generated.faces


def test_stream_may_be_left_early(client: Client) -> None:
    stream = client.generate_stream(100_000, seed=1, mime_type=RAW_PIXELS)

    assert next(stream).index == 0
    stream.close()  # type: ignore[attr-defined]  # it is a generator

    assert client.health()


@pytest.mark.parametrize("mime_type", ["image/png", "image/jpeg", "image/webp"])
def test_image_is_what_it_says_it_is(client: Client, mime_type: str) -> None:
    image = client.generate(1, seed=1, mime_type=mime_type).faces[0].image

    with PillowImage.open(io.BytesIO(image.data)) as picture:
        assert picture.get_format_mimetype() == mime_type
        assert picture.size == (image.width_px, image.height_px) == (64, 64)


def test_raw_pixels_have_their_shape(client: Client) -> None:
    image = client.generate(1, seed=1, mime_type=RAW_PIXELS).faces[0].image

    assert len(image.data) == image.height_px * image.width_px * image.channel_count
    assert image.mime_type == RAW_PIXELS


def test_decoded_latent_is_the_face_it_came_with(client: Client) -> None:
    face = client.generate(1, seed=5, mime_type=RAW_PIXELS, include_latents=True).faces[0]
    assert face.latent is not None

    decoded = client.decode([face.latent], mime_type=RAW_PIXELS)

    assert decoded.images[0].data == face.image.data
    assert (decoded.family, decoded.version) == (face.family, face.version)


def test_picture_may_be_a_path_bytes_or_pixels(client: Client, photo: Path) -> None:
    with PillowImage.open(photo) as picture:
        pixels = Image(picture.tobytes(), RAW_PIXELS, 80, 96, 3)

    answer = client.reconstruct([photo, str(photo), photo.read_bytes(), pixels])

    assert len({image.data for image in answer.images}) == 1


def test_crop_is_what_the_model_sees(client: Client, photo: Path) -> None:
    def view(crop: SquareCrop | CenterCrop | None) -> bytes:
        answer = client.reconstruct([photo], crop=crop, mime_type=RAW_PIXELS, include_inputs=True)
        return answer.inputs[0].data

    assert view(SquareCrop(left_px=0, top_px=0, side_px=40)) == b"\xff\0\0" * 64 * 64
    assert view(None) == view(SquareCrop(left_px=8, top_px=0, side_px=80))
    assert view(None) == view(CenterCrop(1.0)) != view(CenterCrop(0.5))


def test_reconstruction_is_the_decoded_encoding(client: Client, photo: Path) -> None:
    [encoding] = client.encode([photo])

    decoded = client.decode([encoding.mean], mime_type=RAW_PIXELS)

    reconstructed = client.reconstruct([photo], mime_type=RAW_PIXELS)
    assert decoded.images[0].data == reconstructed.images[0].data


def test_path_begins_and_ends_at_its_ends(client: Client) -> None:
    faces = client.generate(2, seed=9, mime_type=RAW_PIXELS, include_latents=True).faces
    start, end = (face.latent for face in faces)
    assert start is not None
    assert end is not None

    path = client.interpolate(start, end, count=5, interpolation="linear", mime_type=RAW_PIXELS)

    assert len(path.images) == len(path.latents) == 5
    assert path.images[0].data == faces[0].image.data
    assert path.images[-1].data == faces[1].image.data


def test_models_are_listed_and_described(client: Client) -> None:
    models = client.models()

    assert [model.family for model in models] == ["tiny-ae", "tiny-vae"]
    model = client.model("tiny-vae")
    assert model == models[1]
    assert (model.kind, model.latent_size, model.height_px) == ("vae", 8, 64)
    assert model.priors


def test_health_tells_of_the_server_and_its_services(client: Client) -> None:
    assert client.health() is HealthStatus.SERVING
    assert client.health("facegen.v1.FaceService") is HealthStatus.SERVING
    assert client.health("facegen.v1.NoService") is HealthStatus.SERVICE_UNKNOWN


def test_server_that_never_comes_is_waited_for_until_the_deadline() -> None:
    with Client("127.0.0.1:1", timeout_s=0.2) as client, pytest.raises(DeadlineError):
        client.wait_until_serving()


def test_server_that_is_not_there_is_unavailable_at_once() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        client.health()


def test_too_many_faces_name_the_field(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="count") as caught:
        client.generate(100_000)

    assert caught.value.field == "count"


def test_file_that_is_no_picture_names_the_field(client: Client) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.reconstruct([b"not a picture"])

    assert caught.value.field == "images[0].data"


def test_wrong_latent_size_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.decode([Latent("tiny-vae", "", (0.0,) * 9)])

    assert caught.value.reason == "LATENT_SIZE"


def test_unknown_family_is_not_found(client: Client) -> None:
    with pytest.raises(NotFoundError, match="no-such"):
        client.model("no-such")


async def test_asyncio_client_gives_the_answers_of_the_other(
    client: Client, server_address: str, photo: Path
) -> None:
    async with AsyncClient(server_address) as asynchronous:
        generated = await asynchronous.generate(2, seed=7)
        streamed = [face async for face in asynchronous.generate_stream(2, seed=7)]
        reconstructed = await asynchronous.reconstruct([photo])
        encodings = await asynchronous.encode([photo])
        decoded = await asynchronous.decode([encodings[0].mean])
        path = await asynchronous.interpolate(photo, photo, count=2)
        models = await asynchronous.models()
        model = await asynchronous.model(models[0].family)
        await asynchronous.wait_until_serving()
        health = await asynchronous.health()

    assert generated == client.generate(2, seed=7)
    assert tuple(streamed) == generated.faces
    assert reconstructed == client.reconstruct([photo])
    assert encodings == client.encode([photo])
    assert decoded == client.decode([encodings[0].mean])
    assert path == client.interpolate(photo, photo, count=2)
    assert (models, model) == (client.models(), models[0])
    assert health is HealthStatus.SERVING
