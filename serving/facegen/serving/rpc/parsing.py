"""Parses the messages of streams here, for gRPC does it in a way that leaks calls.

Where gRPC cannot parse a message of a stream, it ends the call, and then once more when the method
returns, or the caller is seen to be done. Such calls stay under way for ever: a client that sends
1,000 messages of this kind would use up its connection, which may be a proxy's, and the calls that
a server takes. (grpcio 1.85; of a server without any code of ours, 9 of 50 client streams stayed,
and all 50 of server streams.)

Server streams also get threads of their own: gRPC waits in one for the message, so that callers who
send none would keep all other methods from running.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import grpc

from facegen.serving.errors import InputError

__all__ = ["parsing"]

Parse = Callable[[bytes], Any]


def parsing(server: Any, threads: futures.ThreadPoolExecutor) -> Any:
    """Give what stands for a server where services are added to it.

    Args:
        server: The server.
        threads: Run server streams; not to be shut down before the server has ended.
    """
    return _ParsingServer(server, threads)


class _ParsingServer:
    """Adds services to a server, their streams without gRPC's parser."""

    def __init__(self, server: Any, threads: futures.ThreadPoolExecutor) -> None:
        self._server = server
        self._threads = threads

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Do nothing: generated code adds the same handlers by the other method too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the methods of a service."""
        own = {name: _handler(handler, self._threads) for name, handler in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, own)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service, own)


def _handler(handler: Any, threads: futures.ThreadPoolExecutor) -> Any:
    parse = handler.request_deserializer
    if parse is None:
        return handler
    if handler.stream_stream is not None:
        own = _stream_stream(handler.stream_stream, parse)
        return handler._replace(stream_stream=own, request_deserializer=None)
    if handler.unary_stream is not None:
        own = _unary_stream(handler.unary_stream, parse, threads)
        return handler._replace(unary_stream=own, request_deserializer=None)
    return handler


def _stream_stream(method: Callable[..., Any], parse: Parse) -> Callable[..., Any]:
    @functools.wraps(method)
    def parsing_method(messages: Iterator[bytes], context: Any) -> Any:
        return method(_parsed(messages, parse), context)

    return parsing_method


def _unary_stream(
    method: Callable[..., Any], parse: Parse, threads: futures.ThreadPoolExecutor
) -> Callable[..., Any]:
    def parsing_method(message: bytes, context: Any, *send: Any) -> Any:
        try:
            request = parse(message)
        except Exception:  # whatever a parser raises
            context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
        return method(request, context, *send)

    own: Any = parsing_method
    own.experimental_thread_pool = threads
    # What the method of a watch says of itself, its own threads among it, comes first.
    functools.update_wrapper(own, method)
    return parsing_method


def _parsed(messages: Iterator[bytes], parse: Parse) -> Iterator[Any]:
    for message in messages:
        try:
            request = parse(message)
        except Exception as error:  # whatever a parser raises
            raise InputError("message", "is not of this stream's type; send that") from error
        yield request
