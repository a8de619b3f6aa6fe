"""Requests of meshes that can never be right, refused with their field; and large ones that are."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grpc
import numpy as np
import pytest
import trimesh
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status
from numpy.typing import NDArray

from facegen.serving.config import ServerConfig
from facegen.serving.meshes.coding import encode_mesh
from facegen.serving.meshes.topology import Topology
from facegen.serving.server import Server
from facegen.v1 import face_service_pb2, latent_pb2
from facegen.v1 import mesh_service_pb2 as pb
from facegen.v1.mesh_service_pb2_grpc import MeshServiceStub
from tests.serving.family_graphs import LATENT_SIZE
from tests.serving.mesh_graphs import MESH_FAMILY, LinearMeshes, linear_meshes, write_mesh_family

Floats = NDArray[np.float32]

_MESHES = linear_meshes()
_TOPOLOGY = Topology(_MESHES.faces, _MESHES.template)
_MESH: Floats = _MESHES.some(1)[0]
_RAW, _PLY, _OBJ = "application/octet-stream", "model/ply", "model/obj"
_MAX_MESHES = 12
_VALUES = [0.0] * LATENT_SIZE

_Request = (
    pb.GetTopologyRequest
    | pb.GenerateMeshesRequest
    | pb.GenerateMeshesStreamRequest
    | pb.ReconstructMeshesRequest
    | pb.EncodeMeshesRequest
    | pb.DecodeMeshesRequest
    | pb.InterpolateMeshesRequest
)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshServiceStub]:
    yield from _served(tmp_path_factory, _MESHES, max_images=_MAX_MESHES)


def _served(
    tmp_path_factory: pytest.TempPathFactory, linear: LinearMeshes, **settings: Any
) -> Iterator[MeshServiceStub]:
    repository = write_mesh_family(tmp_path_factory.mktemp("meshes"), linear)
    config = {"engine": f"onnx:{repository}", "threads": 2, "address": "127.0.0.1:0", **settings}
    server = Server(ServerConfig.model_validate(config))
    with closing(server):
        server.listen()
        server.load()
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(server.address, options=options) as channel:
            yield MeshServiceStub(channel)


def _call(meshes: MeshServiceStub, request: _Request) -> None:
    """Call the method that a request is for, and read the whole answer of a stream."""
    answer = getattr(meshes, type(request).__name__.removesuffix("Request"))(request)
    if isinstance(request, pb.GenerateMeshesStreamRequest):
        list(answer)


def _raw(vertices: Floats) -> pb.Mesh:
    return pb.Mesh(data=vertices.astype("<f4").tobytes(), mime_type=_RAW)


def _odd(value: float) -> Floats:
    vertices: Floats = _MESH.copy()
    vertices[7, 1] = value
    return vertices


def _file(mime_type: str, vertices: Floats = _MESH, faces: Any = None) -> bytes:
    topology = _TOPOLOGY if faces is None else Topology(faces, _MESHES.template)
    return encode_mesh(vertices, mime_type, topology)


def _reconstruct(*meshes: pb.Mesh | bytes) -> pb.ReconstructMeshesRequest:
    messages = [it if isinstance(it, pb.Mesh) else pb.Mesh(data=it) for it in meshes]
    return pb.ReconstructMeshesRequest(meshes=messages)


def _latent(values: list[float], **changes: Any) -> latent_pb2.Latent:
    return latent_pb2.Latent(**{"family": MESH_FAMILY, "values": values, **changes})


def _decode(*latents: latent_pb2.Latent) -> pb.DecodeMeshesRequest:
    return pb.DecodeMeshesRequest(latents=latents)


def _path(
    start: pb.MeshEndpoint | None = None, end: pb.MeshEndpoint | None = None
) -> pb.InterpolateMeshesRequest:
    there = pb.MeshEndpoint(latent=_latent(_VALUES))
    return pb.InterpolateMeshesRequest(start=start or there, end=end or there, count=3)


_G, _S = pb.GenerateMeshesRequest, pb.GenerateMeshesStreamRequest
_BAD: dict[str, tuple[Callable[[], _Request], str, str, str]] = {
    "unknown family": (lambda: _G(count=1, family="no"), "family", "UNKNOWN_FAMILY", MESH_FAMILY),
    "unknown version": (
        lambda: pb.GetTopologyRequest(family=MESH_FAMILY, version="9"),
        "version",
        "UNKNOWN_FAMILY",
        "served: 1",
    ),
    "unknown format": (lambda: _G(count=1, mime_type="image/png"), "mime_type", "INPUT", _PLY),
    "no count": (lambda: _G(), "count", "INPUT", "at least 1"),
    "large count": (lambda: _G(count=13), "count", "INPUT", "limit of 12 (--max-images)"),
    "index overflow": (
        lambda: _S(count=2, first_index=2**64 - 1),
        "first_index",
        "INPUT",
        "no room",
    ),
    "hot": (lambda: _S(count=1, temperature=10.5), "temperature", "INPUT", "0 to 10"),
    "unknown prior": (lambda: _G(count=1, prior="norma"), "prior", "INPUT", "near: normal"),
    "no meshes": (lambda: _reconstruct(), "meshes", "INPUT", "at least 1"),
    "many meshes": (lambda: _reconstruct(*[_raw(_MESH)] * 13), "meshes", "INPUT", "limit of 12"),
    "unknown type": (
        lambda: _reconstruct(pb.Mesh(data=b"x", mime_type="image/png")),
        "meshes[0].mime_type",
        "INPUT",
        "model/",
    ),
    "empty mesh": (lambda: _reconstruct(b""), "meshes[0].data", "MESH", "neither PLY nor OBJ"),
    "no mesh": (
        lambda: _reconstruct(_raw(_MESH), b"GET / HTTP/1.1"),
        "meshes[1].data",
        "MESH",
        "neither PLY nor OBJ",
    ),
    "vertices without their type": (
        lambda: _reconstruct(_MESH.tobytes()),
        "meshes[0].data",
        "MESH",
        "application/octet-stream",
    ),
    "glTF": (
        lambda: _reconstruct(_file("model/gltf-binary")),
        "meshes[0].data",
        "MESH",
        "written here but not read",
    ),
    "vertices cut off": (
        lambda: _reconstruct(_raw(_MESH), _raw(_MESH[:-1])),
        "meshes[1].data",
        "TOPOLOGY",
        "has 348 bytes, 30 vertices x 3 float32 need 360",
    ),
    "vertices of another family": (
        lambda: _reconstruct(_raw(np.zeros((31, 3), np.float32))),
        "meshes[0].data",
        "TOPOLOGY",
        "GetTopology",
    ),
    "nan": (lambda: _reconstruct(_raw(_odd(np.nan))), "meshes[0].data", "INPUT", "vertex 7 is"),
    "infinity": (
        lambda: pb.EncodeMeshesRequest(meshes=[_raw(_MESH), _raw(_odd(-np.inf))]),
        "meshes[1].data",
        "INPUT",
        "must be finite",
    ),
    "nan in a file": (
        lambda: _reconstruct(_file(_OBJ, _odd(np.nan))),
        "meshes[0].data",
        "INPUT",
        "vertex 7 is",
    ),
    "beyond float32 in a file": (
        lambda: _reconstruct(_file(_OBJ, _odd(12345.0)).replace(b"12345", b"1e99")),
        "meshes[0].data",
        "INPUT",
        "vertex 7 is",
    ),
    "too large to encode": (
        lambda: _reconstruct(_raw(_MESH), _raw(3e38 * np.sign(_MESHES.basis[0]).reshape(-1, 3))),
        "meshes[1].data",
        "INPUT",
        "too large",
    ),
    "truncated PLY": (
        lambda: _reconstruct(_file(_PLY)[:-1]),
        "meshes[0].data",
        "MESH",
        'is a broken PLY: ends within its element "face"',
    ),
    "truncated OBJ": (
        lambda: _reconstruct(_file(_OBJ).rpartition(b"f")[0]),
        "meshes[0].data",
        "TOPOLOGY",
        "39 triangles",
    ),
    "OBJ with a broken line": (
        lambda: _reconstruct(_file(_OBJ).replace(b"f 1 ", b"f one ")),
        "meshes[0].data",
        "MESH",
        'is a broken OBJ: has line 32 "f one',
    ),
    "PLY without faces": (
        lambda: _reconstruct(
            trimesh.PointCloud(_MESH).export(file_type="ply")  # type: ignore[no-untyped-call]  # trimesh's
        ),
        "meshes[0].data",
        "MESH",
        "one of faces",
    ),
    "more vertices": (
        lambda: _reconstruct(b"v 1 1 1\n" + _file(_OBJ)),
        "meshes[0].data",
        "TOPOLOGY",
        "more than 30 vertices",
    ),
    "fewer triangles": (
        lambda: _reconstruct(_file(_PLY, faces=_MESHES.faces[1:])),
        "meshes[0].data",
        "TOPOLOGY",
        "30 vertices and 39 triangles",
    ),
    "other triangles": (
        lambda: _reconstruct(_file(_PLY, faces=(_MESHES.faces + 1) % 30)),
        "meshes[0].data",
        "TOPOLOGY",
        "other triangles",
    ),
    "inside out": (
        lambda: _reconstruct(_file(_PLY, faces=_MESHES.faces[:, ::-1])),
        "meshes[0].data",
        "TOPOLOGY",
        "other triangles",
    ),
    "no latents": (lambda: _decode(), "latents", "INPUT", "at least 1"),
    "short latent": (
        lambda: _decode(_latent(_VALUES), _latent(_VALUES[1:])),
        "latents[1].values",
        "LATENT_SIZE",
        "needs 8",
    ),
    "nan in a latent": (
        lambda: _decode(_latent([np.nan, *_VALUES[1:]])),
        "latents[0].values[0]",
        "INPUT",
        "must be finite",
    ),
    "latent too far out": (
        lambda: _decode(_latent(_VALUES), _latent([3e38] * LATENT_SIZE)),
        "latents[1].values",
        "INPUT",
        "too large",
    ),
    "latent of an unknown family": (
        lambda: _decode(_latent(_VALUES, family="nobody")),
        "latents[0].family",
        "UNKNOWN_FAMILY",
        MESH_FAMILY,
    ),
    "path of one": (lambda: pb.InterpolateMeshesRequest(count=1), "count", "INPUT", "at least 2"),
    "path without an end": (
        lambda: pb.InterpolateMeshesRequest(
            start=pb.MeshEndpoint(latent=_latent(_VALUES)), count=2
        ),
        "end",
        "INPUT",
        "give a mesh",
    ),
    "path of an unknown form": (
        lambda: pb.InterpolateMeshesRequest(count=2, interpolation=7),  # type: ignore[arg-type]  # on purpose
        "interpolation",
        "INPUT",
        "no form",
    ),
    "path to a broken mesh": (
        lambda: _path(end=pb.MeshEndpoint(mesh=pb.Mesh(data=b"no"))),
        "end.mesh.data",
        "MESH",
        "neither",
    ),
    "path from far out": (
        lambda: _path(start=pb.MeshEndpoint(latent=_latent([3e38] * LATENT_SIZE))),
        "start",
        "INPUT",
        "too large",
    ),
    "path from an unknown prior": (
        lambda: _path(start=pb.MeshEndpoint(drawn=face_service_pb2.DrawnFace(prior="no"))),
        "start.drawn.prior",
        "INPUT",
        "normal",
    ),
}


@pytest.mark.parametrize(("request_of", "field", "reason", "said"), _BAD.values(), ids=_BAD.keys())
def test_bad_request_names_its_field_and_the_server_goes_on(
    meshes: MeshServiceStub,
    request_of: Callable[[], _Request],
    field: str,
    reason: str,
    said: str,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _call(meshes, request_of())

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # a call's error is the call
    bad = error_details_pb2.BadRequest()
    next(detail for detail in status.details if detail.Is(bad.DESCRIPTOR)).Unpack(bad)
    (violation,) = bad.field_violations
    assert (violation.field, violation.reason) == (field, reason)
    assert said in violation.description
    assert len(meshes.GenerateMeshes(_G(count=1)).meshes) == 1


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MeshServiceStub, Any]]:
    """A server of meshes of 5,000 vertices, and their model."""
    linear = linear_meshes(50, 100)
    for meshes in _served(tmp_path_factory, linear, max_message_bytes=4 * 1024 * 1024):
        yield meshes, linear


def test_meshes_of_5000_vertices_fit_as_many_as_a_message_holds(
    large: tuple[MeshServiceStub, LinearMeshes],
) -> None:
    meshes, linear = large
    sent = linear.some(60)

    def reconstruct(count: int, mime_type: str = "") -> pb.ReconstructMeshesResponse:
        request = pb.ReconstructMeshesRequest(
            meshes=[_raw(mesh) for mesh in sent[:count]], mime_type=mime_type
        )
        return meshes.ReconstructMeshes(request)

    answer = reconstruct(60)

    made = np.stack([np.frombuffer(it.mesh.data, "<f4").reshape(-1, 3) for it in answer.meshes])
    assert np.abs(made - linear.decode(linear.encode(sent))).max() < 1e-3
    with pytest.raises(grpc.RpcError, match="make meshes of more than"):
        reconstruct(60, "model/gltf-binary")
    with pytest.raises(grpc.RpcError, match="make meshes of more than"):
        meshes.GenerateMeshes(_G(count=80))


def test_files_of_5000_vertices_come_back_as_they_were(
    large: tuple[MeshServiceStub, LinearMeshes],
) -> None:
    meshes, linear = large
    topology = Topology(linear.faces, linear.template)
    sent = linear.some(2)
    files = [
        encode_mesh(mesh, kind, topology) for mesh, kind in zip(sent, (_PLY, _OBJ), strict=True)
    ]

    of_files = meshes.ReconstructMeshes(_reconstruct(*files))
    of_vertices = meshes.ReconstructMeshes(_reconstruct(*[_raw(mesh) for mesh in sent]))

    assert of_files == of_vertices


def test_stream_of_large_meshes_comes_in_messages_of_their_size(
    large: tuple[MeshServiceStub, LinearMeshes],
) -> None:
    meshes, _ = large

    parts = list(meshes.GenerateMeshesStream(_S(count=70, seed=1, mime_type=_OBJ)))

    assert [it.index for part in parts for it in part.meshes] == list(range(70))
    assert 1024 * 1024 < max(part.ByteSize() for part in parts) <= 4 * 1024 * 1024
