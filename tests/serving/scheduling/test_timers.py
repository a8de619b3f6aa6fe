import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from facegen.serving.scheduling import Timers

_PATIENCE_S = 60.0


@pytest.fixture
def timers() -> Iterator[Timers]:
    timers = Timers("test")
    yield timers
    timers.close()


def test_callbacks_come_in_the_order_of_their_times(timers: Timers) -> None:
    now = time.monotonic()
    called: list[int] = []
    ended = threading.Event()

    timers.call_at(now + 0.03, ended.set)
    for index in (2, 0, 1):
        timers.call_at(now + 0.01 * index, lambda index=index: called.append(index))  # type: ignore[misc]  # lambdas have no types

    assert ended.wait(_PATIENCE_S)
    assert called == [0, 1, 2]
    assert time.monotonic() >= now + 0.03


def test_an_earlier_time_wakes_a_thread_that_sleeps_to_a_later_one(timers: Timers) -> None:
    ended = threading.Event()
    timers.call_at(time.monotonic() + 1000, lambda: None)

    timers.call_at(time.monotonic() + 0.01, ended.set)

    assert ended.wait(_PATIENCE_S)


def test_a_cancelled_timer_does_not_call_and_lets_go_of_its_callback(timers: Timers) -> None:
    class Called:
        def __call__(self) -> None:
            raise AssertionError

    called = Called()
    alive = weakref.ref(called)
    ended = threading.Event()
    timer = timers.call_at(time.monotonic() + 0.01, called)

    timer.cancel()
    del called
    timers.call_at(time.monotonic() + 0.02, ended.set)

    assert ended.wait(_PATIENCE_S)
    assert alive() is None


def test_cancelled_timers_do_not_pile_up(timers: Timers) -> None:
    kept = [timers.call_at(time.monotonic() + 1000, lambda: None) for _ in range(10)]

    for _ in range(10_000):
        timers.call_at(time.monotonic() + 1000, lambda: None).cancel()

    assert len(timers) < 200
    assert all(timer.callback is not None for timer in kept)


def test_a_callback_that_raises_ends_no_other(
    timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()

    def broken() -> None:
        raise RuntimeError("broken")

    timers.call_at(time.monotonic(), broken)
    timers.call_at(time.monotonic() + 0.001, ended.set)

    assert ended.wait(_PATIENCE_S)
    assert "timer failed" in caplog.text


def test_close_ends_the_thread_and_what_was_to_come() -> None:
    timers = Timers("test-closing")
    timers.call_at(time.monotonic() + 1000, lambda: None)

    timers.close()

    assert not any(thread.name == "test-closing" for thread in threading.enumerate())
