import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from facegen.serving.call_context import CallContext
from facegen.serving.errors import CallCancelledError
from facegen.serving.imaging.budget import PixelBudget


class _Holder:
    """A call that holds pixels in a thread of its own until it is let go."""

    def __init__(self, budget: PixelBudget, pool: ThreadPoolExecutor, pixels: int) -> None:
        self.context = CallContext()
        self.holding = threading.Event()
        self.release = threading.Event()
        self.done = pool.submit(self._hold, budget, pixels)

    def _hold(self, budget: PixelBudget, pixels: int) -> None:
        with budget.hold(pixels, self.context):
            self.holding.set()
            assert self.release.wait(60)


def _wait_for(budget: PixelBudget, waiting_count: int) -> None:
    """Wait until so many calls wait."""
    pause = threading.Event()
    while budget.waiting_count != waiting_count:
        pause.wait(0.001)


def test_pixels_are_held_while_there_is_room_and_first_come_first() -> None:
    budget = PixelBudget(10)
    with ThreadPoolExecutor(4) as pool, ExitStack() as stack:

        def hold(pixels: int) -> _Holder:
            holder = _Holder(budget, pool, pixels)
            stack.callback(holder.release.set)
            return holder

        first, second = hold(4), hold(5)
        assert first.holding.wait(60)
        assert second.holding.wait(60)
        large = hold(8)
        _wait_for(budget, 1)
        # There would be room for it, but another came before.
        small = hold(1)
        _wait_for(budget, 2)
        assert not large.holding.is_set()
        assert not small.holding.is_set()

        first.release.set()
        second.release.set()

        assert large.holding.wait(60)
        assert small.holding.wait(60)


def test_call_of_more_than_the_budget_has_its_turn_alone() -> None:
    with PixelBudget(10).hold(11, CallContext()):
        pass


def test_call_that_is_cancelled_waits_no_longer_and_others_go_on() -> None:
    budget = PixelBudget(10)
    with ThreadPoolExecutor(2) as pool, budget.hold(10, CallContext()):
        gone = _Holder(budget, pool, 10)
        _wait_for(budget, 1)
        next_ = _Holder(budget, pool, 0)
        _wait_for(budget, 2)

        gone.context.cancel()

        with pytest.raises(CallCancelledError):
            gone.done.result(60)
        assert next_.holding.wait(60)
        next_.release.set()
