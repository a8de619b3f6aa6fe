"""What every call goes through: it is counted, and its errors become gRPC status."""

import asyncio
import functools
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import grpc.aio
from grpc_status import rpc_status

from facegen.errors import FacegenError
from facegen.serving.rpc.status import internal_status, status_of

__all__ = ["Calls", "answers", "streams"]

Request = TypeVar("Request")
Response = TypeVar("Response")
# The stubs know no type for a generated servicer's context.
Context = Any

_LOGGER = logging.getLogger(__name__)


class Calls:
    """Counts the calls being answered, so that a drain knows when the last one is done."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one call for as long as the context lasts."""
        self._count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until no call is being answered."""
        await self._idle.wait()


class Servicer(Protocol):
    """Anything whose calls are counted."""

    calls: Calls


def answers(
    method: Callable[[Any, Request, Context], Awaitable[Response]],
) -> Callable[[Any, Request, Context], Awaitable[Response]]:
    """Wrap a unary method: count it, turn its errors into status."""

    @functools.wraps(method)
    async def wrapped(self: Servicer, request: Request, context: Context) -> Response:
        with self.calls.counted():
            try:
                return await method(self, request, context)
            except Exception as error:  # the outermost frame of a call
                await _abort(context, error, method.__name__)
                raise  # not reached: abort raises

    return wrapped


def streams(
    method: Callable[[Any, Request, Context], AsyncIterator[Response]],
) -> Callable[[Any, Request, Context], AsyncIterator[Response]]:
    """Wrap a server-streaming method: count it, turn its errors into status."""

    @functools.wraps(method)
    async def wrapped(
        self: Servicer, request: Request, context: Context
    ) -> AsyncIterator[Response]:
        with self.calls.counted():
            try:
                async for response in method(self, request, context):
                    yield response
            except Exception as error:  # the outermost frame of a call
                await _abort(context, error, method.__name__)

    return wrapped


async def _abort(context: Context, error: Exception, method: str) -> None:
    """End a call with the status of an error."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, FacegenError):
        status = status_of(error)
        _LOGGER.debug("call refused method=%s code=%d error=%s", method, status.code, error)
    else:
        request_id = uuid.uuid4().hex
        status = internal_status(request_id)
        _LOGGER.error("call failed method=%s request=%s", method, request_id, exc_info=error)
    await context.abort_with_status(rpc_status.to_status(status))
