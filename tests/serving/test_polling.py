"""Models that follow the repository by polling."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from facegen.serving.onnx.engine import OnnxEngine

WriteModel = Callable[..., Path]


@contextmanager
def _polling(path: Path) -> Iterator[OnnxEngine]:
    """An engine that looks when it is told to."""
    with OnnxEngine(path, threads=1, model_control="poll", poll_s=3600) as engine:
        yield engine


def _factors(engine: OnnxEngine) -> dict[str, float]:
    """What the models that are ready multiply by."""
    ones = np.ones((1, 4), np.float32)
    return {
        f"{info.name} {info.version}": float(
            engine.infer(info.name, {"x": ones}, version=info.version)["y"][0, 0]
        )
        for info in engine.models()
    }


def _index(engine: OnnxEngine) -> dict[tuple[str, str], tuple[str, str]]:
    return {(state.name, state.version): (state.state, state.reason) for state in engine.index()}


def test_added_changed_and_removed_models_are_noticed(write_model: WriteModel) -> None:
    path = write_model("a")
    with _polling(path) as engine:
        assert _factors(engine) == {"a 1": 2}

        write_model("b", factor=3.0)
        engine.poll()
        assert _factors(engine) == {"a 1": 2, "b 1": 3}

        write_model("a", factor=4.0)
        engine.poll()
        assert _factors(engine) == {"a 1": 4, "b 1": 3}

        write_model("a", factor=5.0, versions=("2",))
        engine.poll()
        assert _factors(engine) == {"a 2": 5, "b 1": 3}

        shutil.rmtree(path / "b")
        shutil.rmtree(path / "a" / "2")
        write_model("a", factor=4.0)
        engine.poll()
        assert _factors(engine) == {"a 1": 4}
        assert {name for name, _ in _index(engine)} == {"a"}


def test_nothing_is_loaded_again_while_nothing_changes(
    write_model: WriteModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with _polling(write_model()) as engine:
        write_model("broken", config="{")
        for _ in range(3):
            engine.poll()

    assert caplog.text.count("version warm") == 1
    assert caplog.text.count("model not loaded") == 1


def test_a_folder_that_is_still_copied_is_loaded_when_it_is_whole(
    write_model: WriteModel,
) -> None:
    path = write_model()
    with _polling(path) as engine:
        whole = write_model(factor=3.0, versions=("2",))
        graph = (whole / "double" / "2" / "model.onnx").read_bytes()
        config = path / "double" / "config.pbtxt"
        hashed = config.read_text().replace("facegen.sha256.1", "facegen.sha256.2")
        config.write_text(hashed)
        (path / "double" / "2" / "model.onnx").unlink()
        states = []
        for copied in (0, len(graph) // 2, len(graph)):
            if copied:
                (path / "double" / "2" / "model.onnx").write_bytes(graph[:copied])
            engine.poll()
            states.append((_factors(engine), _index(engine)))

    (factors, missing), (half_factors, half), (whole_factors, done) = states
    assert factors == half_factors == {"double 1": 2}
    assert missing["double", "1"][0] == half["double", "1"][0] == "READY"
    assert "does not exist" in missing["double", "1"][1]
    assert "its sha256 is" in half["double", "2"][1]
    assert whole_factors == {"double 2": 3}
    assert done["double", "2"] == ("READY", "")


def test_what_cannot_be_served_stops_neither_the_start_nor_the_others(
    write_model: WriteModel, tmp_path: Path
) -> None:
    write_model("broken", config="{")
    path = write_model()
    (path / "linked").symlink_to(tmp_path.parent)

    with _polling(path) as engine:
        index = _index(engine)
        factors = _factors(engine)

    assert factors == {"double 1": 2}
    assert "is no ModelConfig" in index["broken", ""][1]
    assert "is a link out of the repository" in index["linked", ""][1]


def test_an_empty_repository_may_fill_later(write_model: WriteModel, tmp_path: Path) -> None:
    with _polling(tmp_path) as engine:
        assert list(engine.models()) == []

        write_model()
        engine.poll()

        assert _factors(engine) == {"double 1": 2}


def test_the_repository_is_looked_at_again_and_again(write_model: WriteModel) -> None:
    with OnnxEngine(write_model(), model_control="poll", poll_s=0.01) as engine:
        for factor in (3.0, 4.0):
            changed = threading.Event()
            engine.on_change(changed.set)
            write_model(factor=factor, versions=(str(int(factor)),))

            assert changed.wait(30)
            assert _factors(engine) == {f"double {factor:.0f}": factor}
