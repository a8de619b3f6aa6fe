"""The web server of the page."""

import signal
import socket
from collections.abc import Callable
from http import HTTPStatus

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facegen.studio import appearance
from facegen.studio.controls import Studio
from facegen.studio.page import build_page
from facegen.studio.site import HEALTH, Site

__all__ = ["serve_page"]

_MOST_UPLOAD = "32mb"
_GOODBYE_S = 3
_KEEP = (b"cache-control", b"public, max-age=31536000, immutable")


class _Server(uvicorn.Server):
    """Tells when it is ready."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell so."""
        await super().startup(sockets)
        if self.started:
            self._tell()


def serve_page(
    studio: Studio, site: Site, *, listening: socket.socket, keep_s: int, tell: Callable[[], None]
) -> None:
    """Serve the page until SIGTERM or SIGINT.

    Args:
        studio: What the page works with.
        site: Where it is served.
        listening: The socket that listens there.
        keep_s: How long files of visitors are kept.
        tell: Is called once the page is there.
    """
    config = uvicorn.Config(
        _kept_by_browsers(_app(studio, keep_s=keep_s)),
        log_level="warning",
        access_log=False,
        ssl_certfile=site.certificate,
        ssl_keyfile=site.key,
        timeout_graceful_shutdown=_GOODBYE_S,
    )
    # uvicorn raises the signal again when it has ended, which would end the process by it.
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: None)
    _Server(config, tell).run(sockets=[listening])


def _kept_by_browsers(app: ASGIApp) -> ASGIApp:
    """Let browsers keep the files that have a digest in their names, and not ask for them again."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_kept(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.OK:
                message["headers"] = [*message["headers"], _KEEP]
            await send(message)

        named_by_digest = scope["type"] == "http" and scope["path"].startswith("/assets/")
        await app(scope, receive, send_kept if named_by_digest else send)

    return serve


def _app(studio: Studio, *, keep_s: int) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get(HEALTH)
    def health() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    gr.mount_gradio_app(
        app,
        build_page(studio, keep_s=keep_s),
        path="/",
        theme=appearance.theme(),
        css=appearance.style(),
        head=appearance.head(),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size=_MOST_UPLOAD,
    )
    return app
