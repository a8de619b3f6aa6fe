"""Unary calls that hold no thread while they wait.

gRPC's threaded server gives every call a thread from its arrival to its answer, and hands it from
thread to thread three times. A deferred method is begun in the thread that received its message
and answered from the thread that has the answer. With one row a call that is worth a fifth of the
throughput (docs/design/0005).

This reaches into `grpc._server`, whose names it uses have been there since 2016. Where they are
missing, the same methods run in threads, by `wait_for`.
"""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, TypeVar

import grpc

try:
    from grpc import _server
    from grpc._cython import cygrpc

    _INTERNALS: Any = (
        _server._Context, _server._receive_message, _server._status,
        _server._unary_response_in_pool, _server._RECEIVE_MESSAGE_TOKEN,
        cygrpc.ReceiveMessageOperation,
    )  # fmt: skip
except (ImportError, AttributeError):
    _INTERNALS = None

__all__ = ["CallExecutor", "Finish", "deferred"]

Request = TypeVar("Request")
# Answers a call: its response, or an error; called exactly once, from any thread.
Finish = Callable[[Any], None]
