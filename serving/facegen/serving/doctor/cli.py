"""The command `facegen doctor`."""

from typing import Annotated, Literal

import typer

__all__ = ["doctor"]


def doctor(
    engine: Annotated[
        str,
        typer.Option(
            help="What runs the models: onnx:FOLDER or triton://HOST:PORT.",
            show_default="as `facegen serve` would have it",
        ),
    ] = "",
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="Where they run.", show_default="as `facegen serve` would have it"),
    ] = None,
    probe_s: Annotated[
        float,
        typer.Option(
            "--probe-s",
            min=0,
            max=60,
            metavar="SECONDS",
            help="How long to time each model; 0: not.",
        ),
    ] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, for machines.")
    ] = False,
) -> None:
    """Tell what this machine has for serving, how fast it is, and what is wrong with it.

    It looks at the machine as `facegen serve` would, with the FACEGEN_SERVE_… variables that are
    set. The exit code is 0 if nothing is wrong, 1 if something is.
    """
    import dataclasses
    import json

    from rich.console import Console

    from facegen.serving.doctor.examination import examine
    from facegen.serving.doctor.printing import print_report
    from facegen.serving.telemetry.logs import configure_logging

    configure_logging("error")  # what loading warns of, the report tells

    overrides = {"engine": engine} if engine else {}
    if device is not None:
        overrides["device"] = device
    report = examine(overrides, probe_s=probe_s, say=lambda text: typer.echo(text, err=True))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        print_report(report, Console(highlight=False))
    if not report.healthy:
        raise typer.Exit(1)
