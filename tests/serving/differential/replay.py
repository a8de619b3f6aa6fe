"""Makes one call on a server and tells what came of it, without what may differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

__all__ = ["Case", "Fields", "Outcome", "replay"]

Fields = Mapping[str, Any]
"""A message's fields."""

_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Case:
    """A call that is made on both servers.

    Attributes:
        name: What it is about.
        method: The RPC.
        requests: Its request; any number for a stream.
        metadata: What goes with it.
    """

    name: str
    method: str
    requests: tuple[Fields, ...]
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call.

    Attributes:
        code: Its status.
        answers: Its responses, as text.
        problem: The message of its status, which is not compared.
    """

    code: str
    answers: tuple[str, ...]
    problem: str = ""

    def same(self, other: "Outcome") -> bool:
        """Whether callers see no difference."""
        return (self.code, self.answers) == (other.code, other.answers)


def replay(stub: Any, case: Case) -> Outcome:
    """Make a call."""
    streams = case.method == "ModelStreamInfer"
    kind = "ModelInfer" if streams else case.method
    messages = [getattr(service_pb2, f"{kind}Request")(**fields) for fields in case.requests]
    call = getattr(stub, case.method)
    answers: list[str] = []
    try:
        answer = call(
            iter(messages) if streams else messages[0], timeout=_TIMEOUT_S, metadata=case.metadata
        )
        for each in answer if streams else [answer]:
            _NORMALISE.get(case.method, _as_it_is)(each)
            answers.append(str(each))
    except grpc.RpcError as error:
        return Outcome(error.code().name, tuple(answers), error.details() or "")
    return Outcome("OK", tuple(answers))


def _as_it_is(_: Any) -> None:
    """Compare all of it."""


def _sort_outputs(answer: Any) -> None:
    """Outputs go by name: their order is nobody's promise."""
    pairs = sorted(
        zip(answer.outputs, answer.raw_output_contents, strict=True), key=lambda pair: pair[0].name
    )
    outputs, contents = [each for each, _ in pairs], [raw for _, raw in pairs]
    del answer.outputs[:], answer.raw_output_contents[:]
    answer.outputs.extend(outputs)
    answer.raw_output_contents.extend(contents)


def _drop_stream_message(answer: Any) -> None:
    _sort_outputs(answer.infer_response)
    if answer.error_message:
        answer.error_message = "some error"


def _drop_platform(answer: Any) -> None:
    """The models are of different backends here."""
    answer.platform = ""


def _drop_backend(answer: Any) -> None:
    config = answer.config
    config.backend = config.platform = config.default_model_filename = ""


def _drop_counts(answer: Any) -> None:
    """What was refused differs by justified differences, and so do counts; other tests count."""
    for stats in answer.model_stats:
        for field, _ in stats.ListFields():
            if field.name not in ("name", "version"):
                stats.ClearField(field.name)


def _settle_states(answer: Any) -> None:
    """Triton answers an unload before the model is gone."""
    for model in answer.models:
        if model.state == "UNLOADING":
            model.state, model.reason = "UNAVAILABLE", "unloaded"


def _keep_setting_names(answer: Any) -> None:
    for value in answer.settings.values():
        value.Clear()


_NORMALISE: Mapping[str, Callable[[Any], None]] = {
    "ModelInfer": _sort_outputs,
    "ModelStreamInfer": _drop_stream_message,
    "ModelMetadata": _drop_platform,
    "ModelConfig": _drop_backend,
    "ModelStatistics": _drop_counts,
    "RepositoryIndex": _settle_states,
    "LogSettings": _keep_setting_names,
    "TraceSetting": _keep_setting_names,
}
