"""Rows that wait for a model: clients take turns, and each one's requests keep their order."""

from collections import OrderedDict
from collections.abc import Iterator

from facegen.serving.scheduling.request import Key, Request

__all__ = ["RowQueue"]

_Lane = OrderedDict[Request, None]  # requests of one client and one key, in order


class _Client:
    """What one client has waiting, and the rows that it took in its turn."""

    __slots__ = ("lanes", "name", "turn")

    def __init__(self, name: str) -> None:
        self.name = name
        self.lanes: OrderedDict[Key, _Lane] = OrderedDict()
        self.turn = 0


class RowQueue:
    """The requests of one priority, taken from in batches.

    Clients take turns of so many rows (deficit round robin, Shreedhar & Varghese 1995, without
    deficits since rows can be split), so nobody waits longer for another's large or many requests.
    A client's requests are first in, first out, which answers the first early and keeps answers
    from coming all at once, but one that is not done at the end of the turn goes behind the
    client's others. Requests that name no client are those of one nameless client.

    The client in front says what a batch is made of. One with another kind of request in front is
    passed over and keeps its place, so it leads one of the next batches.

    Not safe for threads by itself.

    Args:
        turn_rows: Rows that a client may take before the next one's turn.
    """

    def __init__(self, turn_rows: int) -> None:
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._turn_rows = turn_rows
        self.rows = 0
        self.count = 0

    def __iter__(self) -> Iterator[Request]:
        return (
            request
            for client in self._clients.values()
            for lane in client.lanes.values()
            for request in lane
        )

    def push(self, request: Request) -> None:
        """Put a request behind its client's others."""
        name = request.context.client
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client(name)
        lane = client.lanes.get(request.key)
        if lane is None:
            lane = client.lanes[request.key] = OrderedDict()
        lane[request] = None
        request.queue = self
        self.rows += request.rows - request.taken
        self.count += 1

    def drop(self, request: Request) -> None:
        """Take out a request that waits here."""
        self.rows -= request.rows - request.taken
        self._remove(self._clients[request.context.client], request)

    def take(self, starts: dict[Request, int], limit: int, now: float) -> int:
        """Take rows for a batch.

        Args:
            starts: The requests in the batch, by the first of their rows in it; is added to.
            limit: The most rows to take.
            now: The time; requests whose deadline has come are dropped.

        Returns:
            How many rows were taken.
        """
        key = next(iter(starts)).key if starts else None
        left = limit
        clients = self._clients
        passed = []
        while left and clients:
            client = next(iter(clients.values()))
            request = next(iter(next(iter(client.lanes.values()))))
            if request.deadline <= now:
                self.drop(request)
            elif key is None or request.key == key:
                key = request.key
                starts.setdefault(request, request.taken)
                left -= self._take_rows(client, request, left)
            else:
                passed.append(client)
                del clients[client.name]
        for client in reversed(passed):
            clients[client.name] = client
            clients.move_to_end(client.name, last=False)
        return limit - left

    def _take_rows(self, client: _Client, request: Request, limit: int) -> int:
        """Take rows of a request, and end its client's turn if that is over."""
        rows = min(limit, request.rows - request.taken, self._turn_rows - client.turn)
        request.taken += rows
        client.turn += rows
        self.rows -= rows
        turn_over = client.turn == self._turn_rows
        if turn_over:
            client.turn = 0
            self._clients.move_to_end(client.name)
            client.lanes[request.key].move_to_end(request)
            client.lanes.move_to_end(request.key)
        if request.taken == request.rows:
            self._remove(client, request)
        return rows

    def _remove(self, client: _Client, request: Request) -> None:
        request.queue = None
        self.count -= 1
        lane = client.lanes[request.key]
        del lane[request]
        if not lane:
            del client.lanes[request.key]
            if not client.lanes:
                del self._clients[client.name]
