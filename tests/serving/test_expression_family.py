"""Families of expressions: how they are gathered, told, and drawn from."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status

from facegen.serving.engine import ModelInfo, TensorSpec
from facegen.serving.errors import FamilyError
from facegen.serving.faces.family import default_family, group_families
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2, model_service_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from facegen.v1.model_service_pb2_grpc import ModelServiceStub
from tests.serving.family_graphs import DECODERS, EXPRESSION_FAMILY, PLAIN_FAMILY, TEMPLATE

_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")
_IMAGE = TensorSpec("image", np.dtype(np.uint8), (48, 48, 1))
_FEATURES = TensorSpec("features", np.dtype(np.float32), (3, 12, 12))
_EXPRESSIONS = ("anger", "wonder", "neutral", "contempt", "happiness", "sadness", "surprise")
_EXPERIMENTAL = ("contempt",)


def _floats(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, np.dtype(np.float32), shape)


_TENSORS = {
    "encoder": ((_IMAGE,), (_floats("mu", 8), _floats("logvar", 8), _FEATURES)),
    "decoder": (
        (_floats("latent", 8), _FEATURES),
        (_IMAGE, _floats("mask", 12, 12, 1), _floats("flow", 12, 12, 2)),
    ),
    "aligner": ((replace(_IMAGE, shape=(64, 64, 1)),), (_floats("points", 5, 2),)),
    "prior": ((_floats("noise", 8), _floats("uniform", 1)), (_floats("latent", 8),)),
}


def _model(name: str, role: str, *, version: str = "1", **facts: str) -> ModelInfo:
    said = {
        "family": "f",
        "role": role,
        "kind": "expression",
        "latent_size": "8",
        "image_size": "48x48x1",
        "template": json.dumps(TEMPLATE),
        **facts,
    }
    return ModelInfo(
        name=f"f-{name}",
        version=version,
        inputs=_TENSORS[role][0],
        outputs=_TENSORS[role][1],
        max_batch_size=4,
        parameters={f"facegen.{key}": value for key, value in said.items() if value},
    )


def _decoder(expression: str, /, *, version: str = "1", **facts: str) -> ModelInfo:
    experimental = "true" if expression in _EXPERIMENTAL else ""
    facts = {"expression": expression, "experimental": experimental, **facts}
    return _model(f"decoder-{expression}", "decoder", version=version, **facts)


def _family(*, version: str = "1", **facts: str) -> list[ModelInfo]:
    return [
        _model("encoder", "encoder", version=version, **facts),
        _model("aligner", "aligner", version=version, **facts),
        _model("prior-normal", "prior", version=version, prior="normal", **facts),
        *(_decoder(name, version=version, **facts) for name in _EXPRESSIONS),
    ]


def _with(changed: ModelInfo) -> list[ModelInfo]:
    return [changed if model.name == changed.name else model for model in _family()]


def test_expressions_come_in_their_order_the_experimental_ones_last() -> None:
    (family,) = group_families(_family())

    expressions = family.expressions
    assert expressions is not None
    assert family.kind == "expression"
    assert expressions.supported == (
        "neutral", "happiness", "surprise", "sadness", "anger", "wonder",
    )  # fmt: skip
    assert expressions.experimental == ("contempt",)
    assert tuple(expressions.decoders) == (*expressions.supported, "contempt")
    assert (expressions.default, family.decoder) == ("neutral", "f-decoder-neutral")
    assert expressions.aligner == "f-aligner"
    assert expressions.template == TEMPLATE
    assert expressions.no_features(5).shape == (5, 3, 12, 12)
    assert family.graphs[:2] == ("f-encoder", "f-decoder-neutral")
    assert family.graphs[-3:] == ("f-decoder-contempt", "f-aligner", "f-prior-normal")


def test_a_family_without_its_aligner_is_still_loading(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        families = group_families([model for model in _family() if model.name != "f-aligner"])

    assert families == ()
    assert "missing=aligner" in caplog.text


def test_a_version_without_a_decoder_of_the_one_before_is_still_loading(
    caplog: pytest.LogCaptureFixture,
) -> None:
    newer = [model for model in _family(version="2") if model.name != "f-decoder-anger"]

    with caplog.at_level(logging.WARNING):
        families = group_families([*_family(), *newer])

    assert [family.version for family in families] == ["1"]
    assert "version=2 missing=f-decoder-anger" in caplog.text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (_decoder("anger", expression=""), 'no parameter "facegen.expression"'),
        (_decoder("anger", expression="sadness"), 'both draw "sadness"'),
        (_decoder("anger", template=json.dumps(TEMPLATE[::-1])), "contradict.*template"),
        (_model("aligner", "aligner", template=""), 'no parameter "facegen.template"'),
        (replace(_decoder("anger"), outputs=(_IMAGE,)), r'"mask" of float32 \[24, 24, 1\]'),
        (replace(_decoder("anger"), inputs=(_floats("latent", 8),)), 'the same float32 "features"'),
        (
            replace(
                _decoder("anger"), inputs=(_floats("latent", 8), _floats("features", 4, 12, 12))
            ),
            'the same float32 "features"',
        ),
        (replace(_model("aligner", "aligner"), inputs=(_IMAGE,)), r'"image" of uint8 \[64, 64'),
        (replace(_model("aligner", "aligner"), max_batch_size=0), '"f-aligner" has max_batch_size'),
    ],
)
def test_models_that_do_not_fit_together_are_refused(changed: ModelInfo, message: str) -> None:
    with pytest.raises(FamilyError, match=message):
        group_families(_with(changed))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"template": "round"}, "no JSON list of points"),
        ({"template": "[1, 2, 3, 4, 5]"}, "no JSON list of points"),
        ({"template": json.dumps(TEMPLATE[:4])}, "5 different points"),
        ({"template": json.dumps([[0.5, 0.5]] * 5)}, "5 different points"),
        ({"template": json.dumps([*TEMPLATE[:4], [0.5, 1.5]])}, "5 different points"),
        ({"image_size": "48x48x3"}, "not grey squares"),
        ({"image_size": "48x64x1"}, "not grey squares"),
        ({"experimental": "true"}, "all its expressions are experimental"),
    ],
)
def test_facts_that_are_wrong_are_refused(facts: dict[str, str], message: str) -> None:
    with pytest.raises(FamilyError, match=message):
        group_families(_family(**facts))


def test_a_family_of_expressions_is_not_drawn_from_by_default_where_there_is_a_vae() -> None:
    def of(name: str, kind: str) -> list[ModelInfo]:
        facts = {"facegen.family": name, "facegen.kind": kind}
        return [
            replace(model, parameters={**model.parameters, **facts})
            for model in _family()
            if kind == "expression"
            or not model.name.startswith("f-decoder-")
            or model.name == "f-decoder-anger"
        ]

    families = group_families(
        [
            *of("celeba-ae", "autoencoder"),
            *of("celeba-vae", "vae"),
            *of("fer-expressions", "expression"),
        ]
    )

    assert [family.expressions is None for family in families] == [True, True, False]
    assert default_family(families) == "celeba-vae"


@pytest.fixture
def faces(hand_address: str) -> Iterator[FaceServiceStub]:
    with grpc.insecure_channel(hand_address) as channel:
        yield FaceServiceStub(channel)


def _levels(images: list[image_pb2.Image]) -> list[float]:
    """The mean of each raw picture, and that they are grey squares of 48 pixels."""
    pixels = [np.frombuffer(image.data, np.uint8) for image in images]
    assert {picture.size for picture in pixels} == {48 * 48}
    return [float(picture.mean()) for picture in pixels]


def test_a_family_tells_its_expressions_and_others_have_none(hand_address: str) -> None:
    with grpc.insecure_channel(hand_address) as channel:
        stub = ModelServiceStub(channel)
        answer = stub.ListModels(model_service_pb2.ListModelsRequest())

    expressions, plain = answer.models
    assert expressions.kind == model_service_pb2.MODEL_KIND_EXPRESSION
    assert list(expressions.expressions) == [
        "neutral", "happiness", "surprise", "sadness", "anger",
    ]  # fmt: skip
    assert list(expressions.experimental_expressions) == ["fear"]
    assert f"{EXPRESSION_FAMILY}-aligner" in expressions.graphs
    assert plain.kind == model_service_pb2.MODEL_KIND_VAE
    assert not plain.expressions
    assert not plain.experimental_expressions


def test_generate_draws_the_expression_asked_for_and_neutral_by_default(
    faces: FaceServiceStub,
) -> None:
    def levels(family: str = "", expression: str = "") -> list[float]:
        request = pb.GenerateRequest(
            family=family, expression=expression, count=2, seed=3, temperature=0, format=_RAW
        )
        return _levels([face.image for face in faces.Generate(request).faces])

    assert levels(family=EXPRESSION_FAMILY) == [60, 60]
    assert levels(family=EXPRESSION_FAMILY, expression="happiness") == [200, 200]
    assert levels(family=EXPRESSION_FAMILY, expression="fear") == [255, 255]
    assert levels() == levels(family=PLAIN_FAMILY) == [100, 100]


def test_faces_of_a_seed_share_their_latents_whatever_the_expression(
    faces: FaceServiceStub,
) -> None:
    def latents(expression: str) -> list[list[float]]:
        request = pb.GenerateRequest(
            family=EXPRESSION_FAMILY,
            count=3,
            seed=3,
            expression=expression,
            include_latents=True,
        )
        return [list(face.latent.values) for face in faces.Generate(request).faces]

    assert latents("neutral") == latents("anger")


def test_every_method_that_draws_takes_an_expression(faces: FaceServiceStub) -> None:
    latent = latent_pb2.Latent(family=EXPRESSION_FAMILY, values=[2.0] + [0.0] * 7)
    photo = image_pb2.Image(
        data=bytes([102]) * 48 * 48,
        mime_type="application/octet-stream",
        height_px=48,
        width_px=48,
        channel_count=1,
    )
    same = {"family": EXPRESSION_FAMILY, "expression": "happiness", "format": _RAW}

    streamed = faces.GenerateStream(
        pb.GenerateStreamRequest(count=2, temperature=0, **same)  # type: ignore[arg-type]  # of kinds
    )
    reconstructed = faces.Reconstruct(
        pb.ReconstructRequest(images=[photo], **same)  # type: ignore[arg-type]  # of kinds
    )
    decoded = faces.Decode(
        pb.DecodeRequest(latents=[latent], **same)  # type: ignore[arg-type]  # of kinds
    )
    end = pb.Endpoint(latent=latent)
    path = faces.Interpolate(
        pb.InterpolateRequest(start=end, end=end, count=2, **same)  # type: ignore[arg-type]  # of kinds
    )

    assert _levels([face.image for chunk in streamed for face in chunk.faces]) == [200, 200]
    # The encoder's first latent is the picture's mean, 0.4; the decoder adds ten times it.
    assert _levels(list(reconstructed.images)) == [204]
    assert _levels(list(decoded.images)) == [220]
    assert _levels(list(path.images)) == [220, 220]


def test_what_was_drawn_says_which_expression(faces: FaceServiceStub) -> None:
    request = pb.GenerateRequest(family=EXPRESSION_FAMILY, count=1, expression="sadness")

    (face,) = faces.Generate(request).faces
    (plain,) = faces.Generate(pb.GenerateRequest(count=1)).faces

    assert b'facegen:expression="sadness"' in face.image.data
    assert b"facegen:expression" not in plain.image.data


_CALLS: list[Callable[[FaceServiceStub, str, str], object]] = [
    lambda faces, family, name: faces.Generate(
        pb.GenerateRequest(family=family, count=1, expression=name)
    ),
    lambda faces, family, name: list(
        faces.GenerateStream(pb.GenerateStreamRequest(family=family, count=1, expression=name))
    ),
    lambda faces, family, name: faces.Decode(
        pb.DecodeRequest(
            latents=[latent_pb2.Latent(family=family, values=[0.0] * 8)], expression=name
        )
    ),
    lambda faces, family, name: faces.Reconstruct(
        pb.ReconstructRequest(family=family, expression=name)
    ),
    lambda faces, family, name: faces.Interpolate(
        pb.InterpolateRequest(family=family, count=2, expression=name)
    ),
]


@pytest.mark.parametrize(
    "call", _CALLS, ids=["generate", "stream", "decode", "reconstruct", "path"]
)
def test_an_expression_that_is_not_there_is_refused(
    faces: FaceServiceStub, call: Callable[[FaceServiceStub, str, str], object]
) -> None:
    with pytest.raises(grpc.RpcError) as unknown:
        call(faces, EXPRESSION_FAMILY, "boredom")
    with pytest.raises(grpc.RpcError) as plain:
        call(faces, PLAIN_FAMILY, "happiness")

    assert unknown.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(unknown.value)  # type: ignore[arg-type]  # it is the call
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert bad.field_violations[0].field == "expression"
    assert all(name in bad.field_violations[0].description for name in DECODERS)
    assert plain.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "has no expressions" in str(plain.value.details())
