import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from PIL import Image

from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub

_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")
_MIME_TYPES = ["image/png", "image/jpeg", "image/webp"]


@pytest.fixture
def faces(server_address: str) -> Iterator[FaceServiceStub]:
    with grpc.insecure_channel(server_address) as channel:
        yield FaceServiceStub(channel)


def _picture(kind: str = "PNG", side: int = 80) -> image_pb2.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return image_pb2.Image(data=file.getvalue())


def test_generate_answers_with_coded_faces_and_their_seed(faces: FaceServiceStub) -> None:
    answer = faces.Generate(
        pb.GenerateRequest(family="tiny-vae", count=3, seed=5, first_index=9, include_latents=True)
    )

    assert (answer.seed, answer.family, answer.version) == (5, "tiny-vae", "1")
    assert answer.prior in ("mixture", "normal")
    assert [face.index for face in answer.faces] == [9, 10, 11]
    for face in answer.faces:
        assert Image.open(io.BytesIO(face.image.data)).size == (64, 64)
        assert (face.image.height_px, face.image.width_px, face.image.channel_count) == (64, 64, 3)
        assert len(face.latent.values) == 8


def test_seed_zero_is_a_seed_and_no_seed_is_drawn_and_echoed(faces: FaceServiceStub) -> None:
    zero = faces.Generate(pb.GenerateRequest(count=1, seed=0, format=_RAW))
    drawn = faces.Generate(pb.GenerateRequest(count=1, format=_RAW))
    again = faces.Generate(pb.GenerateRequest(count=1, seed=drawn.seed, format=_RAW))

    assert zero.seed == 0
    assert drawn.seed != 0
    assert again.faces[0].image.data == drawn.faces[0].image.data


def test_hundred_faces_are_the_same_at_once_one_by_one_and_under_traffic(
    faces: FaceServiceStub,
) -> None:
    def generate(first_index: int, count: int, seed: int = 3) -> list[bytes]:
        request = pb.GenerateRequest(
            count=count, seed=seed, first_index=first_index, format=_RAW, family="tiny-vae"
        )
        return [face.image.data for face in faces.Generate(request).faces]

    at_once = generate(0, 100)
    one_by_one = [generate(index, 1)[0] for index in range(100)]
    with ThreadPoolExecutor(12) as pool:
        traffic = [pool.submit(generate, i, 1 + i % 17, 99) for i in range(60)]
        pictures = pool.submit(faces.Reconstruct, pb.ReconstructRequest(images=[_picture()] * 20))
        parts = [pool.submit(generate, index, 1) for index in range(100)]
        under_traffic = [part.result()[0] for part in parts]
        assert all(future.result() for future in traffic)
        assert len(pictures.result().images) == 20

    assert len(set(at_once)) > 90
    assert one_by_one == at_once
    assert under_traffic == at_once


def test_stream_sends_the_faces_of_generate_and_resumes(faces: FaceServiceStub) -> None:
    def stream(first_index: int, count: int) -> list[tuple[int, bytes]]:
        request = pb.GenerateStreamRequest(
            count=count, seed=4, first_index=first_index, format=_RAW
        )
        chunks = list(faces.GenerateStream(request))
        assert {chunk.seed for chunk in chunks} == {4}
        return [(face.index, face.image.data) for chunk in chunks for face in chunk.faces]

    everything = stream(0, 300)
    together = faces.Generate(pb.GenerateRequest(count=200, seed=4, format=_RAW))

    assert [index for index, _ in everything] == list(range(300))
    assert [data for _, data in everything[:200]] == [face.image.data for face in together.faces]
    assert stream(250, 50) == everything[250:]


def test_reconstruct_gives_a_picture_for_each_and_the_models_view(faces: FaceServiceStub) -> None:
    images = [_picture(), _picture("JPEG", 200), _picture("WEBP", 64)]

    answer = faces.Reconstruct(
        pb.ReconstructRequest(
            images=images,
            crop=image_pb2.Crop(center_fraction=0.5),
            format=_RAW,
            include_inputs=True,
        )
    )

    assert [len(image.data) for image in answer.images] == [64 * 64 * 3] * 3
    assert [len(image.data) for image in answer.inputs] == [64 * 64 * 3] * 3


@pytest.mark.parametrize("mime_type", _MIME_TYPES)
def test_reconstructions_carry_their_origin_and_inputs_none(
    faces: FaceServiceStub, mime_type: str
) -> None:
    answer = faces.Reconstruct(
        pb.ReconstructRequest(
            images=[_picture()],
            format=image_pb2.ImageFormat(mime_type=mime_type),
            include_inputs=True,
        )
    )

    assert b"trainedAlgorithmicMedia" in answer.images[0].data
    assert b"trainedAlgorithmicMedia" not in answer.inputs[0].data


def test_reconstruct_is_decode_of_encode(faces: FaceServiceStub) -> None:
    images = [_picture(), _picture("PNG", 120)]
    request = pb.EncodeRequest(family="tiny-vae", images=images)

    encodings = faces.Encode(request).encodings
    latents = [encoding.mean for encoding in encodings]
    decoded = faces.Decode(pb.DecodeRequest(latents=latents, format=_RAW))
    reconstructed = faces.Reconstruct(
        pb.ReconstructRequest(family="tiny-vae", images=images, format=_RAW)
    )

    assert [len(encoding.log_variance) for encoding in encodings] == [8, 8]
    assert decoded.family == "tiny-vae"
    assert [image.data for image in decoded.images] == [
        image.data for image in reconstructed.images
    ]


def test_autoencoders_latents_have_no_variance(faces: FaceServiceStub) -> None:
    answer = faces.Encode(pb.EncodeRequest(family="tiny-ae", images=[_picture()]))

    assert answer.encodings[0].mean.family == "tiny-ae"
    assert not answer.encodings[0].log_variance


def test_interpolation_goes_from_picture_to_latent(faces: FaceServiceStub) -> None:
    end = latent_pb2.Latent(family="tiny-vae", values=[1.0] * 8)

    answer = faces.Interpolate(
        pb.InterpolateRequest(
            family="tiny-vae",
            start=pb.Endpoint(image=_picture()),
            end=pb.Endpoint(latent=end),
            count=7,
            interpolation=pb.INTERPOLATION_LINEAR,
            format=_RAW,
        )
    )

    assert len(answer.images) == 7
    path = np.array([latent.values for latent in answer.latents])
    assert path[-1] == pytest.approx(np.ones(8))
    assert np.diff(path, axis=0) == pytest.approx(np.tile(path[1] - path[0], (6, 1)), abs=1e-5)
