"""Meshes as a server gives them: with its own engine, and with one that is another server."""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trimesh
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status
from numpy.typing import NDArray

from facegen.serving.config import ServerConfig
from facegen.serving.faces.noise import latent_noise
from facegen.serving.meshes.coding import encode_mesh
from facegen.serving.meshes.topology import Topology
from facegen.serving.server import Server
from facegen.v1 import face_service_pb2, latent_pb2, model_service_pb2
from facegen.v1 import mesh_service_pb2 as pb
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from facegen.v1.mesh_service_pb2_grpc import MeshServiceStub
from facegen.v1.model_service_pb2_grpc import ModelServiceStub
from tests.serving.family_graphs import LATENT_SIZE, PLAIN_FAMILY, write_plain_family
from tests.serving.mesh_graphs import MESH_FAMILY, linear_meshes, write_mesh_family

Floats = NDArray[np.float32]

_OTHER = "hand-sheet"  # a mesh autoencoder; the family of vertices is the first by name
_MESHES = linear_meshes()
_SHEET = linear_meshes(4, 4, seed=1)
_MAX_MESHES = 12
_RAW, _PLY, _OBJ = "application/octet-stream", "model/ply", "model/obj"
_GLB = "model/gltf-binary"


@contextmanager
def _served(engine: str, **settings: Any) -> Iterator[str]:
    config = {"engine": engine, "threads": 2, "max_images": _MAX_MESHES, **settings}
    server = Server(ServerConfig.model_validate({**config, "address": "127.0.0.1:0"}))
    with closing(server):
        server.listen()
        server.load()
        yield server.address


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two families of meshes, and one of pictures."""
    folder = tmp_path_factory.mktemp("meshes")
    write_plain_family(write_mesh_family(folder, _MESHES))
    return write_mesh_family(folder, _SHEET, family=_OTHER, vae=False)


@pytest.fixture(scope="module")
def address(repository: Path) -> Iterator[str]:
    with _served(f"onnx:{repository}") as address:
        yield address


@pytest.fixture(scope="module", params=["onnx", "triton"])
def channel(address: str, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    """A connection to that server, and to one whose engine is that server."""
    with ExitStack() as stack:
        if request.param == "triton":
            address = stack.enter_context(_served(f"triton://{address}"))
        yield stack.enter_context(grpc.insecure_channel(address))


@pytest.fixture(scope="module")
def meshes(channel: grpc.Channel) -> MeshServiceStub:
    return MeshServiceStub(channel)


def _raw(vertices: Floats) -> pb.Mesh:
    return pb.Mesh(data=vertices.astype("<f4").tobytes(), mime_type=_RAW)


def _file(vertices: Floats, mime_type: str) -> pb.Mesh:
    topology = Topology(_MESHES.faces, _MESHES.template)
    return pb.Mesh(data=encode_mesh(vertices, mime_type, topology))


def _vertices(messages: Sequence[pb.Mesh]) -> Floats:
    """The vertices of meshes that came alone: (B, V, 3)."""
    assert {message.mime_type for message in messages} <= {_RAW}
    return np.stack([np.frombuffer(it.data, "<f4").reshape(it.vertex_count, 3) for it in messages])


def _latent(values: Sequence[float], **changes: Any) -> latent_pb2.Latent:
    return latent_pb2.Latent(**{"family": MESH_FAMILY, "values": values, **changes})


def _generated(meshes: MeshServiceStub, count: int, **wanted: Any) -> Floats:
    request = pb.GenerateMeshesRequest(count=count, **{"seed": 7, **wanted})
    return _vertices([drawn.mesh for drawn in meshes.GenerateMeshes(request).meshes])


def _read(message: pb.Mesh) -> Any:
    """What trimesh reads of a file."""
    kind = {_PLY: "ply", _OBJ: "obj", _GLB: "glb"}[message.mime_type]
    return trimesh.load(io.BytesIO(message.data), file_type=kind, process=False, force="mesh")


def test_topology_has_the_triangles_and_the_template(meshes: MeshServiceStub) -> None:
    answer = meshes.GetTopology(pb.GetTopologyRequest())

    assert (answer.family, answer.version) == (MESH_FAMILY, "1")
    assert (answer.vertex_count, answer.face_count) == (30, 40)
    faces = np.frombuffer(answer.faces, "<i4").reshape(-1, 3)
    assert np.array_equal(faces, _MESHES.faces)
    assert np.array_equal(_vertices([answer.template])[0], _MESHES.template)


@pytest.mark.parametrize("mime_type", [_PLY, _OBJ, _GLB])
def test_template_comes_as_a_file_if_asked_for(meshes: MeshServiceStub, mime_type: str) -> None:
    answer = meshes.GetTopology(pb.GetTopologyRequest(family=_OTHER, mime_type=mime_type))

    read = _read(answer.template)
    scale = 0.001 if mime_type == _GLB else 1
    assert np.allclose(read.vertices, _SHEET.template * scale, rtol=1e-6, atol=1e-9)
    assert np.array_equal(read.faces, _SHEET.faces)


def test_reconstruction_is_that_of_the_graphs_with_its_errors(meshes: MeshServiceStub) -> None:
    sent = _MESHES.some(3)

    answer = meshes.ReconstructMeshes(
        pb.ReconstructMeshesRequest(meshes=[_raw(mesh) for mesh in sent])
    )

    assert (answer.family, answer.version) == (MESH_FAMILY, "1")
    made = _vertices([it.mesh for it in answer.meshes])
    assert np.abs(made - _MESHES.decode(_MESHES.encode(sent))).max() < 1e-3
    distances = np.linalg.norm(made.astype(np.float64) - sent, axis=2)
    told = [(it.mean_error_mm, it.max_error_mm) for it in answer.meshes]
    assert np.allclose(told, np.stack([distances.mean(1), distances.max(1)], 1), atol=1e-5)


def test_batched_answer_equals_the_unbatched_one_under_traffic(meshes: MeshServiceStub) -> None:
    sent = _MESHES.some(_MAX_MESHES)

    def reconstruct(some: Floats) -> list[pb.ReconstructedMesh]:
        request = pb.ReconstructMeshesRequest(meshes=[_raw(mesh) for mesh in some])
        return list(meshes.ReconstructMeshes(request).meshes)

    together = reconstruct(sent)
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(lambda row: reconstruct(sent[row : row + 1])[0], range(len(sent))))

    made, single = (_vertices([it.mesh for it in some]) for some in (together, alone))
    assert np.abs(made - single).max() < 1e-4


@pytest.mark.parametrize("mime_type", [_PLY, _OBJ])
def test_files_are_read_as_vertices_are(meshes: MeshServiceStub, mime_type: str) -> None:
    sent = _MESHES.some(4)
    mixed = [_file(mesh, mime_type) if row % 2 else _raw(mesh) for row, mesh in enumerate(sent)]

    files = meshes.ReconstructMeshes(pb.ReconstructMeshesRequest(meshes=mixed))
    alone = meshes.ReconstructMeshes(
        pb.ReconstructMeshesRequest(meshes=[_raw(mesh) for mesh in sent])
    )

    assert files == alone


def test_face_orders_of_other_programs_are_taken(meshes: MeshServiceStub) -> None:
    mesh = _MESHES.some(1)[0]
    turned = np.roll(_MESHES.faces, 1, axis=1)[::-1]
    program: Any = trimesh.Trimesh(mesh, turned, process=False)

    answer = meshes.EncodeMeshes(
        pb.EncodeMeshesRequest(meshes=[pb.Mesh(data=program.export(file_type="ply"))])
    )

    (encoding,) = answer.encodings
    assert np.allclose(encoding.mean.values, _MESHES.encode(mesh[None])[0], atol=1e-4)


@pytest.mark.parametrize("mime_type", [_PLY, _OBJ, _GLB])
def test_every_method_answers_with_files(meshes: MeshServiceStub, mime_type: str) -> None:
    sent = _raw(_MESHES.some(1)[0])
    latent = _latent([0.5] * LATENT_SIZE)
    end = pb.MeshEndpoint(latent=latent)
    makers: list[Callable[[str], list[pb.Mesh]]] = [
        lambda kind: [
            it.mesh
            for it in meshes.GenerateMeshes(
                pb.GenerateMeshesRequest(count=2, seed=1, mime_type=kind)
            ).meshes
        ],
        lambda kind: [
            it.mesh
            for it in meshes.ReconstructMeshes(
                pb.ReconstructMeshesRequest(meshes=[sent], mime_type=kind)
            ).meshes
        ],
        lambda kind: list(
            meshes.DecodeMeshes(pb.DecodeMeshesRequest(latents=[latent], mime_type=kind)).meshes
        ),
        lambda kind: list(
            meshes.InterpolateMeshes(
                pb.InterpolateMeshesRequest(start=end, end=end, count=2, mime_type=kind)
            ).meshes
        ),
    ]
    for make in makers:
        files, vertices = make(mime_type), _vertices(make(""))

        for file, wanted in zip(files, vertices, strict=True):
            assert (file.mime_type, file.vertex_count) == (mime_type, 30)
            read = _read(file)
            assert np.array_equal(read.faces, _MESHES.faces)
            scale = 0.001 if mime_type == _GLB else 1
            assert np.allclose(read.vertices, wanted * scale, rtol=1e-6, atol=1e-9)


def test_generated_meshes_are_those_of_the_documented_noise(meshes: MeshServiceStub) -> None:
    noise, uniform = latent_noise(7, 5, count=3, latent_size=LATENT_SIZE)

    request = pb.GenerateMeshesRequest(
        count=3, seed=7, first_index=5, temperature=0.5, prior="mixture", include_latents=True
    )
    answer = meshes.GenerateMeshes(request)

    assert (answer.seed, answer.prior, answer.family) == (7, "mixture", MESH_FAMILY)
    assert [drawn.index for drawn in answer.meshes] == [5, 6, 7]
    latents = np.array([drawn.latent.values for drawn in answer.meshes], np.float32)
    assert np.allclose(latents, 0.5 * (0.5 * noise) + uniform, atol=1e-6)
    made = _vertices([drawn.mesh for drawn in answer.meshes])
    assert np.abs(made - _MESHES.decode(latents)).max() < 1e-3


def test_same_seed_gives_the_same_mesh_whatever_the_batch(meshes: MeshServiceStub) -> None:
    together = _generated(meshes, _MAX_MESHES)
    with ThreadPoolExecutor(8) as pool:
        alone = list(
            pool.map(lambda index: _generated(meshes, 1, first_index=index), range(_MAX_MESHES))
        )

    assert np.array_equal(np.concatenate(alone), together)
    assert (_generated(meshes, 2, seed=8) != together[:2]).any()


def test_seed_zero_is_a_seed_and_no_seed_is_drawn_and_echoed(meshes: MeshServiceStub) -> None:
    drawn = meshes.GenerateMeshes(pb.GenerateMeshesRequest(count=1))

    assert meshes.GenerateMeshes(pb.GenerateMeshesRequest(count=1, seed=0)).seed == 0
    assert drawn.seed != 0
    assert np.array_equal(_generated(meshes, 1, seed=drawn.seed), _vertices([drawn.meshes[0].mesh]))


def test_priors_draw_their_own_meshes_the_default_first(meshes: MeshServiceStub) -> None:
    named = {prior: _generated(meshes, 2, prior=prior) for prior in ("normal", "mixture")}

    assert (named["normal"] != named["mixture"]).any()
    assert np.array_equal(_generated(meshes, 2), named["mixture"])


def test_stream_sends_the_meshes_of_generate_and_resumes(meshes: MeshServiceStub) -> None:
    wanted = _generated(meshes, _MAX_MESHES)

    def stream(first_index: int, count: int) -> list[pb.GeneratedMesh]:
        request = pb.GenerateMeshesStreamRequest(
            count=count, seed=7, first_index=first_index, include_latents=True
        )
        parts = list(meshes.GenerateMeshesStream(request))
        assert {(part.seed, part.prior, part.family) for part in parts} == {
            (7, "mixture", MESH_FAMILY)
        }
        return [drawn for part in parts for drawn in part.meshes]

    drawn = stream(0, 50)
    resumed = stream(3, 47)

    assert [it.index for it in drawn] == list(range(50))
    assert drawn[3:] == resumed
    assert np.array_equal(_vertices([it.mesh for it in drawn[:_MAX_MESHES]]), wanted)
    latents = np.array([it.latent.values for it in drawn], np.float32)
    assert np.abs(_vertices([it.mesh for it in drawn]) - _MESHES.decode(latents)).max() < 1e-3


def test_latents_go_there_and_back(meshes: MeshServiceStub) -> None:
    sent = _MESHES.some(2)

    encoded = meshes.EncodeMeshes(pb.EncodeMeshesRequest(meshes=[_raw(mesh) for mesh in sent]))
    latents = [encoding.mean for encoding in encoded.encodings]
    decoded = meshes.DecodeMeshes(pb.DecodeMeshesRequest(latents=latents))

    assert [(it.family, it.version) for it in latents] == [(MESH_FAMILY, "1")] * 2
    assert all(list(it.log_variance) == [0.0] * LATENT_SIZE for it in encoded.encodings)
    reconstructed = meshes.ReconstructMeshes(
        pb.ReconstructMeshesRequest(meshes=[_raw(mesh) for mesh in sent])
    )
    wanted = _vertices([it.mesh for it in reconstructed.meshes])
    assert np.abs(_vertices(decoded.meshes) - wanted).max() < 1e-4


def test_autoencoders_latents_have_no_variance(meshes: MeshServiceStub) -> None:
    answer = meshes.EncodeMeshes(
        pb.EncodeMeshesRequest(family=_OTHER, meshes=[_raw(_SHEET.template)])
    )

    assert answer.encodings[0].mean.family == _OTHER
    assert not answer.encodings[0].log_variance


def test_path_goes_from_mesh_to_draw(meshes: MeshServiceStub) -> None:
    mesh = _MESHES.some(1)[0]
    drawn = face_service_pb2.DrawnFace(seed=7, index=2)
    request = pb.InterpolateMeshesRequest(
        start=pb.MeshEndpoint(mesh=_file(mesh, _PLY)),
        end=pb.MeshEndpoint(drawn=drawn),
        count=5,
        interpolation=face_service_pb2.INTERPOLATION_LINEAR,
    )

    answer = meshes.InterpolateMeshes(request)

    latents = np.array([latent.values for latent in answer.latents])
    assert np.allclose(latents, np.linspace(latents[0], latents[-1], 5), atol=1e-5)
    assert np.allclose(latents[0], _MESHES.encode(mesh[None])[0], atol=1e-4)
    path = _vertices(answer.meshes)
    assert np.abs(path[-1] - _generated(meshes, 1, first_index=2)[0]).max() < 1e-4


def test_spherical_path_keeps_the_norm(meshes: MeshServiceStub) -> None:
    rows = (3 * np.eye(2, LATENT_SIZE)).tolist()
    ends = [pb.MeshEndpoint(latent=_latent(row)) for row in rows]

    answer = meshes.InterpolateMeshes(
        pb.InterpolateMeshesRequest(start=ends[0], end=ends[1], count=4)
    )

    norms = np.linalg.norm([latent.values for latent in answer.latents], axis=1)
    assert np.allclose(norms, 3, atol=1e-5)


def test_models_are_listed_with_their_sizes(channel: grpc.Channel) -> None:
    models = ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest()).models

    assert [model.family for model in models] == [MESH_FAMILY, _OTHER, PLAIN_FAMILY]
    model = models[0]
    assert model.kind == model_service_pb2.MODEL_KIND_MESH
    assert (model.vertex_count, model.face_count, model.latent_size) == (30, 40, LATENT_SIZE)
    assert (model.height_px, model.width_px, model.channel_count) == (0, 0, 0)
    assert list(model.priors) == ["mixture", "normal"]
    assert f"{MESH_FAMILY}-topology" in model.graphs
    assert (models[2].vertex_count, models[2].height_px) == (0, 48)


def test_each_service_sends_families_of_the_other_there(channel: grpc.Channel) -> None:
    faces, meshes = FaceServiceStub(channel), MeshServiceStub(channel)

    with pytest.raises(grpc.RpcError, match="makes meshes; call MeshService") as of_faces:
        faces.Generate(face_service_pb2.GenerateRequest(count=1, family=MESH_FAMILY))
    with pytest.raises(grpc.RpcError, match="makes pictures; call FaceService") as of_meshes:
        meshes.GenerateMeshes(pb.GenerateMeshesRequest(count=1, family=PLAIN_FAMILY))

    precondition = grpc.StatusCode.FAILED_PRECONDITION
    assert (of_faces.value.code(), of_meshes.value.code()) == (precondition, precondition)
    drawn = faces.Generate(face_service_pb2.GenerateRequest(count=1))
    assert drawn.family == PLAIN_FAMILY


def test_default_family_may_be_of_either_kind(repository: Path) -> None:
    for wanted, of_faces, of_meshes in (
        (_OTHER, PLAIN_FAMILY, _OTHER),
        (PLAIN_FAMILY, PLAIN_FAMILY, MESH_FAMILY),
    ):
        with (
            _served(f"onnx:{repository}", default_family=wanted) as address,
            grpc.insecure_channel(address) as channel,
        ):
            faces = FaceServiceStub(channel).Generate(face_service_pb2.GenerateRequest(count=1))
            topology = MeshServiceStub(channel).GetTopology(pb.GetTopologyRequest())

            assert (faces.family, topology.family) == (of_faces, of_meshes)


def _violation(error: grpc.RpcError) -> tuple[str, str]:
    """The field at fault, and the reason."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # a call's error is the call
    bad = error_details_pb2.BadRequest()
    next(detail for detail in status.details if detail.Is(bad.DESCRIPTOR)).Unpack(bad)
    return bad.field_violations[0].field, bad.field_violations[0].reason


@pytest.fixture(scope="module")
def narrow(repository: Path) -> Iterator[MeshServiceStub]:
    """A server whose messages hold ten meshes of vertices alone, but not twelve."""
    room = 1024 + 10 * (30 * 12 + 256 + 4 * LATENT_SIZE) + 100
    with (
        _served(f"onnx:{repository}", max_message_bytes=room) as address,
        grpc.insecure_channel(address) as channel,
    ):
        yield MeshServiceStub(channel)


def test_answer_larger_than_a_message_is_refused_before_it_is_made(
    narrow: MeshServiceStub,
) -> None:
    latents = [_latent([0.0] * LATENT_SIZE)] * 11
    end = pb.MeshEndpoint(latent=latents[0])
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: narrow.GenerateMeshes(pb.GenerateMeshesRequest(count=11)), "count"),
        (lambda: narrow.DecodeMeshes(pb.DecodeMeshesRequest(latents=latents)), "latents"),
        (
            lambda: narrow.InterpolateMeshes(
                pb.InterpolateMeshesRequest(start=end, end=end, count=11)
            ),
            "count",
        ),
        (lambda: narrow.GenerateMeshes(pb.GenerateMeshesRequest(count=9, mime_type=_OBJ)), "count"),
    ]
    for call, field in refused:
        with pytest.raises(grpc.RpcError, match=r"--max-message-bytes") as caught:
            call()

        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert _violation(caught.value) == (field, "RESPONSE_SIZE")
    assert len(narrow.GenerateMeshes(pb.GenerateMeshesRequest(count=10)).meshes) == 10


@pytest.mark.parametrize("mime_type", ["", _PLY, _OBJ, _GLB])
def test_stream_parts_its_meshes_into_messages_that_fit(
    narrow: MeshServiceStub, mime_type: str
) -> None:
    request = pb.GenerateMeshesStreamRequest(count=40, seed=1, mime_type=mime_type)

    parts = list(narrow.GenerateMeshesStream(request))

    assert [it.index for part in parts for it in part.meshes] == list(range(40))
    assert max(part.ByteSize() for part in parts) <= 1024 + 10 * (30 * 12 + 256 + 32) + 100
    assert len(parts) > 3


def test_mesh_that_alone_is_larger_than_a_message_is_refused(repository: Path) -> None:
    with (
        _served(f"onnx:{repository}", max_message_bytes=1024 + 1500) as address,
        grpc.insecure_channel(address) as channel,
    ):
        meshes = MeshServiceStub(channel)
        calls: list[Callable[[], object]] = [
            lambda: list(
                meshes.GenerateMeshesStream(pb.GenerateMeshesStreamRequest(count=1, mime_type=_GLB))
            ),
            lambda: meshes.GetTopology(pb.GetTopologyRequest(mime_type=_GLB)),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError, match="vertices alone") as caught:
                call()

            assert _violation(caught.value) == ("mime_type", "RESPONSE_SIZE")
        assert len(_generated(meshes, 1)) == 1


def test_stream_of_a_client_that_left_ends(meshes: MeshServiceStub) -> None:
    answers = meshes.GenerateMeshesStream(pb.GenerateMeshesStreamRequest(count=2**60, seed=1))
    ended = threading.Event()
    answers.add_callback(ended.set)
    next(answers)

    answers.cancel()

    assert ended.wait(20)
    assert len(_generated(meshes, 1)) == 1
