import threading
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.errors import (
    CallCancelledError,
    DeadlineError,
    InferenceError,
    QueueFullError,
    QueueTooLongError,
)
from facegen.serving.scheduling import QueuePolicy

if TYPE_CHECKING:
    from tests.serving.scheduling.conftest import Answer, Rig

_REASONS = {
    CallCancelledError: "CANCELED",
    DeadlineError: "TIMEOUT",
    InferenceError: "BACKEND",
    QueueFullError: "REJECTED",
    QueueTooLongError: "REJECTED",
}


def _seldom(usual: object, *others: object) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 12 + list(others))


_POLICIES = st.builds(
    QueuePolicy,
    max_queue_size=_seldom(0, 3),
    default_timeout_s=_seldom(0, 0.001, 100),
    timeout_action=st.sampled_from(["REJECT", "DELAY"]),
    allow_timeout_override=st.booleans(),
)

_SETTINGS = st.fixed_dictionaries(
    {
        "max_batch_rows": st.integers(1, 9),
        "concurrency": st.integers(1, 3),
        "max_queue_rows": st.sampled_from([5, 40, 2048]),
        "max_queue_delay_s": st.sampled_from([0, 0, 0.001]),
        "preferred_batch_rows": st.sampled_from([(), (), (2,), (3, 8)]),
        "turn_rows": st.integers(1, 20),
        "min_share_rows": st.integers(1, 4),
        "bucketed": st.booleans(),
        "priority_levels": st.integers(0, 3),
        "default_policy": _POLICIES,
        "policies": st.dictionaries(st.integers(1, 3), _POLICIES),
        "preserve_ordering": st.booleans(),
    }
)


@dataclass(frozen=True)
class _Call:
    """A request to make."""

    rows: int
    width: int
    client: str
    priority: int
    timeout_s: float | None
    queue_timeout_s: float
    poisoned: bool


_CALLS = st.builds(
    _Call,
    rows=st.integers(1, 12),
    width=_seldom(1, 2, 2),
    client=st.sampled_from(["", "a", "b"]),
    priority=st.integers(0, 4),
    timeout_s=_seldom(None, 0, 0.0005, 100),
    queue_timeout_s=_seldom(0, 0.0005),
    poisoned=_seldom(False, True, True),
)


@dataclass
class _Submitted:
    """A request and what may come of it."""

    expected: list[float]
    poisoned: bool
    context: CallContext
    answer: "Answer"


class _Batching(RuleBasedStateMachine):
    """Callers of a batcher that come, go away and run out of time while its model runs or waits."""

    def __init__(self, rig_type: "type[Rig]") -> None:
        super().__init__()
        self._rig_type = rig_type
        self.submitted: list[_Submitted] = []
        self.reloaded = False

    @initialize(knobs=_SETTINGS)
    def begin(self, knobs: dict[str, Any]) -> None:
        self.rig = self._rig_type(worker_count=3, **knobs)

    @rule(calls=st.lists(_CALLS, min_size=1, max_size=6))
    def submit(self, calls: list[_Call]) -> None:
        for call in calls:
            first = 100 * (len(self.submitted) + 1)
            values = np.arange(first, first + call.rows, dtype=np.float32)
            if call.poisoned:
                values[call.rows // 2] = -first
            context = CallContext(
                timeout_s=call.timeout_s,
                client=call.client,
                priority=call.priority,
                queue_timeout_s=call.queue_timeout_s,
            )
            answer = self.rig.submit(np.tile(values[:, None], call.width), context=context)
            expected = (2 * values).tolist()
            self.submitted.append(_Submitted(expected, call.poisoned, context, answer))

    @rule(picks=st.lists(st.integers(0, 15), max_size=4))
    def cancel(self, picks: list[int]) -> None:
        """Of late requests, since the early ones have mostly been answered."""
        for pick in picks:
            if pick < len(self.submitted):
                self.submitted[-1 - pick].context.cancel()

    @rule()
    def hold(self) -> None:
        self.rig.gate.clear()

    @rule()
    def release(self) -> None:
        self.rig.gate.set()

    @rule()
    def reload(self) -> None:
        self.rig.reload()
        self.reloaded = True

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        with self.rig as rig:
            rig.close()
            for submitted in self.submitted:
                _check_answer(submitted)
            answers = [submitted.answer for submitted in self.submitted]
            _check_statistics(rig, answers)
            if rig.settings.preserve_ordering and not self.reloaded:
                answered = [answer for answer in rig.answered if answer.succeeded]
                assert answered == [answer for answer in answers if answer.succeeded]


def _check_answer(submitted: _Submitted) -> None:
    """Each request ends exactly once, with its own rows or for a reason that it gave."""
    (answer,) = submitted.answer.calls
    context = submitted.context
    if not isinstance(answer, FacegenError):
        assert answer["y"][:, 0].tolist() == submitted.expected
        assert not submitted.poisoned
    elif isinstance(answer, InferenceError):
        assert submitted.poisoned
    elif isinstance(answer, CallCancelledError):
        assert context.cancelled
    else:
        assert isinstance(answer, (DeadlineError, QueueFullError))


def _check_statistics(rig: "Rig", answers: "list[Answer]") -> None:
    """What was counted is what happened, and adds up."""
    counted = rig.statistics()
    ends = [answer.calls[0] for answer in answers]
    failures = Counter(_REASONS[type(end)] for end in ends if isinstance(end, FacegenError))
    assert {reason: failure.count for reason, failure in counted.failures.items()} == failures
    assert counted.success.count == len(ends) - failures.total()
    assert counted.queue.count == counted.compute_infer.count == counted.success.count
    batches = {rows: batch.compute_infer.count for rows, batch in counted.batches.items()}
    assert sum(batches.values()) == counted.execution_count <= len(rig.batches)
    assert sum(rows * count for rows, count in batches.items()) == counted.inference_count
    assert max(batches, default=0) <= rig.settings.max_batch_rows
    assert (counted.pending_rows, counted.pending_requests) == (0, 0)


def test_any_mix_of_requests_ends_exactly_once_with_its_own_rows_and_is_counted(
    rig_type: "type[Rig]",
) -> None:
    machine = cast("type[_Batching]", partial(_Batching, rig_type))  # any factory will do

    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


def test_requests_of_many_threads_end_exactly_once_and_are_counted(rig_type: "type[Rig]") -> None:
    submitted: list[_Submitted] = []

    def call(rig: "Rig", caller: int) -> None:
        random = np.random.default_rng(caller)
        for number in range(200):
            first, rows = 1000 * caller + 4 * number, int(random.integers(1, 4))
            context = CallContext(client=str(caller % 2), timeout_s=random.choice([0.001, 100]))
            answer = rig.many(rows, first=first, context=context)
            expected = [2.0 * value for value in range(first, first + rows)]
            submitted.append(_Submitted(expected, False, context, answer))
            if random.random() < 0.2:
                submitted[random.integers(len(submitted))].context.cancel()

    with rig_type(concurrency=2) as rig:
        callers = [threading.Thread(target=call, args=(rig, caller)) for caller in range(4)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
        rig.close()

    for one in submitted:
        _check_answer(one)
    _check_statistics(rig, [one.answer for one in submitted])
