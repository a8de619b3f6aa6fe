"""Models loaded, replaced and unloaded while they serve."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from facegen.errors import FacegenError
from facegen.serving.engine import Engine, InferRequest
from facegen.serving.errors import (
    BackendError,
    CapabilityError,
    InputError,
    ModelNotFoundError,
    RepositoryError,
)
from facegen.serving.onnx.engine import OnnxEngine

WriteModel = Callable[..., Path]

_ONES = np.ones((2, 4), np.float32)


def _factor(engine: Engine, version: str = "") -> float:
    """What the model multiplies by."""
    return float(engine.infer("double", {"x": _ONES}, version=version)["y"][0, 0])


def _index(engine: Engine) -> dict[tuple[str, str], tuple[str, str]]:
    return {(state.name, state.version): (state.state, state.reason) for state in engine.index()}


@contextmanager
def _explicit(path: Path, *load: str) -> Iterator[OnnxEngine]:
    with OnnxEngine(path, threads=1, model_control="explicit", load_models=load) as engine:
        yield engine


def test_reload_serves_the_new_graph_and_unload_ends_it(write_model: WriteModel) -> None:
    with _explicit(write_model(), "*") as engine:
        before = _factor(engine)
        write_model(factor=3.0)
        engine.load("double")
        after = _factor(engine)
        engine.unload("double")

        assert (before, after) == (2, 3)
        with pytest.raises(ModelNotFoundError):
            _factor(engine)
        assert list(engine.models()) == []
        assert _index(engine) == {("double", "1"): ("UNAVAILABLE", "unloaded")}

        engine.unload("double")
        engine.load("double")
        assert _factor(engine) == 3
        assert _index(engine) == {("double", "1"): ("READY", "")}


def test_explicit_control_starts_with_what_is_named_alone(write_model: WriteModel) -> None:
    write_model("b")
    path = write_model("a")

    with _explicit(path, "b") as engine:
        ready = [info.name for info in engine.models()]
        index = _index(engine)
        engine.load("a")
        ready_then = [info.name for info in engine.models()]

    assert ready == ["b"]
    assert index == {("a", ""): ("UNAVAILABLE", "not loaded"), ("b", "1"): ("READY", "")}
    assert ready_then == ["a", "b"]


def test_explicit_control_may_start_with_nothing(tmp_path: Path) -> None:
    with _explicit(tmp_path) as engine:
        assert list(engine.models()) == []
        with pytest.raises(ModelNotFoundError):
            engine.load("double")
        with pytest.raises(ModelNotFoundError):
            engine.unload("double")

    with pytest.raises(ModelNotFoundError):
        OnnxEngine(tmp_path, model_control="explicit", load_models=("double",)).start()


@pytest.mark.parametrize("control", ["none", "poll"])
def test_loading_is_refused_without_explicit_control(write_model: WriteModel, control: Any) -> None:
    with OnnxEngine(write_model(), model_control=control) as engine:
        with pytest.raises(CapabilityError, match="--model-control explicit"):
            engine.load("double")
        with pytest.raises(CapabilityError, match="--model-control explicit"):
            engine.unload("double")

        assert _factor(engine) == 2


@pytest.mark.parametrize("name", ["..", "../double", "double/1", "/etc", "", ".", "double\0"])
def test_a_name_cannot_leave_the_repository(write_model: WriteModel, name: str) -> None:
    with _explicit(write_model(), "*") as engine:
        with pytest.raises(ModelNotFoundError):
            engine.load(name)
        with pytest.raises(ModelNotFoundError):
            engine.load(name, config="{}")
        with pytest.raises(InputError, match="is no model's name"):
            engine.load(name, config="{}", files={"1/model.onnx": b""})


def test_a_tampered_reload_leaves_the_old_model_serving_and_tells_why(
    write_model: WriteModel,
) -> None:
    path = write_model()
    with _explicit(path, "*") as engine:
        graph = path / "double" / "1" / "model.onnx"
        good = graph.read_bytes()
        graph.write_bytes(good[:-1] + b"!")
        with pytest.raises(RepositoryError, match="sha256"):
            engine.load("double")
        state, reason = _index(engine)["double", "1"]

        assert (_factor(engine), state) == (2, "READY")
        assert "its sha256 is" in reason

        graph.write_bytes(good)
        engine.load("double")
        assert _index(engine) == {("double", "1"): ("READY", "")}


def test_a_corrupt_new_version_leaves_the_old_one_serving_and_tells_why(
    write_model: WriteModel,
) -> None:
    path = write_model()
    with _explicit(path, "*") as engine:
        (path / "double" / "2").mkdir()
        (path / "double" / "2" / "model.onnx").write_bytes(b"cut")
        with pytest.raises(RepositoryError, match="ONNX Runtime cannot load it"):
            engine.load("double")
        index = _index(engine)

        assert _factor(engine) == 2
        assert index["double", "1"] == ("READY", "")
        state, reason = index["double", "2"]
        assert state == "UNAVAILABLE"
        assert "ONNX Runtime cannot load it" in reason

        shutil.rmtree(path / "double" / "2")
        engine.load("double")
        assert _index(engine) == {("double", "1"): ("READY", "")}


def test_a_version_that_fails_leaves_all_as_they_were(write_model: WriteModel) -> None:
    policy = "version_policy { all {} }"
    path = write_model(extra=policy)
    with _explicit(path, "*") as engine:
        write_model(versions=("1", "2"), factor=3.0, extra=policy)
        (path / "double" / "3").mkdir()
        (path / "double" / "3" / "model.onnx").write_bytes(b"cut")
        with pytest.raises(RepositoryError):
            engine.load("double")
        index = _index(engine)

        assert [info.version for info in engine.models()] == ["1"]
        assert _factor(engine) == 2
    assert index["double", "1"] == ("READY", "")
    assert index["double", "2"] == ("UNAVAILABLE", "version 3 failed")
    assert index["double", "3"][0] == "UNAVAILABLE"


def test_the_index_tells_of_what_is_under_way(write_model: WriteModel) -> None:
    path = write_model()
    seen: list[dict[tuple[str, str], tuple[str, str]]] = []
    with _explicit(path, "*") as engine:
        engine.on_change(lambda: seen.append(_index(engine)))
        write_model(versions=("2",))
        engine.load("double")

    assert seen == [{("double", "1"): ("UNLOADING", ""), ("double", "2"): ("READY", "")}]


def test_a_callback_that_fails_harms_no_reload(
    write_model: WriteModel, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("no good")

    with _explicit(write_model(), "*") as engine:
        engine.on_change(fail)
        write_model(factor=3.0)
        engine.load("double")

        assert _factor(engine) == 3
    assert "no good" in caplog.text


def test_a_broken_config_leaves_the_model_serving_and_tells_why(write_model: WriteModel) -> None:
    path = write_model()
    with _explicit(path, "*") as engine:
        (path / "double" / "config.pbtxt").write_text("max_batch_size: {")
        with pytest.raises(RepositoryError):
            engine.load("double")
        state, reason = _index(engine)["double", "1"]

        assert (_factor(engine), state) == (2, "READY")
        assert "is no ModelConfig" in reason


def test_versions_follow_their_policy(write_model: WriteModel) -> None:
    path = write_model(extra="version_policy { latest { num_versions: 2 } }")
    with _explicit(path, "*") as engine:
        for version, factor in (("2", 3.0), ("3", 4.0)):
            write_model(factor=factor, versions=(version,), extra="version_policy { all {} }")
        config = path / "double" / "config.pbtxt"
        plain = config.read_text().replace("version_policy { all {} }", "")
        plain = plain.replace("facegen.sha256.1", "elsewhere")

        served = {}
        for policy in ("all {}", "latest { num_versions: 2 }", "specific { versions: [1, 3] }"):
            config.write_text(f"{plain} version_policy {{ {policy} }}")
            engine.load("double")
            served[policy] = [_factor(engine, info.version) for info in engine.models()]
        index = _index(engine)

        assert _factor(engine) == 4
    assert list(served.values()) == [[2, 3, 4], [3, 4], [2, 4]]
    assert index["double", "2"] == ("UNAVAILABLE", "unloaded")


def test_what_has_not_changed_is_kept(
    write_model: WriteModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write_model(versions=("1", "2"), extra="version_policy { all {} }")
    with _explicit(path, "*") as engine:
        changes: list[int] = []
        engine.on_change(lambda: changes.append(1))

        engine.load("double")
        loaded_first = caplog.text.count("version warm")
        write_model(versions=("3",), extra="version_policy { all {} }")
        engine.load("double")

        assert (loaded_first, caplog.text.count("version warm")) == (2, 3)
        assert len(changes) == 1


def test_statistics_survive_reloads(write_model: WriteModel) -> None:
    with _explicit(write_model(), "*") as engine:
        _factor(engine)
        write_model(factor=3.0)
        engine.load("double")
        _factor(engine)
        engine.unload("double")
        engine.load("double")
        _factor(engine)
        (statistics,) = engine.statistics("double", "1")

    assert statistics.success.count == 3
    assert statistics.inference_count == 6


def test_a_version_that_goes_answers_until_all_know(write_model: WriteModel) -> None:
    path = write_model()
    factors: list[float] = []
    with _explicit(path, "*") as engine:
        engine.on_change(lambda: factors.extend((_factor(engine, "1"), _factor(engine))))
        write_model(factor=3.0, versions=("2",))
        engine.load("double")

        with pytest.raises(ModelNotFoundError):
            _factor(engine, "1")
    assert factors == [2, 3]


def test_what_waits_when_a_model_is_unloaded_still_runs(write_model: WriteModel) -> None:
    answers: list[dict[str, NDArray[Any]] | FacegenError] = []
    with _explicit(write_model(), "*") as engine:
        rows = np.ones((200, 4), np.float32)
        for _ in range(10):
            engine.submit(InferRequest("double", {"x": rows}), answers.append)
        engine.unload("double")

        assert len(answers) == 10
        for answer in answers:
            assert isinstance(answer, dict)
            np.testing.assert_array_equal(answer["y"], 2 * rows)


def _reload_under_load(engine: OnnxEngine, write_model: WriteModel, count: int) -> int:
    """Reload while two threads call; give the number of calls, all of which were answered."""
    stop = threading.Event()
    calls: list[int] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            count = 0
            while not stop.is_set():
                assert _factor(engine) in (2, 3)
                count += 1
            calls.append(count)
        except Exception as error:  # told by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(count):
        write_model(factor=2.0 + number % 2)
        engine.load("double")
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    return sum(calls)


def test_reloads_under_load_fail_no_request(write_model: WriteModel) -> None:
    with _explicit(write_model(), "*") as engine:
        calls = _reload_under_load(engine, write_model, 6)
        (statistics,) = engine.statistics("double")

    assert calls > 0
    assert statistics.success.count == calls
    assert statistics.failures == {}


def test_fifty_reloads_under_load_leave_memory_as_it_was(write_model: WriteModel) -> None:
    with _explicit(write_model(), "*") as engine:
        _reload_under_load(engine, write_model, 10)
        before_kib = _resident_kib()
        _reload_under_load(engine, write_model, 50)
        after_kib = _resident_kib()

    assert after_kib - before_kib < 8 * 1024


def _resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


_CONFIG = {
    "maxBatchSize": 8,
    "input": [{"name": "x", "dataType": "TYPE_FP32", "dims": ["4"]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}],
    "an_unknown_field": 1,
}


def test_a_config_may_be_given_until_the_next_load(write_model: WriteModel) -> None:
    with _explicit(write_model(), "*") as engine:
        engine.load("double", config=json.dumps(_CONFIG))
        given = engine.model("double").max_batch_size
        _factor(engine)
        engine.load("double")

        assert (given, engine.model("double").max_batch_size) == (8, 16)


@pytest.mark.parametrize("config", ["{", "3", '{"max_batch_size": "many"}', "[" * 10_000])
def test_a_config_that_is_none_is_refused(write_model: WriteModel, config: str) -> None:
    with _explicit(write_model(), "*") as engine:
        with pytest.raises(InputError, match="config: is no ModelConfig in JSON"):
            engine.load("double", config=config)

        assert _factor(engine) == 2


def test_files_may_be_given_and_never_lie_in_the_repository(
    write_model: WriteModel, tmp_path: Path
) -> None:
    path = write_model(factor=5.0)
    graph = (path / "double" / "1" / "model.onnx").read_bytes()
    write_model()
    files = {"7/model.onnx": graph, "7/notes.txt": b""}
    with _explicit(path, "*") as engine:
        before = sorted(path.rglob("*"))
        engine.load("double", config=json.dumps(_CONFIG), files=files)
        engine.load("fresh", config=json.dumps(_CONFIG), files=files)
        fresh = engine.infer("fresh", {"x": _ONES})["y"]
        ready = [(info.name, info.version) for info in engine.models()]
        factor = _factor(engine)
        engine.load("double")
        engine.unload("fresh")

        assert ready == [("double", "7"), ("fresh", "7")]
        assert (factor, fresh[0, 0], _factor(engine)) == (5, 5, 2)
        assert sorted(path.rglob("*")) == before
        assert _index(engine)["fresh", "7"] == ("UNAVAILABLE", "unloaded")


@pytest.mark.parametrize(
    "file",
    [
        "model.onnx",
        "1/../2/model.onnx",
        "../1/model.onnx",
        "1/..",
        "1/.hidden",
        "/1/model.onnx",
        "1/a/b",
        "1\\model.onnx",
        "0/model.onnx",
        "1/",
        "1/a\0",
        "",
    ],
)
def test_files_of_other_names_are_refused(write_model: WriteModel, file: str) -> None:
    with _explicit(write_model(), "*") as engine:
        with pytest.raises(InputError, match="is not named <version>/<file>"):
            engine.load("double", config=json.dumps(_CONFIG), files={file: b"x"})

        assert _factor(engine) == 2


def test_files_need_a_config(write_model: WriteModel) -> None:
    with _explicit(write_model(), "*") as engine, pytest.raises(InputError, match="config"):
        engine.load("double", files={"1/model.onnx": b"x"})


def test_a_model_of_another_backend_is_refused_when_loaded(write_model: WriteModel) -> None:
    path = write_model(config='backend: "fil"')
    with _explicit(path) as engine:
        with pytest.raises(BackendError, match="serve it with Triton"):
            engine.load("double")

        state, reason = _index(engine)["double", ""]
        assert state == "UNAVAILABLE"
        assert "fil" in reason
