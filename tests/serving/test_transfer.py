"""Transfer, through a real server whose decoders draw what a test can tell beforehand."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.imaging import FaceEdit, align, composite, grey, similarity
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from tests.serving.family_graphs import EXPRESSION_FAMILY, PLAIN_FAMILY, TEMPLATE

_ASTRONAUT = Path(__file__).parents[2] / "docs" / "pictures" / "astronaut.jpg"
_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")
_SUPPORTED = ["neutral", "happiness", "surprise", "sadness", "anger"]
# The aligner sees its own square 1.4 times as large as the models': a framed photo's face is that
# of its central square over 1.4.
_AROUND = 1.4

Pixels = NDArray[np.uint8]


@pytest.fixture
def faces(hand_address: str) -> Iterator[FaceServiceStub]:
    with grpc.insecure_channel(hand_address) as channel:
        yield FaceServiceStub(channel)


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    return np.asarray(Image.open(_ASTRONAUT).convert("RGB"))


def _photo(height_px: int = 80, width_px: int = 100, channels: int = 3, seed: int = 0) -> Pixels:
    """A picture of noise; no detector finds a face in it."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height_px, width_px, channels)).astype(np.uint8)


def _image(pixels: Pixels) -> image_pb2.Image:
    height_px, width_px, channel_count = pixels.shape
    return image_pb2.Image(
        data=pixels.tobytes(),
        mime_type="application/octet-stream",
        height_px=height_px,
        width_px=width_px,
        channel_count=channel_count,
    )


def _pixels(image: image_pb2.Image) -> Pixels:
    """The pixels of a raw picture."""
    shape = (image.height_px, image.width_px, image.channel_count)
    return np.frombuffer(image.data, np.uint8).reshape(shape)


def _framed(*photos: Pixels, **wanted: object) -> pb.TransferRequest:
    """A request about photos that frame one face each, answered in raw pixels."""
    settings = {"format": _RAW, "finding": pb.FACE_FINDING_CROPPED, **wanted}
    return pb.TransferRequest(
        images=[_image(photo) for photo in photos],
        **settings,  # type: ignore[arg-type]  # of many kinds
    )


def _targets(*names: str, strength: float | None = None) -> list[pb.ExpressionTarget]:
    return [pb.ExpressionTarget(expression=name, strength=strength) for name in names]


def _central_matrix(photo: Pixels) -> NDArray[np.float64]:
    """The square that the models see of a photo that frames a face."""
    height_px, width_px = photo.shape[:2]
    side = min(height_px, width_px)
    corner = np.array([width_px - side, height_px - side]) / 2
    points = corner + side * (0.5 + (np.array(TEMPLATE) - 0.5) / _AROUND)
    return similarity(points, np.array(TEMPLATE))


def _inside(photo: Pixels) -> NDArray[np.bool_]:
    """Which pixels the central face's square touches."""
    height_px, width_px = photo.shape[:2]
    half = min(height_px, width_px) / _AROUND / 2
    y, x = np.mgrid[:height_px, :width_px]
    across, down = np.abs(x + 0.5 - width_px / 2), np.abs(y + 0.5 - height_px / 2)
    inside: NDArray[np.bool_] = np.maximum(across, down) < half + 1
    return inside


def test_photo_keeps_its_pixels_outside_of_the_face(faces: FaceServiceStub) -> None:
    photo = _photo()

    answer = faces.Transfer(_framed(photo, targets=_targets("happiness", "surprise", "anger")))

    (made,) = answer.photos
    assert [picture.expression for picture in made.images] == ["happiness", "surprise", "anger"]
    inside = _inside(photo)
    for picture in made.images:
        edited = _pixels(picture.image)
        assert edited.shape == photo.shape
        assert (edited[~inside] == photo[~inside]).all()
        assert (edited[inside] != photo[inside]).mean() > 0.3
    assert (answer.family, answer.version) == (EXPRESSION_FAMILY, "1")


def test_content_shows_where_the_mask_is_full(faces: FaceServiceStub) -> None:
    photo = _photo(channels=1)

    answer = faces.Transfer(_framed(photo, targets=_targets("happiness")))

    # The decoder's level, and ten times the encoder's first latent: the mean of the crop in [0, 1].
    crop = align(photo, _central_matrix(photo), size_px=48)
    edited = _pixels(answer.photos[0].images[0].image)
    assert edited.shape == (80, 100, 1)
    assert set(edited[30:50, 40:60].ravel().tolist()) == {round(200 + 10 * crop.mean() / 255)}


def test_flow_moves_pixels_by_fractions_of_the_face(faces: FaceServiceStub) -> None:
    ramp = np.broadcast_to(np.arange(0, 200, 2, dtype=np.uint8)[:, None], (80, 100, 3)).copy()

    answer = faces.Transfer(_framed(ramp, targets=_targets("surprise", strength=1.0)))

    # 0.05 of the side of 80 / 1.4 pixels, two levels a pixel.
    moved = _pixels(answer.photos[0].images[0].image).astype(int) - ramp
    assert moved[35:45, 45:55].mean() == pytest.approx(2 * 0.05 * 80 / _AROUND, abs=0.3)


def test_strength_0_gives_the_photo_back_and_says_of_no_model(faces: FaceServiceStub) -> None:
    photo = _photo()
    targets = _targets(*_SUPPORTED, "fear", strength=0.0)
    coded = image_pb2.ImageFormat(mime_type="image/jpeg")

    raw = faces.Transfer(_framed(photo, targets=targets))
    jpegs = faces.Transfer(_framed(photo, targets=targets, format=coded))

    for picture in raw.photos[0].images:
        assert picture.strength == 0
        assert (_pixels(picture.image) == photo).all()
    assert len(raw.photos[0].images) == 6
    assert all(b"lgorithmicMedia" not in some.image.data for some in jpegs.photos[0].images)


def test_strength_scales_the_change_and_defaults_to_1(faces: FaceServiceStub) -> None:
    photo = _photo(channels=1)
    strengths = [None, 1.0, 0.5, 1.5]
    targets = [
        pb.ExpressionTarget(expression="sadness", strength=strength) for strength in strengths
    ]

    images = faces.Transfer(_framed(photo, targets=targets)).photos[0].images

    assert [picture.strength for picture in images] == [1, 1, 0.5, 1.5]
    changes = [
        np.abs(_pixels(picture.image)[20:60, 30:70].astype(int) - photo[20:60, 30:70]).mean()
        for picture in images
    ]
    assert changes[0] == changes[1]
    assert changes[2] == pytest.approx(changes[1] / 2, rel=0.03)
    assert changes[3] == pytest.approx(changes[1] * 1.5, rel=0.03)


def test_no_targets_mean_every_supported_expression(faces: FaceServiceStub) -> None:
    answer = faces.Transfer(_framed(_photo(), _photo(seed=1)))

    for photo in answer.photos:
        assert [picture.expression for picture in photo.images] == _SUPPORTED
        assert {picture.strength for picture in photo.images} == {1}


def test_experimental_expressions_are_given_when_named(faces: FaceServiceStub) -> None:
    answer = faces.Transfer(_framed(_photo(), targets=_targets("fear")))

    assert answer.photos[0].images[0].expression == "fear"


def test_crops_are_the_aligned_faces(faces: FaceServiceStub) -> None:
    photos = [_photo(), _photo(60, 60, 1)]
    wanted = [*_targets("happiness"), *_targets("neutral")]

    answer = faces.Transfer(_framed(*photos, view=pb.TRANSFER_VIEW_CROP, targets=wanted))

    for photo, made in zip(photos, answer.photos, strict=True):
        happy, same = (_pixels(picture.image) for picture in made.images)
        crop = grey(align(photo, _central_matrix(photo), size_px=48))
        # A decoder without mask and flow leaves the crop as it was cut.
        assert (same[..., 0] == crop).all()
        assert happy.shape == (48, 48, 1)
        assert np.unique(happy[12:36, 12:36]).tolist() == [round(200 + 10 * crop.mean() / 255)]
        assert [picture.face_index for picture in made.images] == [0, 0]


def test_sheet_is_one_picture_with_the_original_and_every_target(faces: FaceServiceStub) -> None:
    def sheet(*targets: pb.ExpressionTarget) -> Pixels:
        request = _framed(_photo(), view=pb.TRANSFER_VIEW_SHEET, targets=targets)
        (picture,) = faces.Transfer(request).photos[0].images
        assert (picture.expression, picture.strength) == ("", 0)
        return _pixels(picture.image)

    untouched = sheet(*_targets("happiness", strength=0))
    happy = sheet(*_targets("happiness"))
    everything = sheet()

    assert happy.shape == untouched.shape
    assert happy.shape[2] == 3
    assert (happy != untouched).mean() > 0.05
    assert everything[..., 0].size > 2 * happy[..., 0].size


def test_faces_of_a_real_photo_are_found_and_told(
    faces: FaceServiceStub, astronaut: Pixels
) -> None:
    request = pb.TransferRequest(
        images=[image_pb2.Image(data=_ASTRONAUT.read_bytes())],
        targets=_targets("happiness"),
        format=_RAW,
    )

    (made,) = faces.Transfer(request).photos

    (face,) = made.faces
    assert face.score > 0
    assert 150 < face.left_px < face.right_px < 300
    assert 50 < face.top_px < face.bottom_px < 230
    assert len(face.points) == 5
    assert all(face.left_px < point.x_px < face.right_px for point in face.points)
    edited = _pixels(made.images[0].image)
    changed = np.argwhere((edited != astronaut).any(-1))
    assert (changed.min(0) >= np.floor([face.top_px, face.left_px])).all()
    assert (changed.max(0) < np.ceil([face.bottom_px, face.right_px])).all()
    assert len(changed) > 0.5 * (face.right_px - face.left_px) * (face.bottom_px - face.top_px)


def test_all_faces_of_a_photo_are_changed_and_cropped(
    faces: FaceServiceStub, astronaut: Pixels
) -> None:
    couple = np.concatenate([astronaut[:320, 80:400], astronaut[:320, 80:400]], 1)

    def transfer(view: pb.TransferView.ValueType) -> pb.TransferredPhoto:
        request = pb.TransferRequest(
            images=[_image(couple)],
            targets=_targets("happiness", "fear"),
            view=view,
            format=_RAW,
        )
        (made,) = faces.Transfer(request).photos
        return made

    photo, crops = transfer(pb.TRANSFER_VIEW_PHOTO), transfer(pb.TRANSFER_VIEW_CROP)

    assert len(photo.faces) == len(crops.faces) == 2
    changed = (_pixels(photo.images[1].image) != couple).any(-1)
    assert changed[:, :320].any()
    assert changed[:, 320:].any()
    assert [(crop.face_index, crop.expression) for crop in crops.images] == [
        (0, "happiness"), (0, "fear"), (1, "happiness"), (1, "fear"),
    ]  # fmt: skip
    assert {_pixels(crop.image).shape for crop in crops.images} == {(48, 48, 1)}


@pytest.mark.parametrize("mime_type", ["image/png", "image/jpeg", "image/webp"])
@pytest.mark.parametrize("view", [pb.TRANSFER_VIEW_PHOTO, pb.TRANSFER_VIEW_SHEET])
def test_edited_photos_say_so(
    faces: FaceServiceStub, mime_type: str, view: pb.TransferView.ValueType
) -> None:
    coded = image_pb2.ImageFormat(mime_type=mime_type)
    request = _framed(_photo(), targets=_targets("anger", strength=0.8), view=view, format=coded)

    (picture,) = faces.Transfer(request).photos[0].images

    decoded = Image.open(io.BytesIO(picture.image.data))
    assert decoded.size == (picture.image.width_px, picture.image.height_px)
    assert picture.image.mime_type == mime_type
    assert b"digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in picture.image.data
    assert f'facegen:family="{EXPRESSION_FAMILY}"'.encode() in picture.image.data
    told = b'facegen:expression="anger" facegen:strength="0.8"' in picture.image.data
    assert told == (view == pb.TRANSFER_VIEW_PHOTO)


def _executions(address: str) -> dict[str, tuple[int, int]]:
    """Executions and rows of each model of the family."""
    with triton.InferenceServerClient(address) as client:
        statistics = client.get_inference_statistics(as_json=True)["model_stats"]
    return {
        model["name"].removeprefix(f"{EXPRESSION_FAMILY}-"): (
            int(model.get("execution_count", 0)),
            int(model.get("inference_count", 0)),
        )
        for model in statistics
    }


def test_faces_are_encoded_once_for_all_targets(start_hand: Callable[..., str]) -> None:
    address = start_hand()
    before = _executions(address)
    targets = [*_targets(*_SUPPORTED), *_targets("anger", strength=0.5)]

    with grpc.insecure_channel(address) as channel:
        FaceServiceStub(channel).Transfer(_framed(_photo(), _photo(seed=1), targets=targets))

    after = _executions(address)
    rows = {name: after[name][1] - before[name][1] for name in after}
    runs = {name: after[name][0] - before[name][0] for name in after}
    assert (runs["encoder"], rows["encoder"]) == (1, 2)
    # The aligner looks twice at each face; a decoder once, though a target comes twice.
    assert (runs["aligner"], rows["aligner"]) == (2, 4)
    assert {name: rows[f"decoder-{name}"] for name in _SUPPORTED} == dict.fromkeys(_SUPPORTED, 2)
    assert rows["decoder-fear"] == 0


def test_faces_of_concurrent_calls_share_batches(start_hand: Callable[..., str]) -> None:
    # Rows wait a minute for a batch of four: whoever sends the rest decides when it runs.
    address = start_hand(batching="preferred_batch_size: 4 max_queue_delay_microseconds: 60000000")
    before = _executions(address)
    photos = [_photo(seed=seed) for seed in range(4)]

    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(4) as pool:
        faces = FaceServiceStub(channel)
        calls = [
            pool.submit(faces.Transfer, _framed(photo, targets=_targets("anger", "sadness")))
            for photo in photos
        ]
        together = [call.result().photos[0] for call in calls]
        alone = faces.Transfer(_framed(*photos, targets=_targets("anger", "sadness"))).photos

    after = _executions(address)
    runs = {name: after[name][0] - before[name][0] for name in after}
    assert (runs["aligner"], runs["encoder"], runs["decoder-anger"]) == (4, 2, 2)
    assert together == list(alone)


def test_tensors_of_kserve_give_the_same_picture(faces: FaceServiceStub, hand_address: str) -> None:
    photo = _photo()
    matrix = _central_matrix(photo)
    crop = grey(align(photo, matrix, size_px=48))[None, ..., None]

    def infer(model: str, **inputs: NDArray[Any]) -> triton.InferResult:
        tensors = []
        for name, values in inputs.items():
            kind = "UINT8" if values.dtype == np.uint8 else "FP32"
            tensors.append(triton.InferInput(name, list(values.shape), kind))
            tensors[-1].set_data_from_numpy(values)
        return client.infer(f"{EXPRESSION_FAMILY}-{model}", tensors)

    with triton.InferenceServerClient(hand_address) as client:
        encoding = infer("encoder", image=crop)
        inputs = {"latent": encoding.as_numpy("mu"), "features": encoding.as_numpy("features")}
        drawn = infer("decoder-anger", **inputs)
    edit = FaceEdit(
        drawn.as_numpy("image")[0, ..., 0],
        drawn.as_numpy("mask")[0, ..., 0],
        drawn.as_numpy("flow")[0],
    )
    answer = faces.Transfer(_framed(photo, targets=_targets("anger", strength=0.7)))

    ours = _pixels(answer.photos[0].images[0].image)
    assert (ours == composite(photo, matrix, edit, 0.7)).all()


def _refusal(
    faces: FaceServiceStub, request: pb.TransferRequest
) -> tuple[grpc.StatusCode, str, str, str]:
    """Code, reason, field and message of a refused call."""
    with pytest.raises(grpc.RpcError) as caught:
        faces.Transfer(request)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it is the call
    for detail in status.details:
        _ = detail.Unpack(info) or detail.Unpack(bad)
    field = bad.field_violations[0].field if bad.field_violations else ""
    return caught.value.code(), info.reason, field, str(caught.value.details())


def test_photo_without_a_face_is_named(faces: FaceServiceStub) -> None:
    request = pb.TransferRequest(
        images=[image_pb2.Image(data=_ASTRONAUT.read_bytes()), _image(_photo())]
    )

    code, reason, field, message = _refusal(faces, request)

    assert (code, reason, field) == (grpc.StatusCode.INVALID_ARGUMENT, "NO_FACE", "images[1]")
    assert "FACE_FINDING_CROPPED" in message


def test_photo_with_too_many_faces_is_named(faces: FaceServiceStub, astronaut: Pixels) -> None:
    couple = np.concatenate([astronaut[:320, 80:400], astronaut[:320, 80:400]], 1)
    request = pb.TransferRequest(images=[_image(couple)], max_faces=1)

    code, reason, field, message = _refusal(faces, request)

    assert (code, reason, field) == (
        grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_FACES", "images[0]",
    )  # fmt: skip
    assert "shows 2 faces, above the limit of 1" in message
    assert "at most 32" in message


def test_face_that_is_too_small_is_named(faces: FaceServiceStub) -> None:
    answer = faces.Transfer(_framed(_photo(34, 40), targets=_targets("anger")))
    assert len(answer.photos[0].images) == 1

    code, reason, field, message = _refusal(faces, _framed(_photo(), _photo(33, 40)))

    assert (code, reason, field) == (
        grpc.StatusCode.INVALID_ARGUMENT, "FACE_TOO_SMALL", "images[1]",
    )  # fmt: skip
    assert "at least 24" in message


def test_family_without_expressions_names_those_that_have(faces: FaceServiceStub) -> None:
    code, reason, _, message = _refusal(faces, _framed(_photo(), family=PLAIN_FAMILY))

    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CAPABILITY")
    assert EXPRESSION_FAMILY in message


@pytest.mark.parametrize(
    ("wanted", "reason", "field", "message"),
    [
        ({"family": "nobody"}, "UNKNOWN_FAMILY", "family", EXPRESSION_FAMILY),
        ({"version": "7"}, "UNKNOWN_FAMILY", "version", "served: 1"),
        (
            {"targets": [*_targets("anger"), *_targets("boredom")]},
            "INPUT", "targets[1].expression", "neutral, happiness",
        ),
        ({"targets": _targets("")}, "INPUT", "targets[0].expression", "is empty"),
        ({"targets": _targets("anger", strength=1.6)}, "INPUT", "targets[0].strength", "0 to 1.5"),
        ({"targets": _targets("anger", strength=-0.1)}, "INPUT", "targets[0].strength", "-0.1"),
        ({"targets": _targets("anger", strength=np.nan)}, "INPUT", "targets[0].strength", "nan"),
        ({"targets": _targets(*["anger"] * 33)}, "INPUT", "targets", "at most 32"),
        ({"max_faces": 0}, "INPUT", "max_faces", "1 to 32"),
        ({"max_faces": 33}, "INPUT", "max_faces", "1 to 32"),
        ({"view": 9}, "INPUT", "view", "no view"),
        ({"finding": 9}, "INPUT", "finding", "no way"),
        ({"format": image_pb2.ImageFormat(mime_type="image/gif")}, "INPUT", "format.mime_type", ""),
        ({"images": []}, "INPUT", "images", "at least 1"),
        ({"images": [image_pb2.Image(data=b"nothing")]}, "PICTURE", "images[0].data", "picture"),
    ],
)  # fmt: skip
def test_wrong_requests_name_their_field(
    faces: FaceServiceStub, wanted: dict[str, object], reason: str, field: str, message: str
) -> None:
    request = _framed(_photo())
    for name in wanted:
        request.ClearField(name)  # type: ignore[arg-type]  # of many
    request.MergeFrom(pb.TransferRequest(**wanted))  # type: ignore[arg-type]  # of many kinds

    refusal = _refusal(faces, request)

    assert refusal[:3] == (grpc.StatusCode.INVALID_ARGUMENT, reason, field)
    assert message in refusal[3]


def test_response_that_would_be_too_large_is_refused_with_a_remedy(
    start_hand: Callable[..., str],
) -> None:
    with grpc.insecure_channel(start_hand(max_message_bytes=60_000)) as channel:
        faces = FaceServiceStub(channel)
        assert len(faces.Transfer(_framed(_photo(), targets=_targets("anger"))).photos) == 1

        code, reason, field, message = _refusal(faces, _framed(_photo()))

    assert (code, reason, field) == (grpc.StatusCode.INVALID_ARGUMENT, "RESPONSE_SIZE", "images")
    assert "--max-message-bytes" in message


def test_call_that_is_too_late_ends_at_its_deadline(start_hand: Callable[..., str]) -> None:
    address = start_hand(batching="preferred_batch_size: 4 max_queue_delay_microseconds: 60000000")
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        FaceServiceStub(channel).Transfer(_framed(_photo()), timeout=0.5)

    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
