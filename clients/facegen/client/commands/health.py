"""`facegen health`: ask whether a server is ready."""

from typing import Annotated

import typer

from facegen.client.commands.options import JsonOption, ServerOption

__all__ = ["health"]


def health(
    service: Annotated[
        str,
        typer.Option(
            help="One of its services, for example facegen.v1.FaceService.",
            show_default="the server as a whole",
        ),
    ] = "",
    json_: JsonOption = False,
    server: ServerOption = "localhost:50051",
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0.001, help="Seconds to wait for the answer.")
    ] = 3.0,
) -> None:
    """Ask whether a server is ready: exit code 0 if it is, 1 if not.

    It asks once and fast, and so serves as a container's health check.
    """
    from facegen.client.client import Client
    from facegen.client.commands.output import console, print_json
    from facegen.client.types import HealthStatus

    with Client(server, timeout_s=timeout_s) as client:
        status = client.health(service)
    if json_:
        print_json({"server": server, "service": service, "status": status})
    else:
        color = "green" if status is HealthStatus.SERVING else "red"
        console().print(f"{service or server}: [{color}]{status}[/]")
    if status is not HealthStatus.SERVING:
        raise typer.Exit(1)
