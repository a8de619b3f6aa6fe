import numpy as np

from facegen.serving.call_context import CallContext
from facegen.serving.scheduling.priority_queue import PriorityQueue
from facegen.serving.scheduling.request import Request, batch_key


def _request(
    rows: int, *, client: str = "", width: int = 1, deadline: float = float("inf")
) -> Request:
    inputs = {"x": np.zeros((rows, width), np.float32)}
    return Request(
        inputs,
        (),
        rows,
        lambda answer: None,
        CallContext(client=client),
        batch_key(inputs, ()),
        0,
        deadline,
    )


def _take(queue: PriorityQueue, limit: int) -> list[tuple[Request, int, int]]:
    return [(request, start, stop) for request, start, stop in queue.take(limit, now=2.0)]


def test_last_request_past_its_deadline_leaves_an_empty_queue() -> None:
    queue = PriorityQueue(turn_rows=32)
    queue.push(_request(256, deadline=1.0), 1)

    assert _take(queue, 8) == []
    assert queue.rows == 0


def test_request_past_its_deadline_is_passed_over_for_the_next_of_any_shape() -> None:
    queue = PriorityQueue(turn_rows=32)
    queue.push(_request(256, deadline=1.0), 1)
    living = _request(4, width=2, deadline=9.0)
    queue.push(living, 1)

    assert _take(queue, 8) == [(living, 0, 4)]
    assert queue.rows == 0


def test_one_clients_requests_are_first_in_first_out() -> None:
    queue = PriorityQueue(turn_rows=32)
    requests = [_request(3) for _ in range(4)]
    for request in requests:
        queue.push(request, 1)

    batches = [_take(queue, 4) for _ in range(3)]

    first, second, third, fourth = requests
    assert batches == [
        [(first, 0, 3), (second, 0, 1)],
        [(second, 1, 3), (third, 0, 2)],
        [(third, 2, 3), (fourth, 0, 3)],
    ]


def test_clients_take_turns_by_rows_not_by_requests() -> None:
    queue = PriorityQueue(turn_rows=4)
    large = _request(100, client="a")
    small = [_request(1, client="b") for _ in range(6)]
    for request in (large, *small):
        queue.push(request, 1)

    batches = [_take(queue, 4) for _ in range(4)]

    assert batches == [
        [(large, 0, 4)],
        [(request, 0, 1) for request in small[:4]],
        [(large, 4, 8)],
        [(small[4], 0, 1), (small[5], 0, 1), (large, 8, 10)],
    ]


def test_a_request_has_one_piece_of_a_batch_of_several_turns() -> None:
    queue = PriorityQueue(turn_rows=2)
    first, second = _request(100, client="a"), _request(100, client="b")
    queue.push(first, 1)
    queue.push(second, 1)

    assert _take(queue, 8) == [(first, 0, 4), (second, 0, 4)]


def test_a_client_passed_over_for_its_shape_leads_the_next_batch() -> None:
    queue = PriorityQueue(turn_rows=2)
    usual = [_request(100, client=str(index)) for index in range(3)]
    odd = _request(1, client="odd", width=2)
    for request in (usual[0], odd, *usual[1:]):
        queue.push(request, 1)

    batches = [_take(queue, 6) for _ in range(2)]

    assert batches == [[(request, 0, 2) for request in usual], [(odd, 0, 1)]]


def test_the_shapes_of_one_client_take_turns() -> None:
    queue = PriorityQueue(turn_rows=2)
    narrow, wide = _request(100), _request(100, width=2)
    queue.push(narrow, 1)
    queue.push(wide, 1)

    batches = [_take(queue, 2) for _ in range(3)]

    assert batches == [[(narrow, 0, 2)], [(wide, 0, 2)], [(narrow, 2, 4)]]


def test_a_delayed_request_comes_after_its_level_and_before_the_next() -> None:
    queue = PriorityQueue(turn_rows=32)
    delayed, other, lower = _request(1), _request(1), _request(1)
    queue.push(lower, 2)
    queue.push(delayed, 1)
    queue.push(other, 1)

    queue.delay(delayed)

    assert queue.request_count(1) == 2
    assert [request for request, _, _ in _take(queue, 3)] == [other, delayed, lower]
