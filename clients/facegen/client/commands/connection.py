"""The options by which a command reaches its server, and the client that they make."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from facegen.client.client import Client

__all__ = ["Connection", "calls_a_server"]


def _option(flag: str, text: str, *, metavar: str | None = None) -> Any:
    return typer.Option(
        flag,
        envvar=f"FACEGEN_{flag.removeprefix('--').replace('-', '_').upper()}",
        metavar=metavar,
        help=text,
        rich_help_panel="Connection",
        show_default=flag == "--server",
    )


@dataclass(frozen=True, slots=True)
class Connection:
    """The server that a command calls, and how: options of every command that has one."""

    server: Annotated[str, _option("--server", "The server to call.", metavar="HOST:PORT")] = (
        "localhost:50051"
    )
    token: Annotated[
        str,
        _option(
            "--token",
            "A bearer token; in the variable nobody sees it in the list of processes.",
            metavar="TOKEN",
        ),
    ] = field(default="", repr=False)
    tls: Annotated[bool, _option("--tls", "Use TLS; so do the options --tls-… below.")] = False
    tls_ca: Annotated[
        Path | None,
        _option(
            "--tls-ca",
            "The authorities to trust, or the server's own certificate (PEM).",
            metavar="FILE",
        ),
    ] = None
    tls_certificate: Annotated[
        Path | None,
        _option(
            "--tls-certificate", "This client's certificate, for mutual TLS (PEM).", metavar="FILE"
        ),
    ] = None
    tls_key: Annotated[
        Path | None, _option("--tls-key", "Its private key (PEM).", metavar="FILE")
    ] = None
    tls_server_name: Annotated[
        str,
        _option(
            "--tls-server-name",
            "The name in the server's certificate, if it is not the host's.",
            metavar="NAME",
        ),
    ] = ""
    insecure_token: Annotated[
        bool,
        _option("--insecure-token", "Send the token to other machines without TLS all the same."),
    ] = False

    def client(self, *, timeout_s: float) -> "Client":
        """Make the client."""
        from facegen.client.client import Client
        from facegen.client.credentials import Tls

        tls = Tls(self.tls_ca, self.tls_certificate, self.tls_key, self.tls_server_name)
        return Client(
            self.server,
            timeout_s=timeout_s,
            credentials=tls if self.tls or tls != Tls() else None,
            token=self.token,
            insecure_token=self.insecure_token,
        )


def calls_a_server(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Connection` in the place of its parameter `connection`."""
    hints = get_type_hints(Connection, include_extras=True)
    options = [
        inspect.Parameter(
            it.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=it.default,
            annotation=hints[it.name],
        )
        for it in fields(Connection)
    ]
    signature = inspect.signature(command)
    own = [it for it in signature.parameters.values() if it.name != "connection"]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        connection = Connection(**{option.name: arguments.pop(option.name) for option in options})
        command(**arguments, connection=connection)

    run.__signature__ = signature.replace(parameters=own + options)  # type: ignore[attr-defined]  # inspect reads it
    run.__annotations__ = {it.name: it.annotation for it in own + options}
    return run
