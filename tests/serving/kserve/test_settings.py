from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from facegen.serving.kserve.trace_settings import change_traces, trace_message
from facegen.serving.telemetry.logs import log_settings, set_level
from facegen.serving.telemetry.trace_settings import TraceSettings
from tests.serving.kserve.conftest import StartServer

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_UNSUPPORTED = grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture(autouse=True)
def _at_info() -> None:
    set_level("info")


def _log(stub: Any, **settings: bool | int | str) -> dict[str, bool | int | str]:
    request = pb.LogSettingsRequest()
    for key, value in settings.items():
        kinds = {bool: "bool_param", int: "uint32_param", str: "string_param"}
        setattr(request.settings[key], kinds[type(value)], value)
    answer = stub.LogSettings(request)
    return {
        key: getattr(setting, setting.WhichOneof("parameter_choice"))
        for key, setting in answer.settings.items()
    }


def _traces(**settings: list[str]) -> Any:
    request = pb.TraceSettingRequest()
    for key, values in settings.items():
        request.settings[key].SetInParent()
        request.settings[key].value.extend(values)
    return request


def _told(answer: Any) -> dict[str, list[str]]:
    return {key: list(setting.value) for key, setting in answer.settings.items()}


def _code(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


def test_log_settings_tell_how_the_log_is_set(stub: Any) -> None:
    set_level("warning")

    assert _log(stub) == {
        "log_error": True, "log_warning": True, "log_info": False, "log_verbose_level": 0,
        "log_file": "", "log_format": "ISO8601",
    }  # fmt: skip


def test_log_settings_change_the_level(stub: Any) -> None:
    assert _log(stub, log_verbose_level=1)["log_verbose_level"] == 1
    assert log_settings().level == "debug"
    _log(stub, log_verbose_level=0)
    assert log_settings().level == "info"
    _log(stub, log_info=False, log_warning=False)
    assert log_settings().level == "error"
    assert _log(stub, log_warning=True)["log_warning"]
    assert log_settings().level == "warning"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"log_info": "yes"}, _INVALID),
        ({"log_verbose_level": True}, _INVALID),
        ({"colour": "red"}, _INVALID),
        ({"log_error": False, "log_warning": False, "log_info": False}, _INVALID),
        ({"log_warning": False}, _INVALID),
        ({"log_info": False, "log_verbose_level": 1}, _INVALID),
        ({"log_file": "/tmp/log"}, _UNSUPPORTED),
        ({"log_info": False, "log_format": "default"}, _UNSUPPORTED),
    ],
)
def test_wrong_log_settings_change_nothing(
    stub: Any, settings: dict[str, Any], code: grpc.StatusCode
) -> None:
    assert _code(lambda: _log(stub, **settings)) == code
    assert log_settings().level == "info"


def test_trace_settings_are_told_as_triton_does(stub: Any) -> None:
    assert _told(stub.TraceSetting(_traces())) == {
        "trace_level": ["OFF"], "trace_rate": ["1"], "trace_count": ["-1"],
        "trace_mode": ["opentelemetry"], "trace_file": [""], "log_frequency": ["0"],
    }  # fmt: skip
    known, unknown = (pb.TraceSettingRequest(model_name=name) for name in ("row", "nothing"))
    assert _told(stub.TraceSetting(known))["trace_level"] == ["OFF"]
    assert _code(lambda: stub.TraceSetting(unknown)) == _INVALID


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"trace_level": ["TIMESTAMPS"]}, _INVALID),  # this server's go nowhere
        ({"trace_level": ["TENSORS"]}, _INVALID),
        ({"trace_rate": ["0"]}, _INVALID),
        ({"trace_rate": ["often"]}, _INVALID),
        ({"trace_rate": ["1", "2"]}, _INVALID),
        ({"trace_count": ["-2"]}, _INVALID),
        ({"colour": ["red"]}, _INVALID),
        ({"trace_rate": ["5"], "trace_file": ["/tmp/x"]}, _UNSUPPORTED),
        ({"trace_mode": ["triton"]}, _UNSUPPORTED),
        ({"log_frequency": ["10"]}, _UNSUPPORTED),
    ],
)
def test_wrong_trace_settings_change_nothing(
    stub: Any, settings: dict[str, list[str]], code: grpc.StatusCode
) -> None:
    assert _code(lambda: stub.TraceSetting(_traces(**settings))) == code
    assert _told(stub.TraceSetting(_traces()))["trace_rate"] == ["1"]


def test_traces_of_one_model_alone_cannot_be_set(stub: Any) -> None:
    request = _traces(trace_rate=["5"])
    request.model_name = "row"

    assert _code(lambda: stub.TraceSetting(request)) == _UNSUPPORTED


def test_trace_settings_choose_every_so_many_calls_so_many_times() -> None:
    traces = TraceSettings(available=True)

    change_traces(traces, _traces(trace_rate=["3"], trace_count=["2"]).settings, model="")

    assert [traces.take() for _ in range(12)] == [False, False, True] * 2 + [False] * 6
    assert _told(trace_message(traces.values))["trace_count"] == ["0"]


def test_trace_settings_switch_off_and_go_back_to_what_they_were() -> None:
    traces = TraceSettings(available=True)

    change_traces(traces, _traces(trace_level=["OFF"], trace_rate=["9"]).settings, model="")
    assert not traces.take()
    change_traces(traces, _traces(trace_level=[], trace_rate=[]).settings, model="")
    assert traces.take()
    assert traces.values == traces.initial


def test_settings_are_read_by_all_and_changed_by_administrators(start_same: StartServer) -> None:
    server = start_same()
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        denied = grpc.StatusCode.PERMISSION_DENIED

        assert _log(stub)["log_info"] is True
        assert _told(stub.TraceSetting(_traces()))["trace_rate"] == ["1"]
        assert _code(lambda: _log(stub, log_verbose_level=1)) == denied
        assert _code(lambda: stub.TraceSetting(_traces(trace_rate=["5"]))) == denied
