import asyncio

from facegen.serving.scheduling.row_queue import Request, RowQueue


def _request(rows: int, *, deadline: float) -> Request:
    answer = asyncio.get_running_loop().create_future()
    return Request({}, rows, answer, deadline=deadline)


async def test_last_request_past_its_deadline_leaves_an_empty_queue() -> None:
    queue = RowQueue(turn_rows=32)
    queue.push(_request(256, deadline=1.0))

    assert queue.take(8, now=2.0) == []
    assert queue.rows == 0


async def test_request_past_its_deadline_is_passed_over_for_the_next() -> None:
    queue = RowQueue(turn_rows=32)
    queue.push(_request(256, deadline=1.0))
    living = _request(4, deadline=9.0)
    queue.push(living)

    (piece,) = queue.take(8, now=2.0)

    assert piece.request is living
    assert (piece.start, piece.stop, queue.rows) == (0, 4, 0)
