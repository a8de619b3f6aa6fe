import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from facegen.serving.onnx.cpus import available_cpu_count
from facegen.serving.errors import (
    DeadlineError,
    DeviceError,
    EngineClosedError,
    InputError,
    ModelNotFoundError,
    RepositoryError,
)
from facegen.serving.onnx.engine import OnnxEngine

WriteModel = Callable[..., Path]


def _rows(count: int, *, first: int = 0) -> NDArray[np.float32]:
    return np.arange(first * 4, (first + count) * 4, dtype=np.float32).reshape(count, 4)


@pytest.mark.parametrize("count", [1, 8, 9, 100])
async def test_any_number_of_rows_is_answered_in_order(write_model: WriteModel, count: int) -> None:
    async with OnnxEngine(write_model()) as engine:
        outputs = await engine.infer("double", {"x": _rows(count)})

    np.testing.assert_array_equal(outputs["y"], 2 * _rows(count))


async def test_concurrent_callers_each_get_their_own_rows(write_model: WriteModel) -> None:
    sizes = [1, 3, 16, 40, 2, 7] * 5
    async with OnnxEngine(write_model(), threads=2, max_batch_rows=8) as engine:
        answers = await asyncio.gather(
            *(
                engine.infer("double", {"x": _rows(size, first=index)})
                for index, size in enumerate(sizes)
            )
        )
        histogram = engine.batch_sizes()["double", "1"]

    for index, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
        np.testing.assert_array_equal(answer["y"], 2 * _rows(size, first=index))
    assert sum(rows * count for rows, count in histogram.items()) == sum(sizes)
    assert 1 < max(histogram) <= 8


async def test_a_row_gives_the_same_bits_in_any_batch(write_model: WriteModel) -> None:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((40, 4), dtype=np.float32)
    path = write_model(weight=generator.standard_normal((4, 4), dtype=np.float32))

    async with OnnxEngine(path) as engine:
        whole = (await engine.infer("double", {"x": rows}))["y"]
        alone = [(await engine.infer("double", {"x": row[None]}))["y"] for row in rows]
        mixed = await asyncio.gather(
            *(engine.infer("double", {"x": rows[at : at + 3]}) for at in range(0, 40, 3))
        )

    np.testing.assert_array_equal(np.concatenate(alone), whole)
    np.testing.assert_array_equal(np.concatenate([answer["y"] for answer in mixed]), whole)


async def test_models_are_listed_by_name_and_version_with_their_parameters(
    write_model: WriteModel,
) -> None:
    write_model("b", versions=("9", "10"), extra="version_policy { all {} }")
    path = write_model("a", extra='parameters { key: "k" value { string_value: "v" } }')

    async with OnnxEngine(path) as engine:
        models = await engine.models()

    assert [(model.name, model.version) for model in models] == [
        ("a", "1"),
        ("b", "9"),
        ("b", "10"),
    ]
    assert models[0].parameters["k"] == "v"
    assert models[0].max_batch_size == 16
    assert models[0].inputs[0].shape == (4,)


@pytest.mark.parametrize(
    ("inputs", "field", "message"),
    [
        ({}, "inputs", r"\[\] given"),
        ({"x": _rows(1), "more": _rows(1)}, "inputs", "more"),
        ({"x": _rows(1).astype(np.float64)}, "x", "float64.*takes float32"),
        ({"x": _rows(1)[0]}, "x", r"has shape \(4,\)"),
        ({"x": np.zeros((1, 5), np.float32)}, "x", r"has shape \(1, 5\)"),
        ({"x": np.zeros((0, 4), np.float32)}, "x", "no rows"),
    ],
)
async def test_wrong_inputs_are_refused_by_field(
    write_model: WriteModel, inputs: dict[str, NDArray[np.float32]], field: str, message: str
) -> None:
    async with OnnxEngine(write_model()) as engine:
        with pytest.raises(InputError, match=message) as caught:
            await engine.infer("double", inputs)

    assert caught.value.field == field


async def test_unknown_model_and_version_are_refused_and_what_is_ready_named(
    write_model: WriteModel,
) -> None:
    async with OnnxEngine(write_model()) as engine:
        with pytest.raises(ModelNotFoundError, match="ready: double"):
            await engine.infer("treble", {"x": _rows(1)})
        with pytest.raises(ModelNotFoundError, match=r'version "2".*ready: double 1'):
            await engine.infer("double", {"x": _rows(1)}, version="2")


async def test_a_timeout_that_has_passed_is_answered_at_once(write_model: WriteModel) -> None:
    async with OnnxEngine(write_model()) as engine:
        with pytest.raises(DeadlineError):
            await engine.infer("double", {"x": _rows(1)}, timeout_s=0.0)

        assert engine.batch_sizes()["double", "1"] == {}


async def test_reload_serves_the_new_graph_and_unload_ends_it(write_model: WriteModel) -> None:
    path = write_model()
    async with OnnxEngine(path) as engine:
        write_model(factor=3.0)
        await engine.load("double")
        tripled = await engine.infer("double", {"x": _rows(2)})
        await engine.unload("double")
        with pytest.raises(ModelNotFoundError):
            await engine.infer("double", {"x": _rows(2)})
        with pytest.raises(ModelNotFoundError):
            await engine.unload("double")

        assert list(await engine.models()) == []

    np.testing.assert_array_equal(tripled["y"], 3 * _rows(2))


async def test_a_reload_that_fails_leaves_the_old_model_serving(write_model: WriteModel) -> None:
    path = write_model()
    async with OnnxEngine(path) as engine:
        (path / "double" / "1" / "model.onnx").write_bytes(b"cut")
        with pytest.raises(RepositoryError, match="sha256"):
            await engine.load("double")

        outputs = await engine.infer("double", {"x": _rows(2)})

    np.testing.assert_array_equal(outputs["y"], 2 * _rows(2))


async def test_requests_under_way_survive_a_reload(write_model: WriteModel) -> None:
    async with OnnxEngine(write_model(), threads=1) as engine:
        waiting = [asyncio.create_task(engine.infer("double", {"x": _rows(50)})) for _ in range(10)]
        await asyncio.sleep(0)  # lets them begin
        await engine.load("double")
        answers = await asyncio.gather(*waiting)

    for answer in answers:
        np.testing.assert_array_equal(answer["y"], 2 * _rows(50))


async def test_close_finishes_what_waits_and_refuses_what_comes(write_model: WriteModel) -> None:
    engine = await OnnxEngine(write_model(), threads=1).start()
    waiting = asyncio.create_task(engine.infer("double", {"x": _rows(500)}))
    await asyncio.sleep(0)  # lets it begin

    await engine.close()

    np.testing.assert_array_equal((await waiting)["y"], 2 * _rows(500))
    with pytest.raises(EngineClosedError):
        await engine.infer("double", {"x": _rows(1)})
    with pytest.raises(EngineClosedError):
        await engine.load("double")
    await engine.close()


@pytest.mark.gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has no CUDA",
)
async def test_cuda_answers_as_the_cpu_does(write_model: WriteModel) -> None:
    async with OnnxEngine(write_model(), device="cuda") as engine:
        outputs = await engine.infer("double", {"x": _rows(37)})

    np.testing.assert_allclose(outputs["y"], 2 * _rows(37), rtol=1e-3)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has CUDA",
)
def test_cuda_that_is_not_there_is_refused_and_nothing_falls_back(write_model: WriteModel) -> None:
    with pytest.raises(DeviceError, match=r"CUDAExecutionProvider.*serve-gpu"):
        OnnxEngine(write_model(), device="cuda")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dims: 4 }\noutput", "dims: 5 }\noutput", "config.pbtxt says float32"),
        ('name: "y"', 'name: "z"', "its outputs are"),
        (
            'output { name: "y" data_type: TYPE_FP32',
            'output { name: "y" data_type: TYPE_UINT8',
            "y",
        ),
    ],
)
async def test_a_config_that_contradicts_the_graph_is_refused(
    write_model: WriteModel, old: str, new: str, message: str
) -> None:
    path = write_model()
    config = path / "double" / "config.pbtxt"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))

    with pytest.raises(RepositoryError, match=message):
        await OnnxEngine(path).start()


async def test_a_file_that_is_no_graph_is_refused(write_model: WriteModel) -> None:
    path = write_model(
        config='backend: "onnxruntime" max_batch_size: 1 '
        'input { name: "x" data_type: TYPE_FP32 dims: 4 } '
        'output { name: "y" data_type: TYPE_FP32 dims: 4 }'
    )
    (path / "double" / "1" / "model.onnx").write_bytes(b"not a graph")

    with pytest.raises(RepositoryError, match="ONNX Runtime cannot load it"):
        await OnnxEngine(path).start()


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"own": "0::/a/b\n", "a/b/cpu.max": "max 100000\n", "a/cpu.max": "1000 100000\n"}, 1),
        ({"own": "0::/a/b\n", "a/b/cpu.max": "100000 100000\n"}, 1),
        ({"own": "0::/not/seen/here\n", "cpu.max": "100000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 10_000),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 10_000),
        ({}, 10_000),
    ],
)
def test_threads_respect_the_quota_of_the_container(
    tmp_path: Path, files: dict[str, str], most: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    count = available_cpu_count(cgroup_root=tmp_path, own_cgroup=tmp_path / "own")

    assert count == min(most, len(os.sched_getaffinity(0)))
