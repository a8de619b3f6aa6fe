"""Unmodified clients of Triton, against our server."""

import asyncio
import queue
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, shared_memory

_X = np.arange(8, dtype=np.float32).reshape(2, 4)


def _input(x: NDArray[Any] = _X, *, name: str = "x", datatype: str = "FP32") -> Any:
    value = triton.InferInput(name, x.shape, datatype)
    value.set_data_from_numpy(x)
    return value


def test_the_client_infers_and_asks_for_everything(same_address: str) -> None:
    with triton.InferenceServerClient(same_address) as client:
        result = client.infer(
            "row", [_input()], outputs=[triton.InferRequestedOutput("y")], request_id="mine",
            priority=1, timeout=5_000_000, parameters={"colour": "red", "share": 0.5},
        )  # fmt: skip
        classes = client.infer(
            "labelled", [_input(_X[:, 1:])],
            outputs=[triton.InferRequestedOutput("y", class_count=1)],
        )  # fmt: skip

        np.testing.assert_array_equal(result.as_numpy("y"), _X)
        assert result.get_response().id == "mine"
        assert classes.as_numpy("y").tolist() == [[b"3.000000:2"], [b"7.000000:2"]]
        assert client.is_server_live()
        assert client.is_model_ready("row", "1")
        assert client.get_model_config("row", as_json=True)["config"]["name"] == "row"
        assert client.get_model_metadata("row").inputs[0].name == "x"
        assert client.get_inference_statistics("row").model_stats[0].name == "row"
        assert client.get_trace_settings(as_json=True)["settings"]["trace_level"]
        assert client.get_log_settings(as_json=True)["settings"]["log_info"]


def test_the_client_controls_models_and_settings(same_address: str) -> None:
    with triton.InferenceServerClient(same_address) as client:
        client.unload_model("controlled", unload_dependents=True)
        assert not client.is_model_ready("controlled")
        client.load_model("controlled")
        assert client.is_model_ready("controlled")
        index = client.get_model_repository_index(as_json=True)["models"]
        assert {"name": "controlled", "version": "1", "state": "READY"} in index
        client.update_log_settings({"log_verbose_level": 0})
        client.update_trace_settings(settings={"trace_rate": "7", "trace_level": ["OFF"]})
        client.update_trace_settings(settings={"trace_rate": None, "trace_level": None})


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_the_client_compresses(same_address: str, compression: str) -> None:
    with triton.InferenceServerClient(same_address) as client:
        result = client.infer("row", [_input()], compression_algorithm=compression)

    np.testing.assert_array_equal(result.as_numpy("y"), _X)


def test_the_client_sends_strings(same_address: str) -> None:
    strings = np.array([b"one", "zwölf".encode(), b""], np.object_)
    numbers = np.zeros((2, 2), np.int32)
    inputs = [
        _input(numbers, name="a", datatype="INT32"),
        _input(strings, name="b", datatype="BYTES"),
    ]

    with triton.InferenceServerClient(same_address) as client:
        result = client.infer("pair", inputs)

    assert result.as_numpy("d").tolist() == strings.tolist()


def test_the_client_calls_back_of_calls_and_streams(same_address: str) -> None:
    answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()

    def done(result: Any, error: Any) -> None:
        answers.put((result, error))

    with triton.InferenceServerClient(same_address) as client:
        client.async_infer("row", [_input()], done)
        np.testing.assert_array_equal(answers.get(timeout=30)[0].as_numpy("y"), _X)
        client.start_stream(done)
        for index in range(20):
            client.async_stream_infer(
                "row", [_input()], request_id=str(index), enable_empty_final_response=True
            )
        client.async_stream_infer("nothing", [_input()])
        results = [answers.get(timeout=30)[0] for _ in range(20)]
        assert [result.get_response().id for result in results] == [str(i) for i in range(20)]
        assert "nothing" in str(answers.get(timeout=30)[1])
        client.stop_stream()


def test_the_client_passes_tensors_through_shared_memory(same_address: str) -> None:
    keys = [f"facegen-{uuid4().hex}" for _ in range(2)]
    regions = [
        shared_memory.create_shared_memory_region(name, key, _X.nbytes)
        for name, key in zip(("source", "target"), keys, strict=True)
    ]
    shared_memory.set_shared_memory_region(regions[0], [_X])
    source, target = triton.InferInput("x", _X.shape, "FP32"), triton.InferRequestedOutput("y")
    source.set_shared_memory("source", _X.nbytes)
    target.set_shared_memory("target", _X.nbytes)

    try:
        with triton.InferenceServerClient(same_address) as client:
            client.register_system_shared_memory("source", keys[0], _X.nbytes)
            client.register_system_shared_memory("target", keys[1], _X.nbytes)
            client.infer("row", [source], outputs=[target])
            status = client.get_system_shared_memory_status(as_json=True)
            client.unregister_system_shared_memory()
        result = shared_memory.get_contents_as_numpy(regions[1], np.float32, _X.shape)
        np.testing.assert_array_equal(result, _X)
        assert status["regions"].keys() == {"source", "target"}
    finally:
        for region in regions:
            shared_memory.destroy_shared_memory_region(region)


async def test_the_asyncio_client_infers_and_streams(same_address: str) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for index in range(10):
            yield {"model_name": "row", "inputs": [_input()], "request_id": str(index)}

    async with triton_aio.InferenceServerClient(same_address) as client:
        results = await asyncio.gather(*(client.infer("row", [_input()]) for _ in range(20)))
        ids = [result.get_response().id async for result, _ in client.stream_infer(requests())]

    for result in results:
        np.testing.assert_array_equal(result.as_numpy("y"), _X)
    assert ids == [str(index) for index in range(10)]


def test_the_client_gets_our_messages(same_address: str) -> None:
    with (
        triton.InferenceServerClient(same_address) as client,
        pytest.raises(InferenceServerException, match='model "row" takes') as caught,
    ):
        client.infer("row", [_input(_X[:, :3])])

    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
