"""Any bytes and any messages to every method of every service."""

import json
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from facegen.serving.meshes.coding import encode_mesh
from facegen.serving.meshes.topology import Topology
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2, mesh_service_pb2, model_service_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from tests.serving.mesh_graphs import MESH_FAMILY, linear_meshes
from tests.serving.properties.calls import METHODS, call, proper
from tests.serving.properties.conftest import MOST_STREAMS, MOVABLE, SPARE, examples
from tests.serving.properties.messages import damaged, messages_of
from tests.serving.properties.process import unharmed

# What makes a random message right in parts.
_TEXTS = (
    "", "1", "tiny-vae", "affine", "words", "x", "y", "left", "right", "both", "FP32", "BYTES",
    "INT64", "image/png", "application/octet-stream", "normal", "timeout", "priority",
    "hand-expressions", "happiness", "classification", "sequence_id", "shared_memory_region",
    MOVABLE, "Smiling", "component-1", "image/gif", "image/webp", MESH_FAMILY, "model/ply",
    "shared_memory_byte_size",
    "binary_data", "trace_level", "log_verbose_level", "log_info", "TIMESTAMPS", "config",
    f"file:1/{SPARE}.onnx", "file:1/model.onnx", "facegen.v1.FaceService", "é\0\n{}\u2028",
    "9" * 400,
)  # fmt: skip
# What must go on serving is not named to what could end that.
_SPARE_TEXTS = (*(text for text in _TEXTS if text not in ("affine", "words")), SPARE, SPARE)

_LATENT = latent_pb2.Latent(family="tiny-vae", values=[0.5] * 8)
_IMAGE = image_pb2.Image(
    data=bytes(12), mime_type="application/octet-stream", height_px=2, width_px=2, channel_count=3
)
_PHOTO = image_pb2.Image(
    data=bytes(range(256)) * 9 * 3,
    mime_type="application/octet-stream",
    height_px=48,
    width_px=48,
    channel_count=3,
)
_MESHES = linear_meshes()
_MESH = mesh_service_pb2.Mesh(data=_MESHES.template.tobytes(), mime_type="application/octet-stream")
_PLY, _OBJ = (
    mesh_service_pb2.Mesh(
        data=encode_mesh(_MESHES.template, kind, Topology(_MESHES.faces, _MESHES.template))
    )
    for kind in ("model/ply", "model/obj")
)
_MESH_LATENT = latent_pb2.Latent(family=MESH_FAMILY, values=[0.5] * 8)
_CONFIG = {
    "backend": "onnxruntime",
    "max_batch_size": 4,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [6]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [3]}],
    "dynamic_batching": {"preferred_batch_size": [2], "priority_levels": 2},
    "version_policy": {"latest": {"num_versions": 1}},
}


def _infer() -> Any:
    request = kserve.ModelInferRequest(
        model_name="affine", id="7", raw_input_contents=[bytes(24), bytes(0)][:1]
    )
    request.inputs.add(name="x", datatype="FP32", shape=[1, 6])
    request.outputs.add(name="y").parameters["classification"].int64_param = 2
    request.parameters["timeout"].int64_param = 10**9
    return request


def _words() -> Any:
    request = kserve.ModelInferRequest(
        model_name="words", raw_input_contents=[b"\1\0\0\0a\0\0\0\0"] * 2
    )
    for name in ("left", "right"):
        request.inputs.add(name=name, datatype="BYTES", shape=[1, 2])
    return request


def _typed() -> Any:
    request = kserve.ModelInferRequest(model_name="arithmetic")
    for name in ("a", "b"):
        tensor = request.inputs.add(name=name, datatype="INT64", shape=[1, 2])
        tensor.contents.int64_contents.extend([1, -2])
    return request


def _load() -> Any:
    request = kserve.RepositoryModelLoadRequest(model_name=SPARE)
    request.parameters["config"].string_param = json.dumps(_CONFIG)
    return request


_RIGHT: dict[str, list[Any]] = {
    "Generate": [pb.GenerateRequest(family="tiny-vae", count=1, seed=1, temperature=0.5)],
    "GenerateStream": [pb.GenerateStreamRequest(count=2, seed=1)],
    "Reconstruct": [pb.ReconstructRequest(images=[_IMAGE], include_inputs=True)],
    "Encode": [pb.EncodeRequest(images=[_IMAGE], crop=image_pb2.Crop(center_fraction=0.5))],
    "Decode": [pb.DecodeRequest(latents=[_LATENT, _LATENT])],
    "Interpolate": [
        pb.InterpolateRequest(
            start=pb.Endpoint(latent=_LATENT), end=pb.Endpoint(image=_IMAGE), count=3
        )
    ],
    "Edit": [
        pb.EditRequest(
            family=MOVABLE,
            faces=[pb.FaceSource(image=_PHOTO), pb.FaceSource(drawn=pb.DrawnFace(seed=1))],
            moves=[pb.Move(direction="Smiling", strength=0.5)],
        ),
        pb.EditRequest(
            family=MOVABLE,
            faces=[pb.FaceSource(image=_PHOTO)],
            traversal=pb.Traversal(direction="component-1", start=-1, end=1, count=3),
            animation=pb.Animation(frame_ms=50, there_and_back=True),
        ),
    ],
    "Transfer": [
        pb.TransferRequest(images=[_PHOTO], finding=pb.FACE_FINDING_CROPPED),
        pb.TransferRequest(
            family="hand-expressions",
            images=[_PHOTO],
            targets=[pb.ExpressionTarget(expression="happiness", strength=0.5)],
            finding=pb.FACE_FINDING_CROPPED,
            max_faces=3,
            view=pb.TRANSFER_VIEW_SHEET,
        ),
    ],
    "GetTopology": [mesh_service_pb2.GetTopologyRequest(mime_type="model/obj")],
    "GenerateMeshes": [mesh_service_pb2.GenerateMeshesRequest(count=2, mime_type="model/ply")],
    "GenerateMeshesStream": [mesh_service_pb2.GenerateMeshesStreamRequest(count=2, seed=1)],
    "ReconstructMeshes": [
        mesh_service_pb2.ReconstructMeshesRequest(meshes=[_MESH], mime_type="model/gltf-binary"),
        mesh_service_pb2.ReconstructMeshesRequest(meshes=[_PLY, _OBJ]),
    ],
    "EncodeMeshes": [mesh_service_pb2.EncodeMeshesRequest(meshes=[_MESH, _PLY])],
    "DecodeMeshes": [mesh_service_pb2.DecodeMeshesRequest(latents=[_MESH_LATENT])],
    "InterpolateMeshes": [
        mesh_service_pb2.InterpolateMeshesRequest(
            start=mesh_service_pb2.MeshEndpoint(latent=_MESH_LATENT),
            end=mesh_service_pb2.MeshEndpoint(mesh=_OBJ),
            count=3,
        )
    ],
    "ListModels": [model_service_pb2.ListModelsRequest(page_size=1)],
    "GetModel": [model_service_pb2.GetModelRequest(family="tiny-vae")],
    "ModelInfer": [_infer(), _words(), _typed()],
    "ModelStreamInfer": [_infer(), _words(), _typed()],
    "RepositoryModelLoad": [_load()],
    "RepositoryModelUnload": [kserve.RepositoryModelUnloadRequest(model_name=SPARE)],
    "Check": [health_pb2.HealthCheckRequest(service="affine")],
    "ServerReflectionInfo": [
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="inference.GRPCInferenceService"
        )
    ],
}


def _name(method: MethodDescriptor) -> str:
    return method.name


def _right(method: MethodDescriptor) -> list[bytes]:
    """Right messages for a method; of the simpler ones, those with the first name that is there."""
    empty = message_factory.GetMessageClass(method.input_type)()
    for field in method.input_type.fields:
        if field.name in ("name", "model_name", "service"):
            setattr(empty, field.name, "affine")
    return [message.SerializeToString() for message in _RIGHT.get(method.name, [empty])]


def _messages(method: MethodDescriptor) -> st.SearchStrategy[bytes]:
    """Draw messages for a method: random ones of its type, right ones with damage, random bytes."""
    texts = _SPARE_TEXTS if method.name.startswith("Repository") else _TEXTS
    of_type = messages_of(method.input_type, texts).map(lambda m: m.SerializeToString())
    return st.one_of(of_type, of_type, damaged(_right(method)), st.binary(max_size=60))


class _Known:
    """What a server must go on answering."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._infer = GRPCInferenceServiceStub(channel).ModelInfer
        self._generate = FaceServiceStub(channel).Generate

    def __call__(self) -> tuple[Any, Any]:
        faces = pb.GenerateRequest(family="tiny-vae", count=2, seed=5)
        return self._infer(_infer(), timeout=30), self._generate(faces, timeout=30)


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_any_messages_end_in_a_proper_status(
    server: Any, channels: list[grpc.Channel], method: MethodDescriptor
) -> None:
    @examples(60 if method.name in _RIGHT else 15)
    @given(st.lists(_messages(method), min_size=1, max_size=3))
    def check(messages: list[bytes]) -> None:
        ending = call(channels[1], method, messages)
        assert proper(ending), ending

    assert proper(call(channels[1], method, _right(method)))
    with unharmed(server, _Known(channels[0])):
        check()


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_messages_that_do_not_parse_leave_no_call_behind(
    server: Any, channels: list[grpc.Channel], method: MethodDescriptor
) -> None:
    for _ in range(MOST_STREAMS + 5):
        ending = call(channels[2], method, [b"\0"])
        assert proper(ending), ending

    assert proper(call(channels[2], method, _right(method)))


# What JSON may hold and a message may not, and what makes recursive readers overflow.
_ODD_JSON = (
    "", "null", "[]", "3",
    '{"name": "\\ud800"}',
    '{"maxBatchSize": 1e999}',
    '{"maxBatchSize": NaN}',
    '{"maxBatchSize": 2147483647}',
    '{"input": null}',
    '{"input": [{"dims": ["9223372036854775807"]}]}',
    '{"parameters": {"\\u0000": {}}}',
    '{"a": ' * 2000 + "1" + "}" * 2000,
    "[" * 100_000,
    '{"modelWarmup": [{"name": "w", "batchSize": 2147483647, "inputs": {"x": '
    '{"dataType": "TYPE_FP32", "dims": ["6"], "zeroData": true}}}]}',
)  # fmt: skip


@st.composite
def _load_requests(draw: st.DrawFn) -> Any:
    """Draw a load request with a configuration that is wrong in some places."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        text = draw(st.sampled_from(_ODD_JSON))
    elif kind < 4:
        config = json_format.ParseDict(_CONFIG, model_config_pb2.ModelConfig())
        config.MergeFrom(draw(messages_of(model_config_pb2.ModelConfig.DESCRIPTOR, _SPARE_TEXTS)))
        text = json_format.MessageToJson(config)
    else:
        text = draw(damaged([json.dumps(_CONFIG).encode()])).decode(errors="replace")
    request = kserve.RepositoryModelLoadRequest(model_name=SPARE)
    request.parameters["config"].string_param = text
    files = st.sampled_from(("1/model.onnx", "1/é" + "é" * 200, "2/a", "../x", "1/../../x", "1"))
    for name in draw(st.lists(files, max_size=2)):
        request.parameters[f"file:{name}"].bytes_param = draw(st.binary(max_size=30))
    return request


def test_any_configuration_is_loaded_or_refused(server: Any, channels: list[grpc.Channel]) -> None:
    (method,) = (method for method in METHODS if method.name == "RepositoryModelLoad")

    @examples(80)
    @given(_load_requests())
    def check(request: Any) -> None:
        ending = call(channels[1], method, [request.SerializeToString()])
        assert proper(ending), ending

    with unharmed(server, _Known(channels[0])):
        check()
