import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from facegen.errors import FacegenError
from facegen.serving.engine import Array, InferRequest
from facegen.serving.errors import DeadlineError, QueueFullError
from facegen.serving.scheduling import QueuePolicy

if TYPE_CHECKING:
    from tests.serving.scheduling.conftest import Rig

MakeRig = Callable[..., "Rig"]

_FOREVER_S = 1000.0


def test_higher_priorities_run_first_and_share_a_batch_with_lower_ones(
    make_rig: MakeRig,
) -> None:
    rig = make_rig(priority_levels=3, default_priority=2)
    rig.hold()
    lowest = rig.many(3, first=30, priority=3)
    default = rig.many(2, first=20)
    beyond = rig.one(25, priority=9)  # there is no such level: it has the default's
    highest = rig.many(3, first=10, priority=1)

    rig.release()
    for answer in (lowest, default, beyond, highest):
        answer.wait()

    assert rig.batches == [[1000], [10, 11, 12, 20], [21, 25, 30, 31], [32]]


def test_a_level_takes_as_many_requests_as_its_policy_allows(make_rig: MakeRig) -> None:
    rig = make_rig(
        priority_levels=2,
        policies={2: QueuePolicy(max_queue_size=2)},
    )
    rig.hold()
    taken = [rig.one(value, priority=2) for value in range(2)]

    refused = rig.one(2, priority=2)
    other_level = [rig.one(value, priority=1) for value in range(5)]

    assert refused.there
    with pytest.raises(QueueFullError, match="2 of 2 wait"):
        refused.rows()
    rig.release()
    assert [len(answer.rows()) for answer in (*taken, *other_level)] == [1] * 7


def test_rows_of_lower_priority_do_not_keep_higher_ones_out(make_rig: MakeRig) -> None:
    rig = make_rig(priority_levels=2, max_queue_rows=3)
    rig.hold()
    low = rig.many(3, priority=2)

    high = rig.many(3, priority=1)
    refused = rig.one(0, priority=2)

    assert isinstance(refused.wait(), QueueFullError)
    rig.release()
    assert len(high.rows()) == len(low.rows()) == 3


def test_a_request_that_waited_too_long_is_rejected_at_its_time(make_rig: MakeRig) -> None:
    rig = make_rig(default_policy=QueuePolicy(default_timeout_s=0.02))
    held = rig.hold()  # has begun, so its own waiting is over

    late = rig.one(0)

    with pytest.raises(DeadlineError, match=r"0\.020 s"):
        late.rows()
    rig.release()
    assert held.rows() == [2000]
    assert rig.batches == [[1000]]


def test_a_request_that_waited_too_long_is_delayed_behind_all_others(make_rig: MakeRig) -> None:
    rig = make_rig(
        max_batch_rows=1,
        default_policy=QueuePolicy(
            default_timeout_s=_FOREVER_S, timeout_action="DELAY", allow_timeout_override=True
        ),
    )
    rig.hold()
    delayed = rig.one(0, queue_timeout_s=0.01)
    signal = rig.one(-1, timeout_s=0.05)  # answered later than the first is delayed
    signal.wait()
    others = [rig.one(value) for value in range(1, 4)]

    rig.release()

    assert delayed.rows() == [0]
    assert [answer.rows() for answer in others] == [[2], [4], [6]]
    assert rig.batches == [[1000], [1], [2], [3], [0]]


def test_a_delayed_request_still_has_its_deadline(make_rig: MakeRig) -> None:
    rig = make_rig(
        default_policy=QueuePolicy(default_timeout_s=0.01, timeout_action="DELAY"),
    )
    rig.hold()

    late = rig.one(0, timeout_s=0.03)

    with pytest.raises(DeadlineError, match=r"0\.0\d+ s"):
        late.rows()


@pytest.mark.parametrize(
    ("policy", "own_s"),
    [
        pytest.param(QueuePolicy(), 0.02, id="no-policy"),
        pytest.param(
            QueuePolicy(default_timeout_s=_FOREVER_S, allow_timeout_override=True),
            0.02,
            id="shortens-the-default",
        ),
        pytest.param(
            QueuePolicy(default_timeout_s=0.02, allow_timeout_override=True),
            _FOREVER_S,
            id="cannot-lengthen-it",
        ),
        pytest.param(QueuePolicy(default_timeout_s=0.02), _FOREVER_S, id="not-allowed"),
    ],
)
def test_a_requests_own_timeout_counts_as_its_policy_says(
    make_rig: MakeRig, policy: QueuePolicy, own_s: float
) -> None:
    rig = make_rig(default_policy=policy)
    rig.hold()

    late = rig.one(0, queue_timeout_s=own_s)

    with pytest.raises(DeadlineError, match=r"0\.020 s"):
        late.rows()


def test_a_timeout_that_the_policy_does_not_allow_is_passed_over(make_rig: MakeRig) -> None:
    rig = make_rig(default_policy=QueuePolicy(default_timeout_s=_FOREVER_S))
    rig.hold()
    patient = rig.one(0, queue_timeout_s=0.001)
    rig.one(1, timeout_s=0.02).wait()

    rig.release()

    assert patient.rows() == [0]


def test_answers_keep_the_order_of_requests_where_wanted(make_rig: MakeRig) -> None:
    rig = make_rig(preserve_ordering=True, priority_levels=2, default_priority=2, concurrency=2)
    rig.hold()
    requests = [rig.many(count, priority=1 + index % 2) for index, count in enumerate([9, 1, 5, 2])]

    rig.release()
    for answer in requests:
        answer.wait()

    assert rig.answered[1:] == requests


def test_an_answer_waits_for_the_one_before_to_be_taken(make_rig: MakeRig) -> None:
    rig = make_rig(preserve_ordering=True, concurrency=2)
    taken, taking = threading.Event(), threading.Event()

    def take_slowly(_: dict[str, Array] | FacegenError) -> None:
        taking.set()
        assert taken.wait(60)

    request = InferRequest("double", {"x": np.zeros((1, 1), np.float32)})
    rig.batcher.submit(request, 1, take_slowly)
    assert taking.wait(60)
    rig.begins()
    second = rig.one(2)
    rig.begins()
    third = rig.one(3)
    rig.begins()  # by the worker that was done with the second

    assert not second.there
    taken.set()
    assert third.rows() == [6]
    assert rig.answered == [second, third]


def test_errors_do_not_wait_for_the_answers_before_them(make_rig: MakeRig) -> None:
    rig = make_rig(preserve_ordering=True)
    held = rig.hold()
    doomed, good = rig.one(0, timeout_s=0.01), rig.one(1)

    assert isinstance(doomed.wait(), DeadlineError)

    assert not held.there
    rig.release()
    assert good.rows() == [2]
    assert rig.answered == [doomed, held, good]


def test_an_answer_kept_for_its_order_is_given_up_at_its_deadline(make_rig: MakeRig) -> None:
    rig = make_rig(preserve_ordering=True, concurrency=2, worker_count=2)
    gate_of_first = rig.hold()

    kept = rig.one(1, timeout_s=0.03)  # the other worker takes it, and waits at the same gate

    assert isinstance(kept.wait(), DeadlineError)
    rig.release()
    assert gate_of_first.rows() == [2000]
    assert len(kept.calls) == 1
