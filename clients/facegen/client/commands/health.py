"""`facegen health`: ask whether a server is ready."""

import json
from typing import Annotated

import typer

from facegen.client.commands.connection import Connection, calls_a_server
from facegen.client.commands.options import JsonOption

__all__ = ["health"]


@calls_a_server
def health(
    service: Annotated[
        str,
        typer.Option(
            help="One of its services, for example facegen.v1.FaceService.",
            show_default="the server as a whole",
        ),
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is ready, up to --timeout-s.")
    ] = False,
    as_json: JsonOption = False,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout-s", min=0, metavar="SECONDS", help="How long to wait."),
    ] = 3.0,
    *,
    connection: Connection,
) -> None:
    """Ask whether a server is ready: exit code 0 if it is, 1 if not.

    It asks once and fast, and so serves as a container's health check; with `--wait`, as the step
    between starting a server and using it.
    """
    from facegen.client.types import HealthStatus

    with connection.client(timeout_s=timeout_s) as client:
        if wait:
            client.wait_until_serving(service)
        status = client.health(service)
    healthy = status is HealthStatus.SERVING
    if as_json:
        typer.echo(json.dumps({"server": connection.server, "service": service, "status": status}))
    else:
        colored = typer.style(status, fg="green" if healthy else "red")
        typer.echo(f"{service or connection.server}: {colored}")
    if not healthy:
        raise typer.Exit(1)
