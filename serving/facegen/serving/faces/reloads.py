"""What becomes of calls whose models are exchanged while they are under way.

A call keeps the version that it found. Where that has gone before the call's last step, a call that
has answered nothing yet begins again with the version there is now; a stream ends.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from facegen.serving.call_context import CallContext
from facegen.serving.errors import EngineClosedError, ModelNotFoundError, NotReadyError
from facegen.serving.faces.latent_family import LatentFamily
from facegen.serving.rpc.calls import Finish

__all__ = ["begins_again", "ends_with_version", "tries_again"]

Request = TypeVar("Request")
Response = TypeVar("Response")


class Service(Protocol):
    """A service whose methods are wrapped here."""

    def look_again(self) -> None:
        """Look for the families that there are now."""
        ...


def tries_again(
    method: Callable[[Any, Request, CallContext], Response],
) -> Callable[[Any, Request, CallContext], Response]:
    """Wrap a method that blocks."""

    @functools.wraps(method)
    def wrapped(service: Service, request: Request, context: CallContext) -> Response:
        try:
            return method(service, request, context)
        except ModelNotFoundError:
            service.look_again()
        try:
            return method(service, request, context)
        except ModelNotFoundError as error:
            raise NotReadyError("the family") from error

    return wrapped


def begins_again(
    method: Callable[[Any, Request, CallContext, Finish], None],
) -> Callable[[Any, Request, CallContext, Finish], None]:
    """Wrap a deferred method."""

    @functools.wraps(method)
    def wrapped(service: Service, request: Request, context: CallContext, finish: Finish) -> None:
        def finish_last(answer: Any) -> None:
            gone = isinstance(answer, ModelNotFoundError)
            finish(NotReadyError("the family") if gone else answer)

        def finish_first(answer: Any) -> None:
            if not isinstance(answer, ModelNotFoundError):
                finish(answer)
                return
            try:
                service.look_again()
                method(service, request, context, finish_last)
            except Exception as error:  # the outermost frame of a call
                finish(error)

        method(service, request, context, finish_first)

    return wrapped


@contextmanager
def ends_with_version(family: LatentFamily) -> Iterator[None]:
    """Refuse to go on with a stream whose version has gone; a retry elsewhere may find it."""
    try:
        yield
    except ModelNotFoundError as error:
        raise EngineClosedError(f'version {family.version} of family "{family.name}"') from error
