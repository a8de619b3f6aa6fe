import json
from collections.abc import Callable
from concurrent import futures
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from facegen.serving.server import Server
from tests.serving.kserve.conftest import ROW, StartServer, infer, tensor

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_NOT_FOUND = grpc.StatusCode.NOT_FOUND
_UNSUPPORTED = grpc.StatusCode.UNIMPLEMENTED


def _code(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


def _load(stub: Any, model: str, **parameters: Any) -> None:
    request = pb.RepositoryModelLoadRequest(model_name=model)
    for key, value in parameters.items():
        field = "bytes_param" if isinstance(value, bytes) else "string_param"
        setattr(request.parameters[key], field, value)
    stub.RepositoryModelLoad(request)


def _unload(stub: Any, model: str) -> None:
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=model))


def _states(stub: Any, *, ready: bool = False) -> dict[tuple[str, str], str]:
    index = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=ready))
    return {(model.name, model.version): model.state for model in index.models}


def _statistics(stub: Any, model: str) -> Any:
    (statistics,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name=model)).model_stats
    return statistics


def test_the_server_lives_and_is_ready(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready


def test_a_server_that_starts_or_retires_lives_and_is_not_ready(
    start_same: StartServer,
) -> None:
    def told(server: Server) -> tuple[bool, bool, bool]:
        with grpc.insecure_channel(server.address) as channel:
            stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            return (
                stub.ServerLive(pb.ServerLiveRequest()).live,
                stub.ServerReady(pb.ServerReadyRequest()).ready,
                stub.ModelReady(pb.ModelReadyRequest(name="row")).ready,
            )

    server = start_same(loaded=False)

    assert told(server) == (True, False, False)
    server.load()
    assert told(server) == (True, True, True)
    server.retire()
    assert told(server) == (True, False, False)


def test_the_metadata_of_the_server_lists_the_extensions_that_are_there(stub: Any) -> None:
    metadata = stub.ServerMetadata(pb.ServerMetadataRequest())

    assert (metadata.name, metadata.version) == ("facegen", installed_version("facegen"))
    assert set(metadata.extensions) == {
        "classification", "logging", "model_configuration", "model_repository", "parameters",
        "schedule_policy", "statistics", "system_shared_memory", "trace",
    }  # fmt: skip


def test_the_metadata_of_a_model_has_its_tensors_and_its_ready_versions(stub: Any) -> None:
    batched = stub.ModelMetadata(pb.ModelMetadataRequest(name="versions"))
    other = stub.ModelMetadata(pb.ModelMetadataRequest(name="pair"))
    one = stub.ModelMetadata(pb.ModelMetadataRequest(name="versions", version="1"))

    assert (batched.name, list(batched.versions)) == ("versions", ["1", "2"])
    assert list(one.versions) == ["1"]
    assert batched.platform == "onnxruntime_onnx"
    (x,) = batched.inputs
    assert (x.name, x.datatype, list(x.shape)) == ("x", "FP32", [-1, 4])
    assert [(t.name, t.datatype, list(t.shape)) for t in other.outputs] == [
        ("c", "INT32", [2, 2]),
        ("d", "BYTES", [-1]),
    ]


def test_the_config_is_complete(stub: Any) -> None:
    config = stub.ModelConfig(pb.ModelConfigRequest(name="row")).config

    assert (config.name, config.max_batch_size) == ("row", 16)
    assert config.platform == "onnxruntime_onnx"
    assert config.default_model_filename == "model.onnx"


def test_what_is_not_there_is_not_ready_and_not_found(stub: Any) -> None:
    for name, version in (("nothing", ""), ("row", "7"), ("", "")):
        fields = {"name": name, "version": version}

        assert not stub.ModelReady(pb.ModelReadyRequest(**fields)).ready
        for call in (
            lambda f=fields: stub.ModelMetadata(pb.ModelMetadataRequest(**f)),
            lambda f=fields: stub.ModelConfig(pb.ModelConfigRequest(**f)),
        ):
            assert _code(call) == _NOT_FOUND
    # As Triton tells it, by this method alone.
    unknown = pb.ModelStatisticsRequest(name="nothing")
    assert _code(lambda: stub.ModelStatistics(unknown)) == _INVALID


@pytest.mark.parametrize("method", ["Ready", "Metadata", "Config", "Statistics"])
def test_a_version_that_is_no_number_is_invalid(stub: Any, method: str) -> None:
    request = getattr(pb, f"Model{method}Request")(name="row", version="newest")

    assert _code(lambda: getattr(stub, f"Model{method}")(request)) == _INVALID


def test_statistics_agree_exactly_with_what_clients_counted(stub: Any) -> None:
    before = _statistics(stub, "counted")
    rows = [1 + index % 5 for index in range(60)]

    def call(count: int) -> None:
        stub.ModelInfer(infer("counted", tensor("x", (count, 4)), raw=(ROW * count,)))

    with futures.ThreadPoolExecutor(8) as clients:
        list(clients.map(call, rows))

    after = _statistics(stub, "counted")
    executions = after.execution_count - before.execution_count
    assert after.inference_count - before.inference_count == sum(rows)
    assert after.inference_stats.success.count - before.inference_stats.success.count == 60
    assert after.inference_stats.queue.count - before.inference_stats.queue.count == 60
    assert after.last_inference >= before.last_inference
    batches = {batch.batch_size: batch.compute_infer.count for batch in after.batch_stats}
    batches_before = {batch.batch_size: batch.compute_infer.count for batch in before.batch_stats}
    assert sum(batches.values()) - sum(batches_before.values()) == executions
    assert sum(size * count for size, count in batches.items()) == after.inference_count


def test_statistics_without_a_name_are_those_of_all(stub: Any) -> None:
    all_models = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats

    assert {("row", "1"), ("versions", "1"), ("versions", "2")} <= {
        (each.name, each.version) for each in all_models
    }


def test_an_unloaded_model_is_gone_until_it_is_loaded(stub: Any) -> None:
    _unload(stub, "controlled")

    assert _states(stub)["controlled", "1"] == "UNAVAILABLE"
    assert ("controlled", "1") not in _states(stub, ready=True)
    assert _code(lambda: stub.ModelInfer(infer("controlled"))) == _NOT_FOUND
    _unload(stub, "controlled")  # again is no harm
    _load(stub, "controlled")
    assert _states(stub, ready=True)["controlled", "1"] == "READY"
    stub.ModelInfer(infer("controlled"))


def test_a_load_may_bring_its_config(stub: Any) -> None:
    config = {"backend": "onnxruntime", "max_batch_size": 2}
    three = infer("controlled", tensor("x", (3, 4)), raw=(ROW * 3,))

    _load(stub, "controlled", config=json.dumps(config))

    assert _code(lambda: stub.ModelInfer(three)) == _INVALID
    _load(stub, "controlled")
    stub.ModelInfer(three)


def test_a_load_may_bring_its_files(stub: Any, same_repository: Path) -> None:
    graph = (same_repository / "row" / "1" / "model.onnx").read_bytes()
    config = {"backend": "onnxruntime", "max_batch_size": 2}
    files = {"file:5/model.onnx": graph}

    _load(stub, "brought", config=json.dumps(config), **files)

    answer = stub.ModelInfer(infer("brought"))
    assert (answer.model_version, list(answer.raw_output_contents)) == ("5", [ROW])
    assert not (same_repository / "brought").exists()
    _unload(stub, "brought")


@pytest.mark.parametrize(
    "parameters",
    [
        {"config": "{no json"},
        {"config": b"{}"},
        {"colour": "red"},
        {"file:1/model.onnx": b"x"},
        {"config": "{}", "file:1/model.onnx": "text"},
        {"config": "{}", "file:../row/1/model.onnx": b"x"},
        {"config": "{}", "file:/etc/model.onnx": b"x"},
        {"config": "{}", "file:1/../../model.onnx": b"x"},
    ],
)
def test_a_load_with_wrong_parameters_is_invalid(stub: Any, parameters: dict[str, Any]) -> None:
    assert _code(lambda: _load(stub, "controlled", **parameters)) == _INVALID
    stub.ModelInfer(infer("controlled"))


@pytest.mark.parametrize("name", ["nothing", "", "../row", "row/1", "/row", ".."])
def test_a_load_of_what_the_repository_has_not_is_refused(stub: Any, name: str) -> None:
    assert _code(lambda: _load(stub, name)) in (_NOT_FOUND, _INVALID)


def test_another_repository_is_not_supported(stub: Any) -> None:
    name = {"repository_name": "other"}

    for call in (
        lambda: stub.RepositoryIndex(pb.RepositoryIndexRequest(**name)),
        lambda: stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(**name)),
        lambda: stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(**name)),
    ):
        assert _code(call) == _UNSUPPORTED


def test_an_unload_checks_its_parameter(stub: Any) -> None:
    request = pb.RepositoryModelUnloadRequest(model_name="controlled")
    request.parameters["unload_dependents"].string_param = "yes"

    assert _code(lambda: stub.RepositoryModelUnload(request)) == _INVALID
    assert stub.ModelReady(pb.ModelReadyRequest(name="controlled")).ready


def test_models_of_a_server_without_control_stay(start_same: StartServer) -> None:
    server = start_same(allow_admin=True)
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        assert _code(lambda: _load(stub, "row")) == grpc.StatusCode.FAILED_PRECONDITION
        assert _code(lambda: _unload(stub, "row")) == grpc.StatusCode.FAILED_PRECONDITION
        stub.ModelInfer(infer())


def test_a_version_replaced_while_requests_come_fails_none_of_them(stub: Any) -> None:
    row = np.frombuffer(ROW, np.float32)

    def call(_: int) -> bool:
        answer = stub.ModelInfer(infer("controlled"), timeout=30)
        return bool((np.frombuffer(answer.raw_output_contents[0], np.float32) == row).all())

    with futures.ThreadPoolExecutor(4) as clients:
        right = clients.map(call, range(200))
        for _ in range(5):
            _load(stub, "controlled")

    assert all(right)
