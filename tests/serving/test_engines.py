"""One suite for every engine: here, on a real Triton, and on another facegen server."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from benchmarks.triton_server import start_triton, triton_problem
from facegen.errors import FacegenError
from facegen.export.conversion import convert_repository
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, Engine, InferRequest
from facegen.serving.errors import (
    CallCancelledError,
    DeadlineError,
    EngineClosedError,
    InputError,
    ModelNotFoundError,
    RepositoryError,
)
from facegen.serving.faces.family import Family, find_family
from facegen.serving.faces.pipelines import Draw, Pipelines
from facegen.serving.onnx.engine import OnnxEngine
from facegen.serving.remote.engine import TritonEngine
from tests.serving.conftest import ServerProcess

_WAIT_S = 20
_DRAW = Draw(seed=7, first_index=3, count=5, temperature=1.0, prior="mixture")
_WAITING = """
max_batch_size: 16
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
dynamic_batching { preferred_batch_size: 16 max_queue_delay_microseconds: 1000000 }
"""
"""A model whose rows wait for others, long enough to catch them waiting."""

OpenEngine = Callable[[], Engine]


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory, tiny_repository: Path, double_graph: bytes
) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    shutil.copytree(tiny_repository, folder, dirs_exist_ok=True)
    (folder / "waiting" / "1").mkdir(parents=True)
    (folder / "waiting" / "1" / "model.onnx").write_bytes(double_graph)
    (folder / "waiting" / "config.pbtxt").write_text(f'backend: "onnxruntime"{_WAITING}')
    return folder


@pytest.fixture(scope="module", params=["onnx", "triton", "facegen"])
def open_engine(
    request: pytest.FixtureRequest,
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
    serve: Callable[..., ServerProcess],
) -> Iterator[OpenEngine]:
    """What opens an engine of each kind on the same models; remote servers serve all tests."""
    explicit = ("--model-control", "explicit", "--load-models", "*", "--allow-admin")
    with ExitStack() as stack:
        if request.param == "onnx":
            yield lambda: OnnxEngine(
                repository, threads=1, model_control="explicit", load_models=("*",)
            ).start()
        elif request.param == "triton":
            if problem := triton_problem():
                pytest.skip(problem)
            flavour = tmp_path_factory.mktemp("python")
            convert_repository(repository, flavour, backend="python")
            triton = stack.enter_context(start_triton(flavour))
            yield lambda: TritonEngine(triton.address).start()
        else:
            server = stack.enter_context(serve(repository, *explicit))
            assert server.address, "".join(server.log)
            yield lambda: TritonEngine(server.address).start()


@pytest.fixture(scope="module")
def engine(open_engine: OpenEngine) -> Iterator[Engine]:
    opened = open_engine()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pipelines(engine: Engine) -> Pipelines:
    return Pipelines(engine)


@pytest.fixture(scope="module")
def reference(repository: Path) -> Iterator[Pipelines]:
    """The same pipelines on an engine of this process."""
    with OnnxEngine(repository, threads=1) as engine:
        yield Pipelines(engine)


@pytest.fixture(scope="module", params=["tiny-vae", "tiny-ae"])
def family(request: pytest.FixtureRequest, pipelines: Pipelines) -> Family:
    return find_family(pipelines.families, request.param)


def _pictures(count: int) -> Array:
    return np.random.default_rng(5).integers(0, 256, (count, 64, 64, 3)).astype(np.uint8)


def _far(got: Array, wanted: Array) -> int:
    """The greatest difference in levels."""
    return int(np.abs(got.astype(np.int16) - wanted.astype(np.int16)).max())


def _rows(count: int) -> dict[str, Array]:
    return {"x": np.arange(count * 4, dtype=np.float32).reshape(count, 4)}


class TestDiscovery:
    def test_every_model_is_known_with_its_tensors_and_parameters(
        self, engine: Engine, repository: Path
    ) -> None:
        with OnnxEngine(repository, threads=1) as here:
            for wanted in here.models():
                got = engine.model(wanted.name, wanted.version)

                assert got.inputs == wanted.inputs
                assert got.outputs == wanted.outputs
                assert got.max_batch_size == wanted.max_batch_size
                assert got.parameters == wanted.parameters
            assert len(engine.models()) == len(here.models())

    def test_families_are_those_of_the_repository(
        self, pipelines: Pipelines, reference: Pipelines
    ) -> None:
        assert pipelines.families == reference.families

    def test_index_lists_every_model_as_ready(self, engine: Engine) -> None:
        states = {(state.name, state.version, state.state) for state in engine.index()}

        assert states == {(info.name, info.version, "READY") for info in engine.models()}


class TestPipelines:
    def test_generated_faces_are_the_same(
        self, pipelines: Pipelines, reference: Pipelines, family: Family
    ) -> None:
        for prior in family.priors:
            draw = Draw(seed=9, first_index=0, count=4, temperature=0.8, prior=prior)

            got, wanted = pipelines.generate(family, draw), reference.generate(family, draw)

            assert got.latents == pytest.approx(wanted.latents, abs=1e-4)
            assert _far(got.pixels, wanted.pixels) <= 1

    def test_reconstructions_are_the_same(
        self, pipelines: Pipelines, reference: Pipelines, family: Family
    ) -> None:
        pictures = _pictures(3)

        got = pipelines.reconstruct(family, pictures)

        assert _far(got, reference.reconstruct(family, pictures)) <= 1

    def test_posteriors_are_the_same(
        self, pipelines: Pipelines, reference: Pipelines, family: Family
    ) -> None:
        pictures = _pictures(2)

        got, wanted = pipelines.encode(family, pictures), reference.encode(family, pictures)

        assert got.mu == pytest.approx(wanted.mu, abs=1e-4)
        assert (got.logvar is None) == (wanted.logvar is None)
        if got.logvar is not None:
            assert got.logvar == pytest.approx(wanted.logvar, abs=1e-4)

    def test_paths_between_latents_are_the_same(
        self, pipelines: Pipelines, reference: Pipelines, family: Family
    ) -> None:
        ends = tuple(np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32))

        got, wanted = (
            each.interpolate(family, (ends[0], ends[1]), count=7, spherical=True)
            for each in (pipelines, reference)
        )

        assert (got.latents == wanted.latents).all()
        assert _far(got.pixels, wanted.pixels) <= 1

    def test_a_stream_gives_the_faces_of_one_request(
        self, pipelines: Pipelines, family: Family
    ) -> None:
        draw = Draw(seed=2, first_index=10, count=150, temperature=1.0, prior="normal")

        chunks = [faces.pixels for _, faces in pipelines.generate_chunks(family, draw)]

        assert len(chunks) > 1
        assert _far(np.concatenate(chunks), pipelines.generate(family, draw).pixels) <= 1

    def test_the_same_seed_draws_the_same_bits(self, pipelines: Pipelines, family: Family) -> None:
        first, second = (pipelines.generate(family, _DRAW) for _ in range(2))

        assert (first.pixels == second.pixels).all()
        assert (first.latents == second.latents).all()

    def test_callers_at_a_time_get_their_own_faces(
        self, pipelines: Pipelines, reference: Pipelines, family: Family
    ) -> None:
        draws = [Draw(seed, 0, 1 + seed % 3, 1.0, "normal") for seed in range(12)]
        got: dict[int, Array] = {}

        def call(draw: Draw) -> None:
            got[draw.seed] = pipelines.generate(family, draw).pixels

        threads = [threading.Thread(target=call, args=(draw,)) for draw in draws]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        for draw in draws:
            assert _far(got[draw.seed], reference.generate(family, draw).pixels) <= 1


class TestInference:
    def test_more_rows_than_a_batch_are_answered_in_order(self, engine: Engine) -> None:
        inputs = _rows(100)

        outputs = engine.infer("waiting", inputs)

        assert (outputs["y"] == 2 * inputs["x"]).all()

    def test_only_wanted_outputs_come(self, engine: Engine) -> None:
        outputs = engine.infer("tiny-vae-encoder", {"image": _pictures(1)}, outputs=("logvar",))

        assert set(outputs) == {"logvar"}

    def test_a_version_may_be_named(self, engine: Engine) -> None:
        named = engine.infer("tiny-vae-encoder", {"image": _pictures(1)}, version="1")

        assert set(named) == {"mu", "logvar"}

    def test_unknown_models_and_versions_are_not_found(self, engine: Engine) -> None:
        for model, version in (("nothing", ""), ("waiting", "7"), ("waiting", "x"), ("", "")):
            with pytest.raises(ModelNotFoundError):
                engine.infer(model, _rows(1), version=version)

    @pytest.mark.parametrize(
        "inputs",
        [
            {},
            {"z": np.zeros((1, 4), np.float32)},
            {"x": np.zeros((1, 4), np.float64)},
            {"x": np.zeros((1, 4), np.complex64)},
            {"x": np.zeros((1, 5), np.float32)},
            {"x": np.zeros(4, np.float32)},
            {"x": np.zeros((), np.float32)},
            {"x": np.zeros((0, 4), np.float32)},
            {"x": np.zeros((1, 4), np.float32), "z": np.zeros((1, 4), np.float32)},
            {"x": np.zeros((1, 4), np.float32), "z": np.zeros((2, 4), np.float32)},
        ],
        ids=str,
    )
    def test_wrong_inputs_are_refused(self, engine: Engine, inputs: dict[str, Array]) -> None:
        with pytest.raises(InputError):
            engine.infer("waiting", inputs)

    def test_unknown_outputs_are_refused(self, engine: Engine) -> None:
        with pytest.raises(InputError):
            engine.infer("waiting", _rows(1), outputs=("z",))

    def test_statistics_count_what_was_answered(self, engine: Engine) -> None:
        (before,) = engine.statistics("tiny-vae-encoder", "1")

        for _ in range(3):
            engine.infer("tiny-vae-encoder", {"image": _pictures(2)})

        (after,) = engine.statistics("tiny-vae-encoder", "1")
        assert after.success.count - before.success.count == 3
        assert after.inference_count - before.inference_count == 6
        assert len(engine.statistics()) == len(engine.models())

    def test_statistics_of_unknown_models_are_not_found(self, engine: Engine) -> None:
        with pytest.raises(ModelNotFoundError):
            engine.statistics("nothing")


class TestGivingUp:
    def test_a_deadline_is_answered_in_time(self, engine: Engine) -> None:
        begin = time.monotonic()

        with pytest.raises(DeadlineError):
            engine.infer("waiting", _rows(1), context=CallContext(timeout_s=0.1))

        assert time.monotonic() - begin < 0.5

    def test_a_deadline_that_has_passed_is_told_at_once(self, engine: Engine) -> None:
        with pytest.raises(DeadlineError):
            engine.infer("waiting", _rows(1), context=CallContext(timeout_s=0))

    def test_a_cancelled_call_ends_at_once(self, engine: Engine) -> None:
        context = CallContext()
        answered = _Answer()
        engine.submit(InferRequest("waiting", _rows(1), context=context), answered)
        begin = time.monotonic()

        context.cancel()

        assert isinstance(answered.wait(), CallCancelledError)
        assert time.monotonic() - begin < 0.5

    def test_a_call_cancelled_before_never_runs(self, engine: Engine) -> None:
        context = CallContext()
        context.cancel()

        with pytest.raises(CallCancelledError):
            engine.infer("waiting", _rows(1), context=context)

    def test_a_cancelled_call_harms_no_neighbour(self, engine: Engine) -> None:
        context = CallContext()
        gone, stays = _Answer(), _Answer()
        engine.submit(InferRequest("waiting", _rows(3), context=context), gone)
        engine.submit(InferRequest("waiting", _rows(2)), stays)

        context.cancel()

        assert isinstance(gone.wait(), CallCancelledError)
        answer = stays.wait()
        assert isinstance(answer, dict)
        assert (answer["y"] == 2 * _rows(2)["x"]).all()


class TestLife:
    def test_what_is_unloaded_is_gone_until_it_is_loaded(self, open_engine: OpenEngine) -> None:
        engine = open_engine()
        try:
            changes: list[bool] = []
            engine.on_change(lambda: changes.append(True))

            engine.unload("tiny-ae-decoder")

            with pytest.raises(ModelNotFoundError):
                engine.model("tiny-ae-decoder")
            states = {state.name: state.state for state in engine.index()}
            assert states["tiny-ae-decoder"] == "UNAVAILABLE"
            engine.load("tiny-ae-decoder")
            assert engine.model("tiny-ae-decoder").version == "1"
            assert len(changes) >= 2
        finally:
            engine.close()

    def test_unknown_models_are_neither_loaded_nor_unloaded(self, engine: Engine) -> None:
        for name in ("nothing", "../waiting", ""):
            with pytest.raises((ModelNotFoundError, InputError)):
                engine.load(name)
            with pytest.raises((ModelNotFoundError, InputError)):
                engine.unload(name)

    def test_a_load_that_fails_leaves_what_served(self, engine: Engine) -> None:
        with pytest.raises((RepositoryError, InputError)):
            engine.load("waiting", config="{nonsense")

        assert engine.model("waiting").version == "1"

    def test_a_closed_engine_takes_no_requests(self, open_engine: OpenEngine) -> None:
        engine = open_engine()
        engine.close()
        engine.close()

        with pytest.raises(EngineClosedError):
            engine.infer("waiting", _rows(1))

    def test_closing_answers_what_is_under_way(self, open_engine: OpenEngine) -> None:
        engine = open_engine()
        answered = _Answer()
        engine.submit(InferRequest("waiting", _rows(1)), answered)

        engine.close()

        assert isinstance(answered.wait(), dict)


class _Answer:
    """Takes what comes of a request."""

    def __init__(self) -> None:
        self._answers: list[dict[str, Array] | FacegenError] = []
        self._there = threading.Event()

    def __call__(self, answer: dict[str, Array] | FacegenError) -> None:
        self._answers.append(answer)
        self._there.set()

    def wait(self) -> dict[str, Array] | FacegenError:
        assert self._there.wait(_WAIT_S)
        (answer,) = self._answers
        return answer
