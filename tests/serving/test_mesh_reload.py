"""Families of meshes whose versions are exchanged while calls are under way."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from facegen.serving.config import ServerConfig
from facegen.serving.server import Server
from facegen.v1 import mesh_service_pb2 as pb
from facegen.v1.mesh_service_pb2_grpc import MeshServiceStub
from tests.serving.mesh_graphs import MESH_FAMILY, LinearMeshes, linear_meshes, write_mesh_family

_VERSIONS = {"1": linear_meshes(), "2": linear_meshes(4, 4, seed=1)}
_MODELS = [f"{MESH_FAMILY}-{it}" for it in ("encoder", "decoder", "prior-mixture", "topology")]
_PLY = "model/ply"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Version 1 of a family; the second lies beside it, of another topology."""
    write_mesh_family(tmp_path / "second", _VERSIONS["2"])
    repository = write_mesh_family(tmp_path / "models", _VERSIONS["1"])
    for folder in [*repository.iterdir(), *(tmp_path / "second").iterdir()]:
        if folder.name.endswith("-prior-normal"):
            shutil.rmtree(folder)
    return repository


@pytest.fixture
def channel(repository: Path) -> Iterator[grpc.Channel]:
    config = {"model_control": "explicit", "load_models": ("*",), "allow_admin": True}
    server = Server(
        ServerConfig.model_validate(
            {"engine": f"onnx:{repository}", "address": "127.0.0.1:0", "threads": 2, **config}
        )
    )
    with closing(server):
        server.listen()
        server.load()
        with grpc.insecure_channel(server.address) as channel:
            yield channel


def _exchange(repository: Path, channel: grpc.Channel) -> None:
    """Load the second version of every model in the place of the first."""
    admin: Any = GRPCInferenceServiceStub(channel)
    for name in _MODELS:
        shutil.rmtree(repository / name)
        second = repository.parent / "second" / name
        (second / "1").rename(second / "2")
        config = (second / "config.pbtxt").read_text("utf-8")
        (second / "config.pbtxt").write_text(config.replace("sha256.1", "sha256.2"), "utf-8")
        second.rename(repository / name)
        admin.RepositoryModelLoad(kserve.RepositoryModelLoadRequest(model_name=name))


def _wanted(version: str, latents: list[list[float]]) -> NDArray[np.float32]:
    linear: LinearMeshes = _VERSIONS[version]
    return linear.decode(np.array(latents, np.float32))


def test_calls_answer_with_one_version_or_are_told_to_retry(
    repository: Path, channel: grpc.Channel
) -> None:
    meshes = MeshServiceStub(channel)
    stop, versions = threading.Event(), set()

    def generate(mime_type: str) -> int:
        answered = 0
        while not stop.is_set() or answered == 0:
            request = pb.GenerateMeshesRequest(
                family=MESH_FAMILY, count=2, seed=1, include_latents=True, mime_type=mime_type
            )
            try:
                answer = meshes.GenerateMeshes(request)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    continue  # between the two neither is complete
                raise
            answered += 1
            versions.add(answer.version)
            wanted = _wanted(answer.version, [list(it.latent.values) for it in answer.meshes])
            for drawn, vertices in zip(answer.meshes, wanted, strict=True):
                assert drawn.mesh.vertex_count == len(vertices)
                if not mime_type:
                    got = np.frombuffer(drawn.mesh.data, "<f4").reshape(-1, 3)
                    assert np.abs(got - vertices).max() < 1e-3
                else:
                    faces = len(_VERSIONS[answer.version].faces)
                    assert f"element face {faces}\n".encode() in drawn.mesh.data
        return answered

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(generate, mime_type) for mime_type in ("", _PLY) * 2]
        try:
            while "1" not in versions and not any(call.done() for call in calls):
                stop.wait(0.01)
            _exchange(repository, channel)
            while "2" not in versions and not any(call.done() for call in calls):
                stop.wait(0.01)
        finally:
            stop.set()
        assert all(call.result() for call in calls)

    assert versions == {"1", "2"}


def test_topology_is_that_of_the_version_there_is(repository: Path, channel: grpc.Channel) -> None:
    meshes = MeshServiceStub(channel)
    first = meshes.GetTopology(pb.GetTopologyRequest())

    _exchange(repository, channel)
    second = meshes.GetTopology(pb.GetTopologyRequest())

    for answer, version in ((first, "1"), (second, "2")):
        assert answer.version == version
        assert answer.faces == _VERSIONS[version].faces.tobytes()


def test_topology_that_is_replaced_under_its_version_is_asked_for_again(
    repository: Path, channel: grpc.Channel, tmp_path: Path
) -> None:
    meshes = MeshServiceStub(channel)
    before = meshes.GetTopology(pb.GetTopologyRequest())
    moved = linear_meshes(seed=3)
    moved.template[:] += 5
    name = f"{MESH_FAMILY}-topology"
    write_mesh_family(tmp_path / "moved", moved)
    shutil.rmtree(repository / name)
    (tmp_path / "moved" / name).rename(repository / name)

    admin: Any = GRPCInferenceServiceStub(channel)
    admin.RepositoryModelLoad(kserve.RepositoryModelLoadRequest(model_name=name))
    after = meshes.GetTopology(pb.GetTopologyRequest())

    assert before.template.data == _VERSIONS["1"].template.tobytes()
    assert after.template.data == moved.template.tobytes()


def test_family_that_is_loading_is_unavailable(repository: Path, channel: grpc.Channel) -> None:
    admin: Any = GRPCInferenceServiceStub(channel)
    admin.RepositoryModelUnload(kserve.RepositoryModelUnloadRequest(model_name=_MODELS[3]))

    with pytest.raises(grpc.RpcError, match=f'family "{MESH_FAMILY}" is loading') as caught:
        MeshServiceStub(channel).GetTopology(pb.GetTopologyRequest(family=MESH_FAMILY))

    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
