"""Parses the messages of client streams here, for gRPC does it in a way that leaks calls.

Where gRPC cannot parse a message of a stream, it ends the call, and then once more when the method
returns. Some of these calls stay under way for ever, by the count of every server of theirs: a
client that sends such messages would use up all the calls that a server takes. (grpcio 1.85; with
one bad message each, 9 of 50 calls of a server without any code of ours stayed.)
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc

from facegen.serving.errors import InputError

__all__ = ["parsing"]

Parse = Callable[[bytes], Any]


def parsing(server: Any) -> Any:
    """Give what stands for a server where services are added to it."""
    return _ParsingServer(server)


class _ParsingServer:
    """Adds services to a server, their client streams without gRPC's parser."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Do nothing: generated code adds the same handlers by the other method too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the methods of a service."""
        own = {name: _parsing_handler(handler) for name, handler in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, own)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service, own)


def _parsing_handler(handler: Any) -> Any:
    method, parse = handler.stream_stream, handler.request_deserializer
    if method is None or parse is None:
        return handler

    def parsing_method(messages: Iterator[bytes], context: Any) -> Iterator[Any]:
        answers: Iterator[Any] = method(_parsed(messages, parse), context)
        return answers

    return handler._replace(stream_stream=parsing_method, request_deserializer=None)


def _parsed(messages: Iterator[bytes], parse: Parse) -> Iterator[Any]:
    for message in messages:
        try:
            request = parse(message)
        except Exception as error:  # whatever a parser raises
            raise InputError("message", "is not of this stream's type; send that") from error
        yield request
