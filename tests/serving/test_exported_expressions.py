"""A family of expressions as it is trained, exported and served, all for real."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from facegen.training import load_expression_run
from facegen.training.expression.model import EXPRESSIONS, apply_edit
from facegen.training.module import to_input
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, model_service_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from facegen.v1.model_service_pb2_grpc import ModelServiceStub

_ASTRONAUT = Path(__file__).parents[2] / "docs" / "pictures" / "astronaut.jpg"
_FAMILY = "tiny-expressions"
_PNG = image_pb2.ImageFormat(mime_type="image/png")

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def channel(serve: Callable[..., Any], tiny_expression_repository: Path) -> Iterator[grpc.Channel]:
    with serve(tiny_expression_repository) as server:
        assert server.address, "".join(server.log)
        with grpc.insecure_channel(server.address) as opened:
            yield opened


def _transfer(channel: grpc.Channel, targets: Sequence[tuple[str, float]], view: int) -> Any:
    request = pb.TransferRequest(
        images=[image_pb2.Image(data=_ASTRONAUT.read_bytes(), mime_type="image/jpeg")],
        targets=[pb.ExpressionTarget(expression=name, strength=much) for name, much in targets],
        view=view,  # type: ignore[arg-type]  # the enum's values are its numbers
        format=_PNG,
    )
    (photo,) = FaceServiceStub(channel).Transfer(request, timeout=60).photos
    return photo


def _pixels(file: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(file)))


def test_server_tells_the_expressions(channel: grpc.Channel) -> None:
    listed = ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest())

    (family,) = listed.models
    assert family.family == _FAMILY
    assert family.kind == model_service_pb2.MODEL_KIND_EXPRESSION
    assert list(family.expressions) == list(EXPRESSIONS)
    assert list(family.experimental_expressions) == []


def test_photo_is_edited_on_its_face_alone(channel: grpc.Channel) -> None:
    before = np.asarray(Image.open(_ASTRONAUT))
    photo = _transfer(channel, [("happiness", 1.0), ("anger", 0.0)], pb.TRANSFER_VIEW_PHOTO)

    happy, same = (_pixels(image.image.data) for image in photo.images)

    assert happy.shape == before.shape
    assert (happy != before).any()
    assert np.array_equal(happy[-50:], before[-50:])
    assert np.array_equal(same, before)


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
def test_aligned_faces_are_edited_as_training_edits_them(
    channel: grpc.Channel, tiny_expression_run: Path, *, strength: float
) -> None:
    targets = [("neutral", 0.0), *((name, strength) for name in EXPRESSIONS)]
    photo = _transfer(channel, targets, pb.TRANSFER_VIEW_CROP)

    crop, *edited = (_pixels(image.image.data) for image in photo.images)

    model = load_expression_run(tiny_expression_run).model
    x = to_input(torch.from_numpy(crop.reshape(1, 48, 48, 1).copy()))
    with torch.no_grad():
        encoding = model.encoder(x)
        for name, served in zip(EXPRESSIONS, edited, strict=True):
            edit = model.decoders[name](encoding.posterior.mu, encoding.features)
            wanted = apply_edit(x, edit, strength).clamp(0, 1)[0, 0].numpy() * 255
            assert np.abs(served.reshape(48, 48) - wanted).max() < 2.5


def test_every_expression_is_drawn(channel: grpc.Channel) -> None:
    drawn = {
        name: FaceServiceStub(channel)
        .Generate(pb.GenerateRequest(family=_FAMILY, count=1, seed=3, expression=name))
        .faces[0]
        .image.data
        for name in EXPRESSIONS
    }

    assert len(set(drawn.values())) == len(EXPRESSIONS)
