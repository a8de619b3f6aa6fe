import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import grpc
import numpy as np
import pytest

from facegen.serving.call_context import CallContext
from facegen.serving.engine import (
    Array,
    Done,
    Engine,
    InferRequest,
    ModelInfo,
    TensorSpec,
    VersionState,
)
from facegen.serving.errors import (
    CallCancelledError,
    FamilyError,
    InferenceError,
    ModelNotFoundError,
)
from facegen.serving.faces.face_service import FaceService
from facegen.serving.faces.pipelines import Draw, Pipelines
from facegen.serving.faces.service_state import ServiceState
from facegen.serving.imaging import ImagingPool, PictureLimits
from facegen.serving.rpc.calls import Calls
from facegen.serving.statistics import ModelStatistics
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub, add_FaceServiceServicer_to_server

_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")
_ZEROS = latent_pb2.Latent(family="f", values=[0.0] * 4)
_PICTURE = image_pb2.Image(
    data=bytes(8 * 8 * 3),
    mime_type="application/octet-stream",
    height_px=8,
    width_px=8,
    channel_count=3,
)

_EDIT = pb.EditRequest(
    faces=[pb.FaceSource(image=_PICTURE)],
    moves=[pb.Move(direction="Smiling")],
    view=pb.EDIT_VIEW_DECODED,
    format=_RAW,
)


def _tensor(name: str, *shape: int, dtype: type = np.float32) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


_IMAGE = _tensor("image", 8, 8, 3, dtype=np.uint8)
_LATENT = _tensor("latent", 4)
_TENSORS = {
    "encoder": ((_IMAGE,), (_tensor("mu", 4),)),
    "decoder": ((_LATENT,), (_IMAGE,)),
    "prior": ((_tensor("noise", 4), _tensor("uniform", 1)), (_LATENT,)),
    "directions": ((_LATENT, _tensor("strength", 1)), (_tensor("edited", 4),)),
}


def _models(version: str = "1", *, family: str = "f", **changes: str) -> list[ModelInfo]:
    parameters = {
        "family": family,
        "kind": "vae",
        "latent_size": "4",
        "image_size": "8x8x3",
        "prior": "normal",
        "directions": "Smiling",
        **changes,
    }
    return [
        ModelInfo(
            name=f"{family}-{role}",
            version=version,
            inputs=inputs,
            outputs=outputs,
            max_batch_size=4,
            parameters={
                **{f"facegen.{key}": value for key, value in parameters.items()},
                "facegen.role": role,
            },
        )
        for role, (inputs, outputs) in _TENSORS.items()
    ]


class NumpyEngine(Engine):
    """Answers at once, or when it is told to: faces whose pixels all are their version."""

    def __init__(self, models: Sequence[ModelInfo]) -> None:
        self.ready = list(models)
        self.submitted: list[InferRequest] = []
        self.before_answer: Callable[[InferRequest], None] = lambda request: None
        self.after_hold: Callable[[], None] = lambda: None
        self.held: list[tuple[InferRequest, Done]] | None = None
        self._callbacks: list[Callable[[], None]] = []

    def exchange(self, models: Sequence[ModelInfo], *, tell: bool = True) -> None:
        self.ready = list(models)
        for callback in self._callbacks if tell else ():
            callback()

    def models(self) -> Sequence[ModelInfo]:
        return tuple(self.ready)

    def model(self, name: str, version: str = "") -> ModelInfo:
        for model in self.ready:
            if (model.name, model.version) == (name, version):
                return model
        raise ModelNotFoundError(name, version)

    def submit(self, request: InferRequest, done: Done) -> None:
        self.submitted.append(request)
        if self.held is None:
            self._answer(request, done)
        else:
            self.held.append((request, done))
            request.context.on_cancel(lambda: done(CallCancelledError()))
            self.after_hold()

    def _answer(self, request: InferRequest, done: Done) -> None:
        self.before_answer(request)
        try:
            role = self.model(request.model, request.version).parameters["facegen.role"]
        except ModelNotFoundError as error:
            done(error)
            return
        rows = len(next(iter(request.inputs.values())))
        answers: dict[str, dict[str, Array]] = {
            "encoder": {"mu": np.zeros((rows, 4), np.float32)},
            "decoder": {"image": np.full((rows, 8, 8, 3), int(request.version), np.uint8)},
            "prior": {"latent": request.inputs.get("noise", np.zeros(0))},
            "directions": {"edited": request.inputs.get("latent", np.zeros(0))},
        }
        if "noise" in request.inputs and np.isnan(request.inputs["noise"]).any():
            done(InferenceError(request.model, "not a number"))
        else:
            done(answers[role])

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def index(self) -> Sequence[VersionState]:
        return ()

    def load(
        self, model: str, *, config: str = "", files: Mapping[str, bytes] | None = None
    ) -> None: ...

    def unload(self, model: str) -> None: ...

    def statistics(self, model: str = "", version: str = "") -> Sequence[ModelStatistics]:
        return ()

    def close(self) -> None: ...


@pytest.fixture
def engine() -> NumpyEngine:
    return NumpyEngine(_models())


@pytest.fixture
def faces(engine: NumpyEngine) -> Iterator[FaceServiceStub]:
    imaging = ImagingPool(1, PictureLimits())
    state = ServiceState(Calls(), imaging, max_images=8, pipelines=Pipelines(engine))
    server = grpc.server(ThreadPoolExecutor(4))
    add_FaceServiceServicer_to_server(FaceService(state), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield FaceServiceStub(channel)
    server.stop(None).wait()
    imaging.close()


def _draw(count: int, *, temperature: float = 1.0) -> Draw:
    return Draw(7, 0, count, temperature, "normal")


def _first_pixel(answer: Any) -> int:
    if isinstance(answer, pb.GenerateResponse):
        image = answer.faces[0].image
    else:
        edited = isinstance(answer, pb.EditResponse)
        image = (answer.faces[0] if edited else answer).images[0]
    value: int = image.data[0]
    return value


def test_families_follow_the_engines_models(engine: NumpyEngine) -> None:
    pipelines = Pipelines(engine)

    engine.exchange([*_models("1"), *_models("2"), *_models(family="g")])

    assert [(family.name, family.version) for family in pipelines.families] == [
        ("f", "1"),
        ("f", "2"),
        ("g", "1"),
    ]


def test_models_of_no_family_stand_beside_families(engine: NumpyEngine) -> None:
    engine.ready.append(ModelInfo("any", "3", (_LATENT,), (_IMAGE,), 0, {"author": "me"}))

    assert [family.name for family in Pipelines(engine).families] == ["f"]


def test_family_that_does_not_fit_is_an_error_at_start_and_left_out_later(
    engine: NumpyEngine, caplog: pytest.LogCaptureFixture
) -> None:
    broken = _models(family="g", image_size="9x9")
    pipelines = Pipelines(engine)

    with caplog.at_level(logging.WARNING):
        engine.exchange([*_models(), *broken])

    assert [family.name for family in pipelines.families] == ["f"]
    assert 'family "g": ' in caplog.text
    with pytest.raises(FamilyError):
        Pipelines(engine)


def test_call_under_way_keeps_the_version_it_began_with(engine: NumpyEngine) -> None:
    pipelines = Pipelines(engine)
    (family,) = pipelines.families
    engine.before_answer = lambda request: engine.exchange([*_models("1"), *_models("2")])

    faces = pipelines.generate(family, _draw(2))

    assert (faces.pixels == 1).all()
    assert [request.version for request in engine.submitted] == ["1", "1"]


def test_error_of_either_step_is_the_calls(engine: NumpyEngine) -> None:
    pipelines = Pipelines(engine)
    (family,) = pipelines.families

    with pytest.raises(InferenceError):
        pipelines.generate(family, _draw(1, temperature=np.nan))
    engine.exchange([model for model in _models() if model.name != "f-decoder"])
    with pytest.raises(ModelNotFoundError, match="f-decoder"):
        pipelines.generate(family, _draw(1))


def test_cancelled_edit_runs_nothing_more(engine: NumpyEngine, faces: FaceServiceStub) -> None:
    begun = threading.Event()
    engine.held = []
    engine.after_hold = begun.set
    call = faces.Edit.future(_EDIT)
    assert begun.wait(20)

    call.cancel()

    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    ended = threading.Event()
    engine.held[0][0].context.on_cancel(ended.set)
    assert ended.wait(20)
    assert [request.model for request in engine.submitted] == ["f-encoder"]


def test_stream_computes_one_chunk_ahead_and_no_more(engine: NumpyEngine) -> None:
    pipelines = Pipelines(engine)

    with closing(pipelines.generate_chunks(pipelines.families[0], _draw(2**40))) as chunks:
        for number in range(1, 4):
            draw, _ = next(chunks)
            drawn = [request for request in engine.submitted if request.model == "f-prior"]

            assert draw.count == 4
            assert len(drawn) == number + 1


def test_leaving_a_stream_cancels_what_is_under_way(engine: NumpyEngine) -> None:
    pipelines = Pipelines(engine)
    context = CallContext()
    chunks = pipelines.generate_chunks(pipelines.families[0], _draw(2**40), context=context)
    next(chunks)
    engine.held = []
    next(chunks)

    chunks.close()

    assert engine.held
    assert all(request.context.cancelled for request, _ in engine.held)
    assert not context.cancelled


def test_cancelling_a_call_cancels_its_stream(engine: NumpyEngine) -> None:
    engine.held = []
    context = CallContext()
    pipelines = Pipelines(engine)
    chunks = pipelines.generate_chunks(pipelines.families[0], _draw(2**40), context=context)
    context.cancel()

    with pytest.raises(CallCancelledError):
        next(chunks)


def test_steps_of_a_call_share_its_deadline_client_and_priority(engine: NumpyEngine) -> None:
    pipelines = Pipelines(engine)
    context = CallContext(timeout_s=60, client="me", priority=3, request_id="r")

    list(pipelines.generate_chunks(pipelines.families[0], _draw(9), context=context))

    for part in [request.context for request in engine.submitted]:
        assert (part.deadline, part.client, part.priority) == (context.deadline, "me", 3)
        assert part.request_id == "r"


@pytest.mark.parametrize(
    "call",
    [
        lambda faces: faces.Generate(pb.GenerateRequest(count=1, format=_RAW)),
        lambda faces: faces.Decode(pb.DecodeRequest(latents=[_ZEROS], format=_RAW)),
        lambda faces: faces.Reconstruct(pb.ReconstructRequest(images=[_PICTURE], format=_RAW)),
        lambda faces: faces.Edit(_EDIT),
    ],
    ids=["generate", "decode", "reconstruct", "edit"],
)
def test_version_exchanged_during_a_call_fails_no_call(
    engine: NumpyEngine, faces: FaceServiceStub, call: Callable[[FaceServiceStub], Any]
) -> None:
    def exchange(request: InferRequest) -> None:
        if (request.model, request.version) == ("f-decoder", "1"):
            engine.exchange(_models("2"), tell=False)

    engine.before_answer = exchange

    answer = call(faces)

    assert answer.version == "2"
    assert _first_pixel(answer) == 2


def test_family_that_goes_again_and_again_is_unavailable(
    engine: NumpyEngine, faces: FaceServiceStub
) -> None:
    engine.before_answer = lambda request: engine.exchange(
        _models(str(int(request.version) + 1)), tell=False
    )

    with pytest.raises(grpc.RpcError, match="the family is loading") as caught:
        faces.Generate(pb.GenerateRequest(count=1))

    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_versions_exchanged_under_traffic_fail_no_call(
    engine: NumpyEngine, faces: FaceServiceStub
) -> None:
    request = pb.GenerateRequest(count=3, format=_RAW)
    with ThreadPoolExecutor(4) as pool:
        for version in range(1, 51):
            calls = [pool.submit(faces.Generate, request) for _ in range(4)]
            engine.exchange([*_models(str(version)), *_models(str(version + 1))])
            engine.exchange(_models(str(version + 1)))
            for call in calls:
                answer = call.result()

                assert int(answer.version) in (version, version + 1)
                assert {face.image.data[0] for face in answer.faces} == {int(answer.version)}


def test_family_that_is_loading_is_unavailable_and_one_unknown_is_not(
    engine: NumpyEngine, faces: FaceServiceStub
) -> None:
    engine.exchange(_models()[:2])

    with pytest.raises(grpc.RpcError) as loading:
        faces.Generate(pb.GenerateRequest(count=1, family="f"))
    with pytest.raises(grpc.RpcError) as unknown:
        faces.Generate(pb.GenerateRequest(count=1, family="g"))

    assert loading.value.code() == grpc.StatusCode.UNAVAILABLE
    assert 'family "f" is loading' in str(loading.value.details())
    assert unknown.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_server_without_families_says_so(engine: NumpyEngine, faces: FaceServiceStub) -> None:
    engine.exchange([])

    with pytest.raises(grpc.RpcError, match="served: none") as caught:
        faces.Generate(pb.GenerateRequest(count=1))

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_stream_never_goes_on_with_another_version(
    engine: NumpyEngine, faces: FaceServiceStub
) -> None:
    answers = faces.GenerateStream(pb.GenerateStreamRequest(count=2**40, format=_RAW))
    first = next(answers)

    engine.exchange(_models("2"))
    versions = {first.version}
    with pytest.raises(grpc.RpcError) as caught:
        versions.update(answer.version for answer in answers)

    assert versions == {"1"}
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_stream_of_a_client_that_left_ends(engine: NumpyEngine, faces: FaceServiceStub) -> None:
    left = threading.Event()
    answers = faces.GenerateStream(pb.GenerateStreamRequest(count=2**40, format=_RAW))
    next(answers)
    engine.submitted[0].context.on_cancel(left.set)

    answers.cancel()

    assert left.wait(20)


def test_services_are_unavailable_while_models_load() -> None:
    imaging = ImagingPool(1, PictureLimits())
    state = ServiceState(Calls(), imaging, max_images=8)
    server = grpc.server(ThreadPoolExecutor(2))
    add_FaceServiceServicer_to_server(FaceService(state), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with (
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        pytest.raises(grpc.RpcError, match="the server is loading") as caught,
    ):
        FaceServiceStub(channel).Generate(pb.GenerateRequest(count=1))

    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    server.stop(None).wait()
    imaging.close()
