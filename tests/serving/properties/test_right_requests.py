"""Random right requests of the KServe v2 protocol, many at a time."""

from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tests.serving.properties.conftest import examples
from tests.serving.properties.graphs import DATATYPES, GRAPHS, Graph, Port, rows_alone
from tests.serving.properties.process import unharmed

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Case:
    """A request and what it is made of."""

    graph: Graph
    inputs: dict[str, Array]
    request: Any
    outputs: list[str]
    streamed: bool


def _array(draw: st.DrawFn, port: Port, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(DATATYPES[port.datatype][1])
    count = int(np.prod(shape))
    if dtype.hasobject:
        texts = draw(st.lists(st.text(max_size=6), min_size=count, max_size=count))
        array = np.empty(count, object)
        array[:] = [text.encode() for text in texts]
        return array.reshape(shape)
    bits = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    array = np.frombuffer(bits, dtype if dtype.kind != "b" else np.uint8)
    return (array % 2 == 1 if dtype.kind == "b" else array).reshape(shape)


def _raw(array: Array) -> bytes:
    if not array.dtype.hasobject:
        return array.tobytes()
    return b"".join(len(each).to_bytes(4, "little") + each for each in array.flat)


def _add_input(request: Any, port: Port, array: Array, *, raw: bool) -> None:
    tensor = request.inputs.add(name=port.name, datatype=port.datatype, shape=array.shape)
    if raw:
        request.raw_input_contents.append(_raw(array))
    else:
        field = getattr(tensor.contents, DATATYPES[port.datatype][2])
        field.extend(array.ravel().tolist())


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    graph = draw(st.sampled_from(GRAPHS))
    length = draw(st.integers(1, 4))
    rows = (draw(st.integers(1, graph.max_batch_size)),) if graph.max_batch_size else ()
    inputs = {port.name: _array(draw, port, (*rows, *port.axes(length))) for port in graph.inputs}
    names = [port.name for port in graph.outputs]
    outputs = draw(st.one_of(st.just([]), st.lists(st.sampled_from(names), unique=True)))
    request = pb.ModelInferRequest(
        model_name=graph.name,
        id=draw(st.text(max_size=5)),
        model_version=draw(st.sampled_from(["", "1"])),
    )
    raw = draw(st.booleans()) or any(not DATATYPES[p.datatype][2] for p in graph.inputs)
    for port in draw(st.permutations(graph.inputs)):
        _add_input(request, port, inputs[port.name], raw=raw)
    for name in outputs:
        request.outputs.add(name=name)
    if draw(st.booleans()):
        request.parameters["priority"].uint64_param = draw(st.integers(0, 3))
    return _Case(graph, inputs, request, outputs or names, draw(st.booleans()))


def _send(stubs: list[Any], cases: list[_Case]) -> list[Any]:
    """Send all at once, over all connections, some of them in one stream."""
    calls = [
        None
        if case.streamed
        else stubs[index % len(stubs)].ModelInfer.future(case.request, timeout=30)
        for index, case in enumerate(cases)
    ]
    stream = stubs[0].ModelStreamInfer(
        iter([case.request for case in cases if case.streamed]), timeout=30
    )
    streamed = [answer.infer_response for answer in stream]
    return [streamed.pop(0) if call is None else call.result() for call in calls]


def _check(case: _Case, answer: Any) -> None:
    wanted = rows_alone(case.graph, case.inputs)
    ports = {port.name: port for port in case.graph.outputs}
    assert (answer.id, answer.model_version) == (case.request.id, "1")
    assert [output.name for output in answer.outputs] == case.outputs
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        expected = wanted[output.name]
        assert (output.datatype, tuple(output.shape)) == (
            ports[output.name].datatype,
            expected.shape,
        )
        if expected.dtype.hasobject:
            texts = [text.encode() for text in expected.flat]
            assert raw == b"".join(len(each).to_bytes(4, "little") + each for each in texts)
        else:
            got = np.frombuffer(raw, expected.dtype).reshape(expected.shape)
            np.testing.assert_allclose(got, expected, rtol=1e-5, equal_nan=True)


def _counts(stub: Any) -> Array:
    """How many requests of a model went well, how many failed, and in how many batches."""
    counts = stub.ModelStatistics(pb.ModelStatisticsRequest(name="affine")).model_stats[0]
    ended = counts.inference_stats
    return np.array([ended.success.count, ended.fail.count, counts.execution_count])


def test_right_requests_equal_their_rows_run_alone(
    server: Any, channels: list[grpc.Channel]
) -> None:
    stubs = [GRPCInferenceServiceStub(channel) for channel in channels]

    @examples(80)
    @given(st.lists(_cases(), min_size=1, max_size=12))
    def check(cases: list[_Case]) -> None:
        for case, answer in zip(cases, _send(stubs, cases), strict=True):
            _check(case, answer)

    before = _counts(stubs[0])
    with unharmed(server, lambda: stubs[0].ServerLive(pb.ServerLiveRequest()).live):
        check()

    successes, failures, executions = _counts(stubs[0]) - before
    assert failures == 0
    assert executions < successes  # they met in batches
