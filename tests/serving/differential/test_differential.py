"""One list of calls, replayed on a real tritonserver and on our server."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from benchmarks.triton_server import start_triton, triton_problem
from tests.serving.conftest import ServerProcess
from tests.serving.differential.differences import CASES, DIFFERENCES, PAGE, page
from tests.serving.differential.models import write_models, write_triton_models
from tests.serving.differential.replay import Case, Outcome, replay

_FLAGS = ("--model-control", "explicit", "--load-models", "*", "--allow-admin", "--shared-memory")
_ALLOWED = {difference.case: difference for difference in DIFFERENCES}
_CROWD = 8


@dataclass(frozen=True, slots=True)
class Servers:
    """Stubs of both servers, and what came of every case."""

    triton: Any
    facegen: Any
    outcomes: Mapping[str, tuple[Outcome, Outcome]]


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., ServerProcess]
) -> Iterator[Servers]:
    if problem := triton_problem():
        pytest.skip(problem)
    folder = tmp_path_factory.mktemp("differential")
    # Of the same name, so that a path out of it is the same for both.
    here, there = folder / "facegen" / "repository", folder / "triton" / "repository"
    write_models(here)
    write_triton_models(here, there)
    with ExitStack() as stack:
        triton = stack.enter_context(start_triton(there))
        facegen = stack.enter_context(serve(here, *_FLAGS))
        assert facegen.address, "".join(facegen.log)
        stubs = [
            service_pb2_grpc.GRPCInferenceServiceStub(
                stack.enter_context(grpc.insecure_channel(address))
            )
            for address in (triton.address, facegen.address)
        ]
        outcomes = {case.name: (replay(stubs[0], case), replay(stubs[1], case)) for case in CASES}
        yield Servers(stubs[0], stubs[1], outcomes)


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]

    assert len(set(names)) == len(names)
    assert set(_ALLOWED) <= {*names, "full queue"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answer_is_triton_s_but_for_what_is_justified(servers: Servers, case: Case) -> None:
    triton, facegen = servers.outcomes[case.name]

    if allowed := _ALLOWED.get(case.name):
        assert (triton.code, facegen.code) == (allowed.triton, allowed.facegen)
        assert not facegen.same(triton), "no difference any more: take it from the table"
    else:
        assert facegen.same(triton), f"Triton: {triton}\nfacegen: {facegen}"


def test_full_queue_is_resource_exhausted_in_place_of_unavailable(servers: Servers) -> None:
    allowed = _ALLOWED["full queue"]

    for stub, code in ((servers.triton, allowed.triton), (servers.facegen, allowed.facegen)):
        outcomes = _crowd(stub)

        codes = {outcome.code for outcome in outcomes}
        assert code in codes
        assert codes <= {"OK", code, "DEADLINE_EXCEEDED", "UNAVAILABLE"}


def _crowd(stub: Any) -> list[Outcome]:
    """Call a model, whose requests wait for a second, more often than its queue takes."""
    row = {"name": "x", "shape": (1, 4), "datatype": "FP32", "contents": {"fp32_contents": [1] * 4}}
    case = Case("one row", "ModelInfer", ({"model_name": "waiting", "inputs": [row]},))
    with ThreadPoolExecutor(_CROWD) as pool:
        return list(pool.map(lambda _: replay(stub, case), range(_CROWD)))


def test_page_of_docs_is_this_table() -> None:
    hint = "run `python -m tests.serving.differential.differences`"

    assert PAGE.read_text("utf-8") == page(), hint
