import io
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status
from PIL import Image

from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub

_ZEROS = latent_pb2.Latent(family="tiny-vae", values=[0.0] * 8)

_Request = (
    pb.GenerateRequest
    | pb.GenerateStreamRequest
    | pb.ReconstructRequest
    | pb.EncodeRequest
    | pb.DecodeRequest
    | pb.InterpolateRequest
)


@pytest.fixture
def faces(server_address: str) -> Iterator[FaceServiceStub]:
    with grpc.insecure_channel(server_address) as channel:
        yield FaceServiceStub(channel)


def _call(faces: FaceServiceStub, request: _Request) -> None:
    """Call the method that a request is for, and read the whole answer of a stream."""
    answer = getattr(faces, type(request).__name__.removesuffix("Request"))(request)
    if isinstance(request, pb.GenerateStreamRequest):
        list(answer)


def _details(error: grpc.RpcError) -> tuple[list[str], list[str]]:
    """The reasons and the fields that an error's details name."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # a call's error is the call
    assert status is not None
    reasons, fields = [], []
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            assert info.domain == "facegen"
            reasons.append(info.reason)
        if detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    return reasons, fields


def _picture(kind: str = "PNG") -> image_pb2.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return image_pb2.Image(data=file.getvalue())


def _latent(**changes: object) -> latent_pb2.Latent:
    return latent_pb2.Latent(**{"family": "tiny-vae", "values": [0.0] * 8, **changes})  # type: ignore[arg-type]  # test data


def _decode(*latents: latent_pb2.Latent) -> pb.DecodeRequest:
    return pb.DecodeRequest(family="tiny-vae", latents=latents)


def _encode(*images: image_pb2.Image, crop: image_pb2.Crop | None = None) -> pb.EncodeRequest:
    return pb.EncodeRequest(images=images, crop=crop)


def _raw_image(height_px: int, width_px: int, channel_count: int, size: int) -> image_pb2.Image:
    return image_pb2.Image(
        data=bytes(size),
        mime_type="application/octet-stream",
        height_px=height_px,
        width_px=width_px,
        channel_count=channel_count,
    )


def _bomb(side_px: int = 30_000) -> image_pb2.Image:
    file = io.BytesIO()
    Image.new("1", (side_px, side_px)).save(file, "PNG")
    return image_pb2.Image(data=file.getvalue())


_G, _E = pb.GenerateRequest, pb.Endpoint
_BAD: dict[str, tuple[Callable[[], _Request], str, str]] = {
    "unknown family": (lambda: _G(count=1, family="nobody"), "family", "UNKNOWN_FAMILY"),
    "unknown version": (
        lambda: _G(count=1, family="tiny-vae", version="9"),
        "version",
        "UNKNOWN_FAMILY",
    ),
    "no count": (lambda: _G(), "count", "INPUT"),
    "large count": (lambda: _G(count=257), "count", "INPUT"),
    "stream of none": (lambda: pb.GenerateStreamRequest(), "count", "INPUT"),
    "index overflow": (lambda: _G(count=2, first_index=2**64 - 1), "first_index", "INPUT"),
    "stream overflow": (
        lambda: pb.GenerateStreamRequest(count=2**64 - 1, first_index=5),
        "first_index",
        "INPUT",
    ),
    "nan temperature": (lambda: _G(count=1, temperature=np.nan), "temperature", "INPUT"),
    "infinite temperature": (lambda: _G(count=1, temperature=np.inf), "temperature", "INPUT"),
    "negative temperature": (lambda: _G(count=1, temperature=-0.1), "temperature", "INPUT"),
    "hot": (lambda: _G(count=1, temperature=10.5), "temperature", "INPUT"),
    "unknown prior": (lambda: _G(count=1, prior="flow"), "prior", "INPUT"),
    "unknown format": (
        lambda: _G(count=1, format=image_pb2.ImageFormat(mime_type="image/tiff")),
        "format.mime_type",
        "INPUT",
    ),
    "no quality": (
        lambda: _G(count=1, format=image_pb2.ImageFormat(quality=0)),
        "format.quality",
        "INPUT",
    ),
    "large quality": (
        lambda: _G(count=1, format=image_pb2.ImageFormat(quality=101)),
        "format.quality",
        "INPUT",
    ),
    "no images": (lambda: pb.ReconstructRequest(), "images", "INPUT"),
    "many images": (
        lambda: pb.ReconstructRequest(images=[image_pb2.Image()] * 257),
        "images",
        "INPUT",
    ),
    "empty image": (lambda: _encode(_picture(), image_pb2.Image()), "images[1].data", "PICTURE"),
    "not an image": (
        lambda: _encode(image_pb2.Image(data=b"GET / HTTP/1.1")),
        "images[0].data",
        "PICTURE",
    ),
    "truncated image": (
        lambda: _encode(*[_picture()] * 3, image_pb2.Image(data=_picture("JPEG").data[:2000])),
        "images[3].data",
        "PICTURE",
    ),
    "pixel bomb": (lambda: _encode(_bomb()), "images[0].data", "PICTURE_SIZE"),
    "pixel bombs together": (
        lambda: _encode(*[_bomb(7000)] * 5),
        "images[4].data",
        "REQUEST_SIZE",
    ),
    "unknown type": (
        lambda: _encode(image_pb2.Image(data=b"x", mime_type="text/html")),
        "images[0].mime_type",
        "INPUT",
    ),
    "raw without height": (lambda: _encode(_raw_image(0, 1, 3, 3)), "images[0].height_px", "INPUT"),
    "raw of two channels": (
        lambda: _encode(_raw_image(1, 1, 2, 2)),
        "images[0].channel_count",
        "INPUT",
    ),
    "raw cut off": (lambda: _encode(_raw_image(4, 4, 3, 47)), "images[0].data", "INPUT"),
    "raw of 2^62 pixels": (
        lambda: _encode(_raw_image(2**31, 2**31, 1, 4)),
        "images[0].data",
        "INPUT",
    ),
    "nan crop": (
        lambda: _encode(_picture(), crop=image_pb2.Crop(center_fraction=np.nan)),
        "crop.center_fraction",
        "INPUT",
    ),
    "crop outside": (
        lambda: _encode(
            _picture(),
            crop=image_pb2.Crop(square_px=image_pb2.Square(left_px=2**32 - 1, side_px=9)),
        ),
        "crop.square_px",
        "INPUT",
    ),
    "crop of nothing": (
        lambda: _encode(_picture(), crop=image_pb2.Crop(square_px=image_pb2.Square())),
        "crop.square_px.side_px",
        "INPUT",
    ),
    "crop not of the data set": (
        lambda: _encode(_picture(), crop=image_pb2.Crop(dataset=False)),
        "crop.dataset",
        "INPUT",
    ),
    "crop not of the face": (
        lambda: _encode(_picture(), crop=image_pb2.Crop(face=False)),
        "crop.face",
        "INPUT",
    ),
    "no latents": (lambda: pb.DecodeRequest(), "latents", "INPUT"),
    "short latent": (
        lambda: _decode(_ZEROS, _latent(values=[0.0] * 7)),
        "latents[1].values",
        "LATENT_SIZE",
    ),
    "nan in a latent": (
        lambda: _decode(_latent(values=[0.0, np.nan] + [0.0] * 6)),
        "latents[0].values[1]",
        "INPUT",
    ),
    "infinity in a latent": (
        lambda: _decode(_latent(values=[-np.inf] + [0.0] * 7)),
        "latents[0].values[0]",
        "INPUT",
    ),
    "latent of another family": (
        lambda: _decode(_latent(family="tiny-ae")),
        "latents[0].family",
        "INPUT",
    ),
    "latents of two families": (
        lambda: pb.DecodeRequest(latents=[_latent(family="tiny-ae"), _ZEROS]),
        "latents[1].family",
        "INPUT",
    ),
    "latent of another version": (
        lambda: pb.DecodeRequest(version="1", latents=[_latent(version="2")]),
        "latents[0].version",
        "INPUT",
    ),
    "latent of an unknown version": (
        lambda: _decode(_latent(version="2")),
        "latents[0].version",
        "UNKNOWN_FAMILY",
    ),
    "latent of an unknown family": (
        lambda: pb.DecodeRequest(latents=[_latent(family="nobody")]),
        "latents[0].family",
        "UNKNOWN_FAMILY",
    ),
    "path without a start": (
        lambda: pb.InterpolateRequest(family="tiny-vae", end=_E(latent=_ZEROS), count=3),
        "start",
        "INPUT",
    ),
    "path of one": (lambda: pb.InterpolateRequest(count=1), "count", "INPUT"),
    "path of an unknown form": (
        lambda: pb.InterpolateRequest(count=2, interpolation=7),  # type: ignore[arg-type]  # on purpose
        "interpolation",
        "INPUT",
    ),
    "path to a broken picture": (
        lambda: pb.InterpolateRequest(
            family="tiny-vae",
            start=_E(latent=_ZEROS),
            end=_E(image=image_pb2.Image(data=b"no")),
            count=3,
        ),
        "end.image.data",
        "PICTURE",
    ),
}


@pytest.mark.parametrize(("request_of", "field", "reason"), _BAD.values(), ids=_BAD.keys())
def test_bad_request_names_its_field_and_the_server_goes_on(
    faces: FaceServiceStub, request_of: Callable[[], _Request], field: str, reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _call(faces, request_of())

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert _details(caught.value) == ([reason], [field])
    assert len(faces.Generate(_G(count=1)).faces) == 1


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        (lambda: _G(count=257), "is 257, above the limit of 256 (--max-images)"),
        (lambda: _encode(*[image_pb2.Image()] * 257), "is 257, above the limit of 256 (--max-im"),
        (lambda: _decode(*[_ZEROS] * 257), "is 257, above the limit of 256 (--max-images)"),
        (lambda: _encode(_bomb(7100)), "7100 x 7100 pixels above the limit of 50000000 pixels "),
        (lambda: _encode(_bomb(7100)), "(--max-picture-pixels)"),
        (
            lambda: _encode(*[_bomb(7000)] * 5),
            "to 245000000 pixels, above the limit of 200000000 pixels (--max-request-pixels)",
        ),
    ],
)
def test_limit_is_named_with_its_value_and_flag(
    faces: FaceServiceStub, request_of: Callable[[], _Request], said: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _call(faces, request_of())

    assert said in str(caught.value.details())
