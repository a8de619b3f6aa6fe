"""Random right requests of facegen.v1, many at a time."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.faces.family import Family, find_family
from facegen.serving.faces.pipelines import Draw, Pipelines
from facegen.serving.faces.slerp import lerp, slerp
from facegen.serving.onnx.engine import OnnxEngine
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from tests.serving.properties.conftest import examples
from tests.serving.properties.process import unharmed

Pixels = NDArray[np.uint8]

_RAW, _PNG = "application/octet-stream", "image/png"
_SIDE, _LATENT_SIZE = 64, 8
_FAMILIES = ("tiny-vae", "tiny-ae")


class Alone:
    """Computes answers here, a row at a time."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines

    def family(self, name: str) -> Family:
        return find_family(self._pipelines.families, name, version="")

    def generate(self, request: Any, index: int) -> tuple[Pixels, NDArray[np.float32]]:
        family = self.family(request.family)
        prior = request.prior or family.default_prior
        temperature = request.temperature if request.HasField("temperature") else 1.0
        faces = self._pipelines.generate(family, Draw(request.seed, index, 1, temperature, prior))
        return faces.pixels[0], faces.latents[0]

    def encode(self, family: str, pixels: Pixels) -> NDArray[np.float32]:
        mu: NDArray[np.float32] = self._pipelines.encode(self.family(family), pixels[None]).mu[0]
        return mu

    def decode(self, family: str, latent: NDArray[np.float32]) -> Pixels:
        pixels: Pixels = self._pipelines.decode(self.family(family), latent[None])[0]
        return pixels


@pytest.fixture(scope="module")
def alone(tiny_repository: Path) -> Iterator[Alone]:
    with OnnxEngine(tiny_repository, threads=1, max_batch_rows=1) as engine:
        yield Alone(Pipelines(engine))


_families = st.sampled_from(_FAMILIES)
_formats = st.sampled_from((_RAW, _PNG)).map(lambda kind: image_pb2.ImageFormat(mime_type=kind))
_pixels = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 256, (_SIDE, _SIDE, 3)).astype(np.uint8)
)
_latents = st.lists(st.floats(-4, 4, width=32), min_size=_LATENT_SIZE, max_size=_LATENT_SIZE).map(
    lambda values: np.array(values, np.float32)
)


def _image(pixels: Pixels) -> image_pb2.Image:
    return image_pb2.Image(
        data=pixels.tobytes(), mime_type=_RAW, height_px=_SIDE, width_px=_SIDE, channel_count=3
    )


def _latent(family: str, values: NDArray[np.float32]) -> latent_pb2.Latent:
    return latent_pb2.Latent(family=family, values=values.tolist())


def _shown(image: image_pb2.Image) -> Pixels:
    if image.mime_type == _RAW:
        return np.frombuffer(image.data, np.uint8).reshape(_SIDE, _SIDE, 3)
    return np.asarray(Image.open(io.BytesIO(image.data)))


# A request, how to call with it, and what checks the answer.
Case = tuple[Callable[[FaceServiceStub], Any], Callable[[Alone, Any], None]]


def _check_generated(alone: Alone, request: Any, faces: list[Any]) -> None:
    assert [face.index for face in faces] == list(
        range(request.first_index, request.first_index + request.count)
    )
    for face in faces:
        pixels, latent = alone.generate(request, face.index)
        np.testing.assert_array_equal(_shown(face.image), pixels)
        wanted = latent.tolist() if request.include_latents else []
        assert list(face.latent.values) == wanted


@st.composite
def _generate(draw: st.DrawFn) -> Case:
    streamed = draw(st.booleans())
    request: Any = (pb.GenerateStreamRequest if streamed else pb.GenerateRequest)(
        family=draw(_families),
        count=draw(st.integers(1, 6)),
        seed=draw(st.integers(0, 2**64 - 1)),
        first_index=draw(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 7))),
        prior=draw(st.sampled_from(("", "normal", "mixture"))),
        format=draw(_formats),
        include_latents=draw(st.booleans()),
    )
    if draw(st.booleans()):
        request.temperature = draw(st.floats(0, 2, width=32))

    def begin(faces: FaceServiceStub) -> Any:
        return faces.GenerateStream(request) if streamed else faces.Generate.future(request)

    def check(alone: Alone, call: Any) -> None:
        answers = list(call) if streamed else [call.result()]
        assert {answer.seed for answer in answers} == {request.seed}
        _check_generated(alone, request, [face for answer in answers for face in answer.faces])

    return begin, check


@st.composite
def _reconstruct(draw: st.DrawFn) -> Case:
    family = draw(_families)
    pictures = draw(st.lists(_pixels, min_size=1, max_size=4))
    request = pb.ReconstructRequest(
        family=family,
        images=[_image(picture) for picture in pictures],
        format=draw(_formats),
        include_inputs=draw(st.booleans()),
    )

    def check(alone: Alone, call: Any) -> None:
        answer = call.result()
        for image, picture in zip(answer.images, pictures, strict=True):
            wanted = alone.decode(family, alone.encode(family, picture))
            np.testing.assert_array_equal(_shown(image), wanted)
        views = pictures if request.include_inputs else []
        for image, picture in zip(answer.inputs, views, strict=True):
            np.testing.assert_array_equal(_shown(image), picture)

    return lambda faces: faces.Reconstruct.future(request), check


@st.composite
def _encode(draw: st.DrawFn) -> Case:
    family = draw(_families)
    pictures = draw(st.lists(_pixels, min_size=1, max_size=4))
    request = pb.EncodeRequest(family=family, images=[_image(picture) for picture in pictures])

    def check(alone: Alone, call: Any) -> None:
        for encoding, picture in zip(call.result().encodings, pictures, strict=True):
            assert encoding.mean.family == family
            assert list(encoding.mean.values) == alone.encode(family, picture).tolist()

    return lambda faces: faces.Encode.future(request), check


@st.composite
def _decode(draw: st.DrawFn) -> Case:
    family = draw(_families)
    latents = draw(st.lists(_latents, min_size=1, max_size=6))
    request = pb.DecodeRequest(
        latents=[_latent(family, values) for values in latents], format=draw(_formats)
    )

    def check(alone: Alone, call: Any) -> None:
        for image, values in zip(call.result().images, latents, strict=True):
            np.testing.assert_array_equal(_shown(image), alone.decode(family, values))

    return lambda faces: faces.Decode.future(request), check


@st.composite
def _interpolate(draw: st.DrawFn) -> Case:
    family, picture, end = draw(_families), draw(_pixels), draw(_latents)
    straight = draw(st.booleans())
    request = pb.InterpolateRequest(
        family=family,
        start=pb.Endpoint(image=_image(picture)),
        end=pb.Endpoint(latent=_latent(family, end)),
        count=draw(st.integers(2, 5)),
        format=draw(_formats),
        interpolation=pb.INTERPOLATION_LINEAR if straight else pb.INTERPOLATION_SPHERICAL,
    )

    def check(alone: Alone, call: Any) -> None:
        answer = call.result()
        start = alone.encode(family, picture)
        path = (lerp if straight else slerp)(start, end, count=request.count)
        for image, latent, values in zip(answer.images, answer.latents, path, strict=True):
            assert list(latent.values) == values.tolist()
            np.testing.assert_array_equal(_shown(image), alone.decode(family, values))

    return lambda faces: faces.Interpolate.future(request), check


_cases = st.one_of(_generate(), _reconstruct(), _encode(), _decode(), _interpolate())


def test_right_requests_equal_their_faces_made_alone(
    server: Any, channels: list[grpc.Channel], alone: Alone
) -> None:
    stubs = [FaceServiceStub(channel) for channel in channels]
    known = pb.GenerateRequest(family="tiny-vae", count=2, seed=5)

    @examples(80)
    @given(st.lists(_cases, min_size=1, max_size=10))
    def check(cases: list[Case]) -> None:
        calls = [begin(stubs[i % len(stubs)]) for i, (begin, _) in enumerate(cases)]
        for (_, check_answer), call in zip(cases, calls, strict=True):
            check_answer(alone, call)

    with unharmed(server, lambda: stubs[0].Generate(known)):
        check()
