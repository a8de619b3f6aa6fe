"""The command `facegen studio`."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from facegen.client.commands.connection import Connection, calls_a_server
from facegen.client.commands.options import TimeoutOption

__all__ = ["studio"]


@calls_a_server
def studio(
    address: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Where to serve the page; port 0: a free one."),
    ] = "127.0.0.1:7860",
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Whether to open it in the browser.")
    ] = False,
    page_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Serve the page over https with this certificate (PEM). Without, browsers give the"
            " camera only to pages of their own machine.",
        ),
    ] = None,
    page_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its private key (PEM).")
    ] = None,
    shown_server: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="The server as visitors reach it, for the commands that they copy.",
            show_default="--server",
        ),
    ] = "",
    keep_s: Annotated[
        int,
        typer.Option(
            "--keep-s",
            min=1,
            metavar="SECONDS",
            help="How long photos of visitors and what was made of them are kept.",
        ),
    ] = 900,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Serve nothing: ask whether a studio answers at --address. Exit code 0 if it does,"
            " 1 if not.",
        ),
    ] = False,
    timeout_s: TimeoutOption = 60.0,
    *,
    connection: Connection,
) -> None:
    """Serve a page to play with the models of a server, until SIGTERM.

    It is a client like any other: the server may be elsewhere, and may come and go.
    """
    from facegen.studio.site import Site

    site = Site.at(address, page_certificate, page_key)
    if check:
        if not site.answers():
            typer.echo(f"no studio answers at {address}", err=True)
            raise typer.Exit(1)
        return

    # Before Gradio is imported, which takes seconds: what is wrong is told at once.
    with (
        site.listen() as listening,
        connection.client(timeout_s=timeout_s) as client,
        TemporaryDirectory(prefix="facegen-studio-") as folder,
    ):
        # Gradio looks at these when it is imported: what visitors upload and get lies in the
        # folder, and goes with it; and it tells nobody of us.
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        from facegen.studio.calls import ShownServer
        from facegen.studio.controls import Studio
        from facegen.studio.web import serve_page

        url = site.url(listening.getsockname()[1])

        def tell() -> None:
            typer.echo(f"facegen studio: {url}")
            if open_browser:
                typer.launch(url)

        server = ShownServer(shown_server or connection.server, connection)
        studio = Studio(client, server)
        serve_page(studio, site, listening=listening, keep_s=keep_s, tell=tell)
