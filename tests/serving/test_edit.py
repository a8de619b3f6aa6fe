"""Edit, through a real server whose directions move latents as a test can tell beforehand."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.config import ServerConfig
from facegen.serving.server import Server
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2, model_service_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from facegen.v1.model_service_pb2_grpc import ModelServiceStub
from tests.serving.family_graphs import (
    DIRECTIONS,
    EXPRESSION_FAMILY,
    LATENT_SIZE,
    PLAIN_FAMILY,
    SIZE_PX,
    write_directions,
    write_expression_family,
    write_plain_family,
)

_FAMILY = "hand-movable"
_MAX_IMAGES = 12
_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of three families, of which one has directions."""
    repository = tmp_path_factory.mktemp("movable")
    write_plain_family(write_expression_family(repository))
    write_directions(write_plain_family(repository, family=_FAMILY), family=_FAMILY)
    yield from _served(f"onnx:{repository}")


@pytest.fixture(scope="module", params=["onnx", "triton"])
def faces(address: str, request: pytest.FixtureRequest) -> Iterator[FaceServiceStub]:
    """That server, and one whose engine is that server."""
    servers = _served(f"triton://{address}") if request.param == "triton" else iter([address])
    for served in servers:
        with grpc.insecure_channel(served) as channel:
            yield FaceServiceStub(channel)


def _served(engine: str) -> Iterator[str]:
    settings = {"engine": engine, "threads": 2, "max_images": _MAX_IMAGES}
    server = Server(ServerConfig.model_validate({**settings, "address": "127.0.0.1:0"}))
    with closing(server):
        server.listen()
        server.load()
        yield server.address


def _photo(height_px: int = 80, width_px: int = 100, channels: int = 3) -> Pixels:
    """A picture of noise between 100 and 150, to which something can be added."""
    random = np.random.default_rng(0)
    return random.integers(100, 150, (height_px, width_px, channels)).astype(np.uint8)


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
    shape = (image.height_px, image.width_px, image.channel_count)
    return np.frombuffer(image.data, np.uint8).reshape(shape)


def _latent(*first: float, family: str = _FAMILY) -> latent_pb2.Latent:
    values = [*first, *[0.0] * (LATENT_SIZE - len(first))]
    return latent_pb2.Latent(family=family, values=values)


def _pictures(*photos: Pixels) -> list[pb.FaceSource]:
    return [pb.FaceSource(image=_image(photo)) for photo in photos]


def _moves(**strengths: float | None) -> list[pb.Move]:
    return [
        pb.Move(direction=name.replace("component_", "component-"), strength=strength)
        for name, strength in strengths.items()
    ]


def _edit(sources: list[pb.FaceSource], **wanted: Any) -> pb.EditRequest:
    return pb.EditRequest(faces=sources, **{"format": _RAW, **wanted})


def _violation(error: grpc.RpcError) -> tuple[str, str]:
    """The field at fault, and what is wrong with it."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # a call's error is the call
    bad = error_details_pb2.BadRequest()
    next(detail for detail in status.details if detail.Is(bad.DESCRIPTOR)).Unpack(bad)
    return bad.field_violations[0].field, bad.field_violations[0].description


def test_latents_move_by_all_moves_at_once(faces: FaceServiceStub) -> None:
    moves = _moves(Smiling=1.5, Blond_Hair=None, component_1=-2)

    answer = faces.Edit(_edit([pb.FaceSource(latent=_latent(1, 2, 3))], moves=moves))

    (face,) = answer.faces
    assert list(face.latents[0].values)[:3] == [1 + 3 - 1, 2 + 1, 3 - 2]
    assert list(face.original.values)[:3] == [1, 2, 3]
    assert (answer.family, answer.version, list(answer.strengths)) == (_FAMILY, "1", [])
    assert (_pixels(face.images[0]) == 100 + 10 * 3).all()


def test_moves_along_one_direction_add_up(faces: FaceServiceStub) -> None:
    moves = [*_moves(Smiling=1), *_moves(Smiling=0.5)]

    answer = faces.Edit(_edit([pb.FaceSource(latent=_latent())], moves=moves))

    assert answer.faces[0].latents[0].values[0] == 3


def test_photo_keeps_its_detail_and_gets_the_change_in_its_square(faces: FaceServiceStub) -> None:
    photo = _photo()

    answer = faces.Edit(_edit(_pictures(photo), moves=_moves(Smiling=2)))

    edited = _pixels(answer.faces[0].images[0])
    change = edited.astype(int) - photo
    assert edited.shape == photo.shape
    assert (change[:, :10] == 0).all()
    assert (change[:, 90:] == 0).all()
    assert (change[:, 20:80] == 40).all()
    assert (np.diff(change[40, 10:20, 0]) >= 0).all()


def test_change_does_not_fade_at_the_photos_own_edges(faces: FaceServiceStub) -> None:
    photo = _photo(90, 90, 1)

    answer = faces.Edit(_edit(_pictures(photo), moves=_moves(Smiling=-1)))

    assert (_pixels(answer.faces[0].images[0]) == photo - 20).all()


def test_strength_0_gives_the_photo_back_and_says_of_no_model(faces: FaceServiceStub) -> None:
    photo = _photo()
    png = image_pb2.ImageFormat(mime_type="image/png")

    answer = faces.Edit(_edit(_pictures(photo), moves=_moves(Smiling=0), format=png))

    data = answer.faces[0].images[0].data
    assert (np.asarray(Image.open(io.BytesIO(data))) == photo).all()
    assert b"digitalsourcetype" not in data


def test_crop_is_the_models_view_with_the_change(faces: FaceServiceStub) -> None:
    square = image_pb2.Square(left_px=10, top_px=5, side_px=SIZE_PX)
    photo = _photo(channels=1)

    answer = faces.Edit(
        _edit(
            _pictures(photo),
            moves=_moves(Smiling=1),
            crop=image_pb2.Crop(square_px=square),
            view=pb.EDIT_VIEW_CROP,
        )
    )

    seen = photo[5 : 5 + SIZE_PX, 10 : 10 + SIZE_PX]
    assert (_pixels(answer.faces[0].images[0]) == seen + 20).all()


def test_decoded_view_is_the_picture_of_the_moved_latent(faces: FaceServiceStub) -> None:
    wanted = _edit(_pictures(_photo()), moves=_moves(Smiling=1), view=pb.EDIT_VIEW_DECODED)

    face = faces.Edit(wanted).faces[0]

    again = faces.Decode(pb.DecodeRequest(latents=face.latents, format=_RAW))
    assert face.images[0].data == again.images[0].data
    assert face.images[0].height_px == SIZE_PX


def test_face_of_a_seed_is_that_of_generate(faces: FaceServiceStub) -> None:
    drawn = pb.DrawnFace(seed=7, index=3, temperature=0.5, prior="normal")
    request = pb.GenerateRequest(
        family=_FAMILY, count=1, seed=7, first_index=3, temperature=0.5, include_latents=True
    )

    face = faces.Edit(_edit([pb.FaceSource(drawn=drawn)], moves=_moves(Smiling=1))).faces[0]

    assert face.original == faces.Generate(request).faces[0].latent


def test_faces_of_every_kind_come_in_their_order(faces: FaceServiceStub) -> None:
    sources = [
        pb.FaceSource(latent=_latent(4)),
        *_pictures(_photo()),
        pb.FaceSource(drawn=pb.DrawnFace(seed=1)),
        *_pictures(_photo(60, 60, 1)),
        pb.FaceSource(drawn=pb.DrawnFace(seed=2)),
    ]

    together = faces.Edit(_edit(sources, moves=_moves(Smiling=1))).faces
    alone = [faces.Edit(_edit([it], moves=_moves(Smiling=1))).faces[0] for it in sources]

    assert list(together) == alone
    assert [face.images[0].height_px for face in together] == [48, 80, 48, 60, 48]


def test_traversal_is_a_row_of_strengths_on_top_of_the_moves(faces: FaceServiceStub) -> None:
    traversal = pb.Traversal(direction="Smiling", start=-1, end=2, count=4)
    sources = [pb.FaceSource(latent=_latent(0)), pb.FaceSource(latent=_latent(1))]

    answer = faces.Edit(_edit(sources, moves=_moves(Blond_Hair=3), traversal=traversal))

    assert list(answer.strengths) == [-1, 0, 1, 2]
    for first, face in enumerate(answer.faces):
        rows = np.array([latent.values for latent in face.latents])
        assert rows[:, 0].tolist() == [first - 2, first, first + 2, first + 4]
        assert rows[:, 1].tolist() == [3, 3, 3, 3]
        levels = [int(_pixels(image)[0, 0, 0]) for image in face.images]
        assert levels == (100 + 10 * rows[:, 0]).tolist()


def test_traversal_goes_from_minus_1_to_1_unless_told(faces: FaceServiceStub) -> None:
    traversal = pb.Traversal(direction="component-1", count=5)

    answer = faces.Edit(_edit([pb.FaceSource(latent=_latent())], traversal=traversal))

    assert list(answer.strengths) == [-1, -0.5, 0, 0.5, 1]


@pytest.mark.parametrize("mime_type", ["", "image/gif", "image/webp"])
def test_traversal_comes_as_one_animation(faces: FaceServiceStub, mime_type: str) -> None:
    wanted = _edit(
        _pictures(_photo(300, 600)),
        traversal=pb.Traversal(direction="Smiling", start=-3, end=3, count=4),
        animation=pb.Animation(frame_ms=70, there_and_back=True),
        format=image_pb2.ImageFormat(mime_type=mime_type),
    )

    face = faces.Edit(wanted).faces[0]

    picture = Image.open(io.BytesIO(face.animation.data))
    assert picture.get_format_mimetype() == face.animation.mime_type == (mime_type or "image/webp")
    assert (picture.n_frames, picture.size) == (6, (512, 256))  # type: ignore[attr-defined]  # of animations
    assert (face.animation.width_px, face.animation.height_px) == (512, 256)
    assert len(face.images) == 0
    assert len(face.latents) == 4
    assert b"compositeWithTrainedAlgorithmicMedia" in face.animation.data
    assert b'facegen:moves="Smiling=-3..3"' in face.animation.data


def test_path_comes_as_one_animation(faces: FaceServiceStub) -> None:
    request = pb.InterpolateRequest(
        family=_FAMILY,
        start=pb.Endpoint(latent=_latent(-5)),
        end=pb.Endpoint(drawn=pb.DrawnFace(seed=7)),
        count=5,
        animation=pb.Animation(),
        format=image_pb2.ImageFormat(mime_type="image/gif"),
    )

    answer = faces.Interpolate(request)

    picture = Image.open(io.BytesIO(answer.animation.data))
    assert (picture.n_frames, picture.info["duration"]) == (5, 100)  # type: ignore[attr-defined]  # of animations
    assert (len(answer.images), len(answer.latents)) == (0, 5)
    drawn = pb.GenerateRequest(family=_FAMILY, count=1, seed=7, include_latents=True)
    assert answer.latents[-1] == faces.Generate(drawn).faces[0].latent


@pytest.mark.parametrize("mime_type", ["image/png", "image/jpeg", "image/webp"])
def test_edited_pictures_say_so(faces: FaceServiceStub, mime_type: str) -> None:
    sources = [*_pictures(_photo()), pb.FaceSource(drawn=pb.DrawnFace(seed=7, index=2))]
    moves = _moves(Smiling=1, Blond_Hair=-0.5)

    answer = faces.Edit(
        _edit(sources, moves=moves, format=image_pb2.ImageFormat(mime_type=mime_type))
    )

    photo, drawn = (face.images[0].data for face in answer.faces)
    assert b"/compositeWithTrainedAlgorithmicMedia" in photo
    assert b"/trainedAlgorithmicMedia" in drawn
    assert b'facegen:seed="7" facegen:index="2"' in drawn
    for data in (photo, drawn):
        assert b'facegen:moves="Smiling=1 Blond_Hair=-0.5"' in data


def test_families_tell_their_directions_and_effects(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        models = ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest()).models

    directions = {model.family: list(model.directions) for model in models}
    assert directions[PLAIN_FAMILY] == directions[EXPRESSION_FAMILY] == []
    assert [it.name for it in directions[_FAMILY]] == list(DIRECTIONS)
    assert directions[_FAMILY][0].effect == 0.75
    assert not directions[_FAMILY][1].HasField("effect")
    assert f"{_FAMILY}-directions" in next(it.graphs for it in models if it.family == _FAMILY)


def test_unknown_direction_names_near_ones_and_all(faces: FaceServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        faces.Edit(_edit([pb.FaceSource(latent=_latent())], moves=_moves(blond_hairs=1)))

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    field, problem = _violation(caught.value)
    assert field == "moves[0].direction"
    assert 'has no "blond_hairs" (near: Blond_Hair)' in problem
    assert "it has Smiling, Blond_Hair, component-1" in problem


def test_family_without_directions_names_those_that_have(faces: FaceServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        faces.Edit(_edit(_pictures(_photo()), family=PLAIN_FAMILY, moves=_moves(Smiling=1)))

    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == (
        f'family "{PLAIN_FAMILY}" has no directions; address one that has: {_FAMILY}'
    )


def test_server_without_directions_says_so(hand_address: str) -> None:
    with grpc.insecure_channel(hand_address) as channel, pytest.raises(grpc.RpcError) as caught:
        FaceServiceStub(channel).Edit(_edit(_pictures(_photo()), moves=_moves(Smiling=1)))

    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "no family that is served here has directions" in str(caught.value.details())


_WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no faces": ({"faces": []}, "faces"),
    "no face": ({"faces": [pb.FaceSource()]}, "faces[0]"),
    "too many": ({"faces": [pb.FaceSource(latent=_latent())] * 13}, "faces"),
    "no moves": ({"moves": []}, "moves"),
    "many moves": ({"moves": _moves(Smiling=1) * 65}, "moves"),
    "no name": ({"moves": [pb.Move()]}, "moves[0].direction"),
    "far": ({"moves": _moves(Smiling=1, Blond_Hair=-20.5)}, "moves[1].strength"),
    "nan": ({"moves": _moves(Smiling=float("nan"))}, "moves[0].strength"),
    "prior": (
        {"faces": [pb.FaceSource(drawn=pb.DrawnFace(prior="smiling"))]},
        "faces[0].drawn.prior",
    ),
    "short": ({"traversal": pb.Traversal(direction="Smiling", count=1)}, "traversal.count"),
    "long": ({"traversal": pb.Traversal(direction="Smiling", count=13)}, "traversal.count"),
    "much": (
        {
            "faces": [pb.FaceSource(latent=_latent())] * 3,
            "traversal": pb.Traversal(direction="Smiling", count=5),
        },
        "traversal.count",
    ),
    "end": (
        {"traversal": pb.Traversal(direction="Smiling", count=3, end=21)},
        "traversal.end",
    ),
    "whither": ({"traversal": pb.Traversal(direction="up", count=3)}, "traversal.direction"),
    "view": ({"view": 9}, "view"),
    "nothing to keep": ({"view": pb.EDIT_VIEW_PHOTO}, "faces[0]"),
    "one picture": ({"animation": pb.Animation(), "format": None}, "animation"),
    "raw animation": (
        {
            "animation": pb.Animation(),
            "traversal": pb.Traversal(direction="Smiling", count=3),
        },
        "format.mime_type",
    ),
    "still gif": ({"format": image_pb2.ImageFormat(mime_type="image/gif")}, "format.mime_type"),
    "fast": (
        {
            "animation": pb.Animation(frame_ms=5),
            "traversal": pb.Traversal(direction="Smiling", count=3),
            "format": None,
        },
        "animation.frame_ms",
    ),
    "other family": (
        {"faces": [pb.FaceSource(latent=_latent(family=PLAIN_FAMILY))], "family": _FAMILY},
        "faces[0].latent.family",
    ),
    "crop": (
        {
            "faces": _pictures(_photo()),
            "crop": image_pb2.Crop(square_px=image_pb2.Square(side_px=90)),
        },
        "crop.square_px",
    ),
}


@pytest.mark.parametrize("name", _WRONG)
def test_wrong_request_is_refused_with_its_field(address: str, name: str) -> None:
    changes, field = _WRONG[name]
    right: dict[str, Any] = {
        "faces": [pb.FaceSource(latent=_latent())],
        "moves": _moves(Smiling=1),
        "format": _RAW,
    }
    with grpc.insecure_channel(address) as channel:
        stub = FaceServiceStub(channel)
        assert len(stub.Edit(pb.EditRequest(**right)).faces) == 1

        with pytest.raises(grpc.RpcError) as caught:
            stub.Edit(pb.EditRequest(**{**right, **changes}))

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert _violation(caught.value)[0] == field


def test_answer_that_no_message_would_hold_is_refused(tmp_path: Path) -> None:
    repository = write_directions(write_plain_family(tmp_path))
    settings = {"engine": f"onnx:{repository}", "max_message_bytes": 1_000_000}
    server = Server(ServerConfig.model_validate({**settings, "address": "127.0.0.1:0"}))
    traversal = pb.Traversal(direction="Smiling", count=12)
    with closing(server):
        server.listen()
        server.load()
        with grpc.insecure_channel(server.address) as channel:
            stub = FaceServiceStub(channel)
            assert len(stub.Edit(_edit(_pictures(_photo()), traversal=traversal)).faces) == 1

            with pytest.raises(grpc.RpcError, match="more than 998976 bytes") as caught:
                stub.Edit(_edit(_pictures(_photo(300, 300)), traversal=traversal))

    assert _violation(caught.value)[0] == "faces"


def test_faces_of_concurrent_calls_are_those_of_calls_alone(faces: FaceServiceStub) -> None:
    requests = [
        _edit([pb.FaceSource(drawn=pb.DrawnFace(seed=seed))], moves=_moves(Smiling=seed / 10))
        for seed in range(20)
    ]

    alone = [faces.Edit(request) for request in requests]
    with ThreadPoolExecutor(10) as pool:
        together = list(pool.map(faces.Edit, requests))

    assert together == alone


def test_deadline_that_has_passed_ends_the_call(faces: FaceServiceStub) -> None:
    request = _edit(_pictures(_photo()), moves=_moves(Smiling=1))

    with pytest.raises(grpc.RpcError) as caught:
        faces.Edit(request, timeout=1e-6)

    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(faces.Edit(request, timeout=60).faces) == 1
