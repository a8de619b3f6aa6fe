"""Serves the metrics over HTTP."""

import logging
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from facegen.serving.errors import ServerError
from facegen.serving.telemetry.metrics import Metrics

__all__ = ["MetricsServer"]

_LOGGER = logging.getLogger(__name__)

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LOOK_S = 0.05  # how often the listening thread looks whether it should end


class MetricsServer:
    """Answers `GET /metrics`, from its making until it is closed.

    Args:
        address: Host and port; port 0 takes a free one.
        metrics: What it tells.

    Raises:
        ServerError: The address is taken or wrong.
    """

    def __init__(self, address: str, metrics: Metrics) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._listener = _Listener(host, int(port), metrics)
        except (OSError, ValueError) as error:
            raise ServerError(
                f'cannot serve metrics on "{address}"',
                "the port may be in use or the host wrong: choose another with "
                "--metrics-address HOST:PORT",
            ) from error
        self.address = f"{host}:{self._listener.server_address[1]}"
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_LOOK_S,), name="facegen-metrics"
        )
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Free the port."""
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()


class _Listener(ThreadingTCPServer):
    """Listens, and answers each connection in a thread of its own."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        if not 0 <= port <= 65535:  # `getaddrinfo` would take the remainder
            raise ValueError(port)
        self.metrics = metrics
        family, _, _, _, where = socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        super().__init__((str(where[0]), int(where[1])), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one connection; clients hang up as they please."""
        _LOGGER.debug("scrape failed client=%s error=%s", client_address[0], sys.exception())


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: _Listener
    timeout = 10.0  # of silence

    def do_GET(self) -> None:
        """Answer with the metrics."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, explain="The metrics are at /metrics.")
            return
        body = self.server.metrics.render()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the library's name
        """Log no scrapes."""
