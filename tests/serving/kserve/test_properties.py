"""Random requests, right ones and broken ones."""

from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from tests.serving.kserve.conftest import infer, tensor

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_METHODS = {method.name: method.full_name for method in _SERVICE.methods}
_STREAM = "ModelStreamInfer"
_DTYPES: dict[str, tuple[Any, str]] = {
    "BOOL": (np.bool_, "bool_contents"),
    "UINT8": (np.uint8, "uint_contents"),
    "UINT16": (np.uint16, "uint_contents"),
    "UINT32": (np.uint32, "uint_contents"),
    "UINT64": (np.uint64, "uint64_contents"),
    "INT8": (np.int8, "int_contents"),
    "INT16": (np.int16, "int_contents"),
    "INT32": (np.int32, "int_contents"),
    "INT64": (np.int64, "int64_contents"),
    "FP16": (np.float16, ""),
    "BF16": (ml_dtypes.bfloat16, ""),
    "FP32": (np.float32, "fp32_contents"),
    "FP64": (np.float64, "fp64_contents"),
}
# What a broken request may end with; INTERNAL is gRPC's own for bytes that are no message.
_PROPER = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}
_NO_MESSAGE = (grpc.StatusCode.INTERNAL, "Exception deserializing request!")

_thorough = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def _arrays(draw: st.DrawFn) -> tuple[str, NDArray[Any]]:
    """Draw a datatype and an array of it, 1 to 8 rows, of any bits but signalling NaN."""
    datatype = draw(st.sampled_from(sorted(_DTYPES)))
    dtype = np.dtype(_DTYPES[datatype][0])
    shape = draw(st.integers(1, 8)), draw(st.integers(0, 5))
    size = shape[0] * shape[1] * dtype.itemsize
    bits = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    return datatype, (bits % 2 if datatype == "BOOL" else bits).view(dtype).reshape(shape)


@_thorough
@given(_arrays(), st.booleans(), st.text(max_size=20))
def test_any_right_request_comes_back_bit_by_bit(
    stub: Any, given_array: tuple[str, NDArray[Any]], typed: bool, request_id: str
) -> None:
    datatype, array = given_array
    field = _DTYPES[datatype][1]
    if typed and field and not (array.dtype.kind == "f" and np.isnan(array).any()):
        x = tensor("x", array.shape, datatype, **{field: array.ravel().tolist()})
        request = infer(f"same-{datatype}", x, id=request_id)
    else:
        x = tensor("x", array.shape, datatype)
        request = infer(f"same-{datatype}", x, raw=(array.tobytes(),), id=request_id)

    answer = stub.ModelInfer(request)

    assert answer.id == request_id
    assert list(answer.outputs[0].shape) == list(array.shape)
    assert answer.raw_output_contents[0] == array.tobytes()


@_thorough
@given(st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), min_size=1, max_size=8))
def test_any_strings_come_back(stub: Any, rows: list[list[str]]) -> None:
    strings = [string.encode() for row in rows for string in row]
    x = tensor("x", (len(rows), 2), "BYTES", bytes_contents=strings)

    answer = stub.ModelInfer(infer("same-BYTES", x))

    raw = b"".join(len(string).to_bytes(4, "little") + string for string in strings)
    assert answer.raw_output_contents[0] == raw


def _status(address: str, method: str, message: bytes) -> tuple[grpc.StatusCode, str]:
    """Send bytes to a method and tell how that ended."""
    package, _, name = _METHODS[method].rpartition(".")
    path = f"/{package}/{name}"
    with grpc.insecure_channel(address) as channel:
        stream: Any = channel.stream_stream(path)  # of bytes, which its type lacks
        unary: Any = channel.unary_unary(path)
        try:
            if method == _STREAM:
                list(stream(iter([message]), timeout=20))
            else:
                unary(message, timeout=20)
        except grpc.RpcError as error:
            call: Any = error
            return call.code(), call.details()
    return grpc.StatusCode.OK, ""


def _check(address: str, method: str, message: bytes, stub: Any) -> None:
    code, details = _status(address, method, message)
    assert code in _PROPER or (code, details) == _NO_MESSAGE, details
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=20).live


@pytest.mark.parametrize("method", sorted(_METHODS))
@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(message=st.binary(max_size=60))
def test_random_bytes_end_in_a_proper_status(
    same_address: str, stub: Any, method: str, message: bytes
) -> None:
    _check(same_address, method, message, stub)


_RIGHT = infer(
    "row", tensor(), raw=(bytes(16),), outputs=("y",), id="a",
    parameters={"timeout": ("int64_param", 10**9), "priority": ("uint64_param", 0)},
).SerializeToString()  # fmt: skip
_TYPED = infer("same-INT8", tensor("x", (1, 2), "INT8", int_contents=[1, 2])).SerializeToString()
_STRINGS = infer(
    "same-BYTES", tensor("x", (1, 1), "BYTES"), raw=(b"\1\0\0\0a",)
).SerializeToString()


@_thorough
@given(
    st.sampled_from([_RIGHT, _TYPED, _STRINGS]),
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=4)), min_size=1, max_size=4),
    st.sampled_from(["ModelInfer", _STREAM]),
)
def test_mutated_requests_end_in_a_proper_status(
    same_address: str, stub: Any, right: bytes, changes: list[tuple[int, bytes]], method: str
) -> None:
    message = right
    for position, replacement in changes:
        message = message[:position] + replacement + message[position + 1 :]

    _check(same_address, method, message, stub)
