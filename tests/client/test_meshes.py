"""Meshes through both clients, on a real server."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from facegen.client import (
    RAW_VERTICES,
    AsyncClient,
    Client,
    DrawnFace,
    FailedPreconditionError,
    FileError,
    InvalidRequestError,
    Latent,
    Mesh,
    Retry,
)
from facegen.v1 import mesh_service_pb2, mesh_service_pb2_grpc
from tests.serving.mesh_graphs import linear_meshes

_MESHES = linear_meshes()
_FAST = Retry(max_attempts=3, initial_backoff_s=0.01, max_backoff_s=0.02)


@pytest.fixture
def meshes(mesh_server: str) -> Iterator[Client]:
    with Client(mesh_server) as client:
        yield client


def _mesh(vertices: NDArray[np.float32]) -> Mesh:
    return Mesh(vertices.astype("<f4").tobytes(), RAW_VERTICES)


def test_topology_has_the_triangles_and_the_template(meshes: Client) -> None:
    topology = meshes.topology()

    assert (topology.family, topology.version) == ("hand-mesh", "1")
    assert (topology.vertex_count, topology.face_count) == (30, 40)
    assert np.array_equal(np.asarray(topology.faces), _MESHES.faces)
    assert np.array_equal(np.frombuffer(topology.data, "<i4").reshape(-1, 3), _MESHES.faces)
    assert np.array_equal(np.asarray(topology.template.vertices), _MESHES.template)
    assert topology.template.vertices.shape == (30, 3)


def test_same_seed_gives_the_same_meshes(meshes: Client) -> None:
    first = meshes.generate_meshes(3, seed=7, include_latents=True)
    second = meshes.generate_meshes(1, seed=7, first_index=2, include_latents=True)

    assert [drawn.index for drawn in first.meshes] == [0, 1, 2]
    assert second.meshes[0] == first.meshes[2]
    assert (first.seed, first.family, first.prior) == (7, "hand-mesh", "mixture")
    latents = np.array([drawn.latent.values for drawn in first.meshes if drawn.latent], np.float32)
    made = np.stack([np.asarray(drawn.mesh.vertices) for drawn in first.meshes])
    assert np.abs(made - _MESHES.decode(latents)).max() < 1e-3


def test_stream_gives_the_meshes_of_generate(meshes: Client) -> None:
    generated = meshes.generate_meshes(20, seed=3, prior="normal", temperature=0.5)

    stream = meshes.generate_meshes_stream(20, seed=3, prior="normal", temperature=0.5)

    assert tuple(stream) == generated.meshes


@pytest.mark.parametrize("kind", ["model/ply", "model/obj"])
def test_files_are_reconstructed_as_their_vertices_are(
    meshes: Client, tmp_path: Path, kind: str
) -> None:
    drawn = meshes.generate_meshes(1, seed=1).meshes[0].mesh
    file = meshes.generate_meshes(1, seed=1, mime_type=kind).meshes[0].mesh
    file.save(tmp_path / "face")
    drawn.save(tmp_path / "face.f32")

    answer = meshes.reconstruct_meshes(
        [drawn, file.data, file, tmp_path / "face", str(tmp_path / "face.f32")]
    )

    assert len(set(answer.meshes)) == 1
    assert answer.meshes[0].max_error_mm < 1e-3
    assert (answer.family, answer.version) == ("hand-mesh", "1")


def test_errors_are_told_in_millimetres(meshes: Client) -> None:
    sent = _MESHES.some(1)

    (made,) = meshes.reconstruct_meshes([_mesh(sent[0])]).meshes

    distances = np.linalg.norm(np.asarray(made.mesh.vertices) - sent[0].astype(float), axis=1)
    assert made.mean_error_mm == pytest.approx(distances.mean(), abs=1e-5)
    assert made.max_error_mm == pytest.approx(distances.max(), abs=1e-5)


def test_latents_go_there_and_back(meshes: Client) -> None:
    sent = _MESHES.some(2)

    encodings = meshes.encode_meshes([_mesh(mesh) for mesh in sent])
    decoded = meshes.decode_meshes([encoding.mean for encoding in encodings])

    wanted = _MESHES.decode(_MESHES.encode(sent))
    made = np.stack([np.asarray(mesh.vertices) for mesh in decoded.meshes])
    assert np.abs(made - wanted).max() < 1e-3
    assert encodings[0].log_variance == (0.0,) * 8


def test_path_begins_and_ends_where_it_is_told(meshes: Client) -> None:
    mesh, latent = _mesh(_MESHES.template), Latent("hand-mesh", "1", (1.0,) * 8)

    path = meshes.interpolate_meshes(mesh, latent, count=3, interpolation="linear")
    drawn = meshes.interpolate_meshes(DrawnFace(5), DrawnFace(6), count=2)

    assert np.allclose(
        [it.values for it in path.latents], np.outer([0, 0.5, 1], [1] * 8), atol=1e-5
    )
    assert len(path.meshes) == 3
    assert np.abs(np.asarray(path.meshes[0].vertices) - _MESHES.template).max() < 1e-3
    assert drawn.meshes[1] == meshes.generate_meshes(1, seed=6).meshes[0].mesh


async def test_asyncio_client_does_the_same(mesh_server: str, meshes: Client) -> None:
    mesh = _mesh(_MESHES.some(1)[0])
    latent = Latent("hand-mesh", "1", (1.0,) * 8)

    async with AsyncClient(mesh_server) as client:
        assert await client.topology() == meshes.topology()
        generated = await client.generate_meshes(5, seed=3)
        assert generated == meshes.generate_meshes(5, seed=3)
        stream = [drawn async for drawn in client.generate_meshes_stream(5, seed=3)]
        assert tuple(stream) == generated.meshes
        assert await client.reconstruct_meshes([mesh]) == meshes.reconstruct_meshes([mesh])
        assert await client.encode_meshes([mesh]) == meshes.encode_meshes([mesh])
        assert await client.decode_meshes([latent]) == meshes.decode_meshes([latent])
        path = await client.interpolate_meshes(mesh, latent, count=3)
        assert path == meshes.interpolate_meshes(mesh, latent, count=3)


def test_broken_mesh_is_named_with_its_reason(meshes: Client, tmp_path: Path) -> None:
    good = _mesh(_MESHES.template)

    with pytest.raises(InvalidRequestError, match="neither PLY nor OBJ") as broken:
        meshes.reconstruct_meshes([good, b"hello"])
    with pytest.raises(InvalidRequestError, match="GetTopology") as other:
        meshes.encode_meshes([Mesh(bytes(12), RAW_VERTICES)])
    with pytest.raises(FileError, match="No such file"):
        meshes.encode_meshes([tmp_path / "missing.ply"])

    assert (broken.value.field, broken.value.reason) == ("meshes[1].data", "MESH")
    assert (other.value.field, other.value.reason) == ("meshes[0].data", "TOPOLOGY")


def test_family_of_the_other_kind_is_told_apart(meshes: Client) -> None:
    with pytest.raises(FailedPreconditionError, match="makes pictures"):
        meshes.topology("hand-vae")
    with pytest.raises(FailedPreconditionError, match="makes meshes"):
        meshes.generate(1, family="hand-mesh")


def test_models_tell_the_sizes_of_meshes(meshes: Client) -> None:
    model = meshes.model("hand-mesh")

    assert (model.kind, model.vertex_count, model.face_count) == ("mesh", 30, 40)
    assert meshes.model("hand-vae").vertex_count == 0


def test_vertices_of_files_are_not_read_here() -> None:
    with pytest.raises(InvalidRequestError, match="ask for RAW_VERTICES"):
        _ = Mesh(b"ply\n", "model/ply").vertices


class _BreaksOff(mesh_service_pb2_grpc.MeshServiceServicer):
    """Streams two meshes and ends UNAVAILABLE, once; then all."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def GenerateMeshesStream(  # noqa: N802 - gRPC's name
        self, request: mesh_service_pb2.GenerateMeshesStreamRequest, context: Any
    ) -> Iterator[mesh_service_pb2.GenerateMeshesStreamResponse]:
        self.requests.append(request)
        first = request.first_index
        count = request.count if len(self.requests) > 1 else 2
        for index in range(first, first + count):
            yield mesh_service_pb2.GenerateMeshesStreamResponse(
                meshes=[mesh_service_pb2.GeneratedMesh(index=index)],
                seed=7,
                family="scripted",
                version="3",
                prior="normal",
            )
        if len(self.requests) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


def test_stream_that_breaks_goes_on_at_the_next_mesh(free_address: Callable[[], str]) -> None:
    service: Any = _BreaksOff()  # type: ignore[abstract]  # the rest answers UNIMPLEMENTED
    address = free_address()
    server = grpc.server(ThreadPoolExecutor(2))
    mesh_service_pb2_grpc.add_MeshServiceServicer_to_server(service, server)
    server.add_insecure_port(address)
    server.start()

    with Client(address, retry=_FAST) as client:
        indices = [drawn.index for drawn in client.generate_meshes_stream(5)]

    server.stop(None).wait()
    assert indices == [0, 1, 2, 3, 4]
    again = service.requests[1]
    assert (again.first_index, again.count, again.seed) == (2, 3, 7)
    assert (again.family, again.version, again.prior) == ("scripted", "3", "normal")
