"""The commands `facegen train` and `facegen evaluate`."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from facegen.client.commands.connection import Connection, calls_a_server

__all__ = ["evaluate", "train"]


def _preset_help() -> str:
    folder = resources.files("facegen.training") / "configs"
    lines = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        description = tomllib.loads(file.read_text("utf-8")).get("description", "")
        lines.append(f"{file.name.removesuffix('.toml')}: {description}")
    return "A preset or the path of a TOML file. Presets:\n\n" + "\n\n".join(lines)


def train(
    preset: Annotated[str, typer.Argument(help=_preset_help())],
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets.")] = Path("data"),
    images: Annotated[
        Path | None, typer.Option(help="Train on the pictures of this folder instead.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    name: Annotated[str, typer.Option(help="Run folder's name; the preset's by default.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe, as in --set model.latent_size=64."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Insist on going on from a checkpoint.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.", min=1)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[
        int, typer.Option(help="GPUs that share each batch; on the CPU, processes.", min=1)
    ] = 1,
    num_nodes: Annotated[
        int,
        typer.Option(
            help="Machines with as many each; NODE_RANK, MASTER_ADDR, MASTER_PORT.", min=1
        ),
    ] = 1,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads a process; all shared out by default.", min=1)
    ] = None,
) -> None:
    """Train a model on faces into a run folder; an unfinished run there is resumed."""
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    from facegen.training.config import load_recipe
    from facegen.training.trainer import train_run

    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console)]
    )
    overrides = ["data.reader=folder"] if images else []
    overrides += [*(settings or ()), f"data.root='{(images or data).resolve()}'"]
    if epochs:
        overrides.append(f"epochs={epochs}")
    config = load_recipe(preset, overrides)
    folder = out / (name or Path(preset).stem)
    train_run(
        config,
        folder,
        resume=resume,
        device=device,
        devices=devices,
        num_nodes=num_nodes,
        threads=threads,
        progress=True,
    )
    typer.echo(folder)


FaceReader = Literal["celeba", "lfw", "fer", "folder", "fer-aligned", "folder-aligned"]
CountOption = Annotated[int, typer.Option(help="Pictures to measure with.", min=2)]
InceptionOption = Annotated[
    bool,
    typer.Option(
        "--inception", help="Measure Inception's FID too; its weights must be on the machine."
    ),
]
ReportOption = Annotated[
    Path | None, typer.Option(help="Where the page goes.", show_default="RUN/evaluation.html")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


class _Evaluations(TyperGroup):
    """Measures; a run folder alone, without a subcommand, is one of faces."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the subcommand in its place where it is left out."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["face", *args]
        return super().parse_args(ctx, args)


evaluate = typer.Typer(
    cls=_Evaluations, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown"
)


@evaluate.callback()
def _evaluate() -> None:
    """Measure a finished run or a served model on data it has not seen, or rendered pictures.

    `facegen evaluate RUN` is short for `facegen evaluate face RUN`.
    """


@evaluate.command("face")
def evaluate_face(
    run: Annotated[Path, typer.Argument(help="A finished run folder of a VAE or autoencoder.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets.")] = Path("data"),
    count: CountOption = 1000,
    inception: InceptionOption = False,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a VAE or autoencoder: reconstruction, generation, likelihood, time.

    Writes metrics.json and a page with pictures. The page shows faces of the data set: mind its
    terms before you pass it on.
    """
    from facegen.training.evaluation import EvaluationOptions, evaluate_run

    _log_to_stderr()
    options = EvaluationOptions(count=count, inception=inception)
    metrics = evaluate_run(run, data, options=options, report=report)
    _print_metrics(_numbers(metrics), metrics, as_json=as_json)


@evaluate.command("served")
@calls_a_server
def evaluate_served(
    family: Annotated[str, typer.Option(help="The family to measure: a VAE or autoencoder.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets.")] = Path("data"),
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where metrics.json and the page go.", show_default="out/evaluation/FAMILY"
        ),
    ] = None,
    count: CountOption = 1000,
    inception: InceptionOption = False,
    as_json: JsonOption = False,
    timeout_s: Annotated[float, typer.Option(help="Seconds a call may take.", min=0)] = 60.0,
    *,
    connection: Connection,
) -> None:
    """Measure a VAE or autoencoder that is served, from outside: as `face`, by calls.

    Writes metrics.json and evaluation.html. The page shows faces of the data set: mind its terms
    before you pass it on.
    """
    from facegen.training.evaluation import EvaluationOptions, evaluate_served
    from facegen.training.evaluation.served import ServedSubject

    _log_to_stderr()
    folder = out or Path("out") / "evaluation" / family
    options = EvaluationOptions(count=count, inception=inception)
    with connection.client(timeout_s=timeout_s) as client:
        subject = ServedSubject(client, family, address=connection.server)
        metrics = evaluate_served(subject, data, folder=folder, options=options)
    _print_metrics(_numbers(metrics), metrics, as_json=as_json)


@evaluate.command("rendered")
def evaluate_rendered(
    folder: Annotated[
        Path,
        typer.Argument(help="What `facegen render` wrote, or any folder of pictures or shards."),
    ],
    reader: Annotated[
        FaceReader, typer.Option(help="The data set of real faces to measure against.")
    ] = "celeba",
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets.")] = Path("data"),
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where metrics.json and the page go.", show_default="out/evaluation/FOLDER"
        ),
    ] = None,
    count: CountOption = 1000,
    size_px: Annotated[
        int, typer.Option(help="Side of the squares that pictures are reduced to.", min=16)
    ] = 64,
    inception: InceptionOption = False,
    report: Annotated[
        Path | None, typer.Option(help="Where the page goes.", show_default="OUT/evaluation.html")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure rendered pictures against real ones: distances, realism, variety, faces found.

    Writes metrics.json and evaluation.html. The page shows faces of the data set: mind its terms
    before you pass it on.
    """
    from facegen.training.evaluation import EvaluationOptions, evaluate_rendered

    _log_to_stderr()
    metrics = evaluate_rendered(
        folder,
        data,
        reader=reader,
        folder=out or Path("out") / "evaluation" / folder.resolve().name,
        size_px=size_px,
        options=EvaluationOptions(count=count, inception=inception),
        report=report,
    )
    _print_metrics(_numbers(metrics), metrics, as_json=as_json)


@evaluate.command("expression")
def evaluate_expression(
    run: Annotated[Path, typer.Argument(help="A finished run folder of an expression model.")],
    judge: Annotated[
        Path, typer.Option(help="A finished run of a classifier that did not guide its training.")
    ] = Path("runs/fer-judge"),
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets.")] = Path("data"),
    count: Annotated[int, typer.Option(help="Faces to edit.", min=10)] = 1000,
    recognised_count: Annotated[
        int, typer.Option(help="Those of them to recognise again: 0.1 s an edit.", min=5)
    ] = 200,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure an expression model: expressions reached, identity kept, realism, changed pixels.

    Writes metrics.json, evaluation.json and a page with pictures. The page shows faces of the data
    set: mind its terms before you pass it on.
    """
    from facegen.training.expression.evaluation import Protocol, headline
    from facegen.training.expression.run_evaluation import evaluate_expression_run

    _log_to_stderr()
    protocol = Protocol(source_count=count, identity_count=recognised_count)
    results = evaluate_expression_run(run, judge=judge, data=data, report=report, protocol=protocol)
    _print_metrics(headline(results), results, as_json=as_json)


@evaluate.command("mesh")
def evaluate_mesh(
    run: Annotated[Path, typer.Argument(help="A finished run folder of a mesh autoencoder.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets.")] = Path("data"),
    count: Annotated[
        int, typer.Option(help="Meshes of each split to measure with, evenly taken.", min=2)
    ] = 2000,
    sample_count: Annotated[int, typer.Option(help="Samples of each kind to draw.", min=2)] = 500,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a mesh autoencoder: vertex error in millimetres beside PCA's, samples, time.

    Writes metrics.json, evaluation.json, a page with pictures, and in pictures/ those for a card.
    The page may show people of the data set: mind its terms before you pass it on.
    """
    from facegen.training.mesh.evaluation import evaluate_mesh_run
    from facegen.training.mesh.measuring import MeshEvaluationOptions

    _log_to_stderr()
    options = MeshEvaluationOptions(count=count, sample_count=sample_count)
    metrics = evaluate_mesh_run(run, data, options=options, report=report)
    _print_metrics(_numbers(metrics), metrics, as_json=as_json)


def _log_to_stderr() -> None:
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float | str]:
    """What people read of a metrics.json."""
    plain = {name: it for name, it in metrics.items() if isinstance(it, float | int | str)}
    left_out: Mapping[str, str] = metrics["left_out"]
    return plain | {f"{name} (left out)": reason for name, reason in left_out.items()}


def _print_metrics(
    metrics: Mapping[str, float | str], everything: Mapping[str, Any], *, as_json: bool
) -> None:
    import json

    if as_json:
        typer.echo(json.dumps(everything))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)
