"""The command `facegen export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Backend", "Weights", "export"]


class Weights(StrEnum):
    """How the files keep large weights; every graph computes in float32."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Backend(StrEnum):
    """What runs the graphs in Triton; facegen's server reads what is for ONNX Runtime."""

    ONNXRUNTIME = "onnxruntime"
    PYTHON = "python"


def export(
    run: Annotated[
        Path,
        typer.Argument(
            help="A finished run folder; or a model repository, to copy for another "
            "--triton-backend, which is then the only other option that counts."
        ),
    ],
    to: Annotated[Path, typer.Option(help="The model repository; made if it is not there.")] = Path(
        "models"
    ),
    family: Annotated[str, typer.Option(help="Family's name; the run folder's by default.")] = "",
    version: Annotated[
        int, typer.Option(help="Version to write; the same version is replaced.", min=1)
    ] = 1,
    weights: Annotated[
        Weights | None,
        typer.Option(
            help="How the files keep large weights. Default: 8 bits for an autoencoder's encoder, "
            "float32 for meshes, float16 for other graphs."
        ),
    ] = None,
    aligner: Annotated[
        Path | None,
        typer.Option(help="A finished run of an aligner, for a run of expressions."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that holds the data sets; the run's by default."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(help="Validation pictures or meshes to check the graphs with.", min=1)
    ] = 64,
    repetitions: Annotated[
        int,
        typer.Option(
            help="Turns in which forms of a graph are timed; 0 takes the usual winner.", min=0
        ),
    ] = 15,
    max_batch_size: Annotated[
        int, typer.Option(help="The most rows that a server runs at once.", min=1)
    ] = 64,
    max_queue_delay_us: Annotated[
        int, typer.Option(help="Microseconds a server waits for rows that fill a batch.", min=0)
    ] = 0,
    triton_backend: Annotated[
        Backend,
        typer.Option(
            help="Triton's backend that runs the graphs; python is for a Triton without the other."
        ),
    ] = Backend.ONNXRUNTIME,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Export a run to a model repository: checked ONNX graphs, their config.pbtxt and a card."""
    import json

    from rich.console import Console

    from facegen.export.config import BatchingOptions
    from facegen.export.conversion import convert_repository, is_repository
    from facegen.export.exporter import export_run
    from facegen.export.options import ExportOptions
    from facegen.export.report import report_json, report_table
    from facegen.export.selection import Measurement

    if is_repository(run):
        folders = convert_repository(run, to, backend=triton_backend.value)
        written = [str(folder) for folder in folders]
        typer.echo(json.dumps({"written": written}) if as_json else "\n".join(written))
        return
    options = ExportOptions(
        storage=weights.value if weights else None,
        aligner=aligner,
        picture_count=pictures,
        measurement=Measurement(repetitions=repetitions),
        batching=BatchingOptions(max_batch_size, max_queue_delay_us),
        triton_backend=triton_backend.value,
    )
    with Console(stderr=True).status(f"exporting {run}"):
        report = export_run(run, to, family=family, version=version, data=data, options=options)
    if as_json:
        typer.echo(json.dumps(report_json(report)))
    else:
        Console().print(report_table(report))
