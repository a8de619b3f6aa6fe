from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from tests.serving.kserve.conftest import ROW, infer, set_parameters, tensor

_INVALID = grpc.StatusCode.INVALID_ARGUMENT

# Of each datatype its numpy type, the field of its typed contents, and its extremes.
_VALUES: dict[str, tuple[Any, str, list[Any]]] = {
    "BOOL": (np.bool_, "bool_contents", [True, False]),
    "UINT8": (np.uint8, "uint_contents", [0, 255]),
    "UINT16": (np.uint16, "uint_contents", [0, 2**16 - 1]),
    "UINT32": (np.uint32, "uint_contents", [0, 2**32 - 1]),
    "UINT64": (np.uint64, "uint64_contents", [0, 2**64 - 1]),
    "INT8": (np.int8, "int_contents", [-(2**7), 2**7 - 1]),
    "INT16": (np.int16, "int_contents", [-(2**15), 2**15 - 1]),
    "INT32": (np.int32, "int_contents", [-(2**31), 2**31 - 1]),
    "INT64": (np.int64, "int64_contents", [-(2**63), 2**63 - 1]),
    "FP16": (np.float16, "", [-1.5, 65504.0]),
    "BF16": (ml_dtypes.bfloat16, "", [-1.5, 2.0**100]),
    "FP32": (np.float32, "fp32_contents", [-1.5, float("inf")]),
    "FP64": (np.float64, "fp64_contents", [-1.5, 1e300]),
}
_TYPED = [name for name, (_, field, _) in _VALUES.items() if field]


def _strings(*strings: bytes) -> bytes:
    return b"".join(len(string).to_bytes(4, "little") + string for string in strings)


def _refused(call: Callable[[], Any]) -> Any:
    """The error, which is a call too as its type does not say."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def _classes(model: str, rows: NDArray[Any], count: int) -> Any:
    x = tensor("x", rows.shape, "FP32")
    request = infer(model, x, raw=(rows.tobytes(),), outputs=("y",))
    set_parameters(request.outputs[0], {"classification": ("int64_param", count)})
    return request


@pytest.mark.parametrize("datatype", _VALUES)
def test_raw_contents_of_every_datatype_come_back_bit_by_bit(stub: Any, datatype: str) -> None:
    dtype, _, values = _VALUES[datatype]
    raw = np.array(values, dtype).tobytes()

    answer = stub.ModelInfer(infer(f"same-{datatype}", tensor("x", (1, 2), datatype), raw=(raw,)))

    assert list(answer.raw_output_contents) == [raw]
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == (datatype, [1, 2])


@pytest.mark.parametrize("datatype", _TYPED)
def test_typed_contents_of_every_datatype_come_back(stub: Any, datatype: str) -> None:
    dtype, field, values = _VALUES[datatype]
    x = tensor("x", (2, 1), datatype, **{field: values})

    answer = stub.ModelInfer(infer(f"same-{datatype}", x))

    assert list(answer.raw_output_contents) == [np.array(values, dtype).tobytes()]


def test_bytes_come_back_raw_and_typed(stub: Any) -> None:
    strings = [b"", b"zw\xc3\xb6lf"]
    raw = infer("same-BYTES", tensor("x", (1, 2), "BYTES"), raw=(_strings(*strings),))
    typed = infer("same-BYTES", tensor("x", (1, 2), "BYTES", bytes_contents=strings))

    answers = [stub.ModelInfer(request) for request in (raw, typed)]

    for answer in answers:
        assert list(answer.raw_output_contents) == [_strings(*strings)]


def test_many_values_that_are_read_one_by_one_come_back(stub: Any) -> None:
    numbers = [float(number) for number in range(16_000)]
    strings = [b"%d" % number for number in range(16_000)]
    typed = infer("same-FP32", tensor("x", (8, 2_000), fp32_contents=numbers))
    raw = infer("same-BYTES", tensor("x", (8, 2_000), "BYTES"), raw=(_strings(*strings),))

    answers = [stub.ModelInfer(request).raw_output_contents[0] for request in (typed, raw)]

    assert answers == [np.array(numbers, np.float32).tobytes(), _strings(*strings)]
    wrong = infer("same-FP32", tensor("x", (8, 2_000), fp32_contents=numbers[1:]))
    assert _refused(lambda: stub.ModelInfer(wrong)).code() == _INVALID


def test_any_byte_but_zero_is_a_true_bool(stub: Any) -> None:
    request = infer("same-BOOL", tensor("x", (1, 3), "BOOL"), raw=(b"\0\1\xff",))

    assert list(stub.ModelInfer(request).raw_output_contents) == [b"\0\1\1"]


def test_an_answer_names_the_model_the_version_that_ran_and_the_id(stub: Any) -> None:
    newest, named = (
        stub.ModelInfer(infer("versions", model_version=version, id="mine"))
        for version in ("", "01")
    )

    assert (newest.model_name, newest.model_version, newest.id) == ("versions", "2", "mine")
    assert named.model_version == "1"


def test_outputs_come_in_the_order_asked_for_and_once(stub: Any) -> None:
    inputs = tensor("b", (1,), "BYTES"), tensor("a", (2, 2), "INT32")
    request = infer("pair", *inputs, raw=(_strings(b"x"), ROW), outputs=("d", "c", "d"))

    answer = stub.ModelInfer(request)

    assert [output.name for output in answer.outputs] == ["d", "c"]
    assert list(answer.raw_output_contents) == [_strings(b"x"), ROW]


def test_one_output_of_two_is_given_alone(stub: Any) -> None:
    inputs = tensor("a", (2, 2), "INT32"), tensor("b", (0,), "BYTES")

    answer = stub.ModelInfer(infer("pair", *inputs, raw=(ROW, b""), outputs=("d",)))

    assert [(output.name, list(output.shape)) for output in answer.outputs] == [("d", [0])]


_A = tensor("a", (2, 2), "INT32")
_BAD = {
    "raw contents too many": (infer(raw=(ROW, ROW)), "raw_input_contents"),
    "raw contents too few": (
        infer("pair", _A, tensor("b", (1,), "BYTES"), raw=(ROW,)), "raw_input_contents",
    ),
    "raw contents too short": (infer(raw=(ROW[:-1],)), 'inputs["x"]'),
    "raw contents too long": (infer(raw=(ROW + b"0",)), 'inputs["x"]'),
    "no contents": (infer("row", tensor()), 'inputs["x"].contents.fp32_contents'),
    "raw and typed": (
        infer("row", tensor(fp32_contents=[0] * 4), raw=(ROW,)), 'inputs["x"].contents',
    ),
    "typed too few": (
        infer("row", tensor(fp32_contents=[0] * 3)), 'inputs["x"].contents.fp32_contents',
    ),
    "typed of another datatype": (
        infer("row", tensor(fp64_contents=[0] * 4)), 'inputs["x"].contents',
    ),
    "typed of two datatypes": (
        infer("row", tensor(fp32_contents=[0] * 4, int_contents=[0])), 'inputs["x"].contents',
    ),
    "typed out of range": (
        infer("same-INT8", tensor("x", (1, 1), "INT8", int_contents=[300])),
        'inputs["x"].contents.int_contents',
    ),
    "typed FP16": (
        infer("same-FP16", tensor("x", (1, 1), "FP16", fp32_contents=[1])),
        'inputs["x"].contents',
    ),
    "no rows": (infer("row", tensor("x", (0, 4)), raw=(b"",)), 'inputs["x"].shape'),
    "too many rows": (infer("row", tensor("x", (17, 4)), raw=(ROW * 17,)), 'inputs["x"].shape'),
    "2^62 rows": (infer("row", tensor("x", (2**62, 4)), raw=(ROW,)), 'inputs["x"].shape'),
    "free axis of 2^62": (
        infer("same-FP32", tensor("x", (1, 2**62)), raw=(ROW,)), 'inputs["x"]',
    ),
    "free axis of 2^62 strings": (
        infer("same-BYTES", tensor("x", (8, 2**62), "BYTES"), raw=(b"",)), 'inputs["x"]',
    ),
    "negative rows": (infer("row", tensor("x", (-1, 4)), raw=(ROW,)), 'inputs["x"].shape'),
    "negative free axis": (
        infer("same-FP32", tensor("x", (1, -4)), raw=(ROW,)), 'inputs["x"].shape',
    ),
    "no shape": (infer("row", tensor("x", ()), raw=(ROW,)), 'inputs["x"].shape'),
    "more axes than can be multiplied": (
        infer("row", tensor("x", (2**62,) * 1_000_000, fp32_contents=[0])), 'inputs["x"].shape',
    ),
    "wrong rank": (infer("row", tensor("x", (4,)), raw=(ROW,)), 'inputs["x"].shape'),
    "wrong size": (infer("row", tensor("x", (1, 2)), raw=(ROW[:8],)), 'inputs["x"].shape'),
    "wrong datatype": (
        infer("row", tensor("x", (1, 4), "INT32"), raw=(ROW,)), 'inputs["x"].datatype',
    ),
    "no datatype": (infer("row", tensor("x", (1, 4), "fp32"), raw=(ROW,)), 'inputs["x"].datatype'),
    "unknown input": (infer("row", tensor("z"), raw=(ROW,)), 'inputs["z"]'),
    "input twice": (infer("row", tensor(), tensor(), raw=(ROW, ROW)), 'inputs["x"]'),
    "missing input": (infer("pair", _A, raw=(ROW,)), "inputs"),
    "unknown output": (infer(outputs=("z",)), 'outputs["z"]'),
    "version no number": (infer(model_version="new"), "model_version"),
    "string cut off": (
        infer("pair", _A, tensor("b", (1,), "BYTES"), raw=(ROW, b"\4\0\0\0abc")), 'inputs["b"]',
    ),
    "string too many": (
        infer("pair", _A, tensor("b", (1,), "BYTES"), raw=(ROW, _strings(b"a", b""))),
        'inputs["b"]',
    ),
    "length cut off": (
        infer("pair", _A, tensor("b", (1,), "BYTES"), raw=(ROW, b"\0\0")), 'inputs["b"]',
    ),
    "timeout no number": (
        infer(parameters={"timeout": ("string_param", "1s")}), 'parameters["timeout"]',
    ),
    "timeout negative": (
        infer(parameters={"timeout": ("int64_param", -1)}), 'parameters["timeout"]',
    ),
    "priority negative": (
        infer(parameters={"priority": ("int64_param", -1)}), 'parameters["priority"]',
    ),
    "sequence_start no bool": (
        infer(parameters={"sequence_start": ("int64_param", 1)}), 'parameters["sequence_start"]',
    ),
    "reserved parameter": (
        infer(parameters={"triton_x": ("bool_param", True)}), 'parameters["triton_x"]',
    ),
    "no classes": (_classes("labelled", np.zeros((1, 3), "f4"), 0), "outputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", _BAD)
def test_a_wrong_request_is_invalid_and_names_the_field(stub: Any, name: str) -> None:
    request, field = _BAD[name]

    error = _refused(lambda: stub.ModelInfer(request, timeout=10))

    assert error.code() == _INVALID, error.details()
    bad = error_details_pb2.BadRequest()
    rpc_status.from_call(error).details[1].Unpack(bad)
    assert bad.field_violations[0].field.startswith(field), error.details()


def test_unknown_models_and_versions_are_not_found(stub: Any) -> None:
    requests = [infer("nothing"), infer("row", model_version="7"), infer("")]

    errors = [_refused(partial(stub.ModelInfer, request)) for request in requests]

    assert {error.code() for error in errors} == {grpc.StatusCode.NOT_FOUND}


@pytest.mark.parametrize(
    "parameter",
    [
        ("bool_param", True),
        ("int64_param", -1),
        ("string_param", "x"),
        ("double_param", 0.5),
        ("uint64_param", 2**63),
    ],
)
def test_parameters_that_are_nobodys_are_left_alone(stub: Any, parameter: tuple[str, Any]) -> None:
    parameters = {"colour": parameter, "sequence_id": ("string_param", "x")}

    stub.ModelInfer(infer(parameters=parameters))


def test_a_timeout_in_microseconds_is_kept(stub: Any) -> None:
    request = infer("waiting", parameters={"timeout": ("int64_param", 50_000)})

    error = _refused(lambda: stub.ModelInfer(request, timeout=30))

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "0.050 s" in error.details()


def test_classes_are_the_highest_values_with_their_labels(stub: Any) -> None:
    rows = np.array([[0.1, 0.7, 0.2], [np.nan, 2, 2]], np.float32)

    answer = stub.ModelInfer(_classes("labelled", rows, 2))

    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("BYTES", [2, 2])
    assert list(answer.raw_output_contents) == [
        _strings(b"0.700000:1:dog", b"0.200000:2", b"2.000000:1:dog", b"2.000000:2")
    ]


def test_more_classes_than_values_are_all_values_and_nan_is_last(stub: Any) -> None:
    answer = stub.ModelInfer(_classes("labelled", np.array([[np.nan, -np.inf, 1]], "f4"), 9))

    assert list(answer.raw_output_contents) == [
        _strings(b"1.000000:2", b"-inf:1:dog", b"nan:0:cat")
    ]


def test_writing_many_classes_keeps_no_other_request_waiting(stub: Any) -> None:
    values = np.zeros((1, 1_000_000), np.float32)
    request = infer("same-FP32", tensor("x", values.shape), raw=(values.tobytes(),), outputs=("y",))
    set_parameters(request.outputs[0], {"classification": ("int64_param", 2**62)})

    def executions() -> int:
        asked = pb.ModelStatisticsRequest(name="same-FP32")
        return int(stub.ModelStatistics(asked).model_stats[0].execution_count)

    before = executions()
    classes = stub.ModelInfer.future(request)
    while executions() == before:
        assert not classes.done()

    stub.ModelInfer(infer())

    assert not classes.done()
    classes.cancel()


def test_classes_of_strings_are_refused(stub: Any) -> None:
    request = infer(
        "same-BYTES", tensor("x", (1, 1), "BYTES"), raw=(_strings(b"x"),), outputs=("y",)
    )
    set_parameters(request.outputs[0], {"classification": ("int64_param", 1)})

    assert _refused(lambda: stub.ModelInfer(request)).code() == _INVALID
