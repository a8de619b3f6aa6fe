"""The commands `facegen train` and `facegen evaluate`."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

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
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; all this process may use by default.", min=1)
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
    overrides = list(settings or ())
    reader = ["data.reader=folder"] if images else []
    overrides += [*reader, f"data.root='{(images or data).resolve()}'"]
    if epochs:
        overrides.append(f"epochs={epochs}")
    config = load_recipe(preset, overrides)
    folder = out / (name or Path(preset).stem)
    train_run(config, folder, resume=resume, device=device, threads=threads, progress=True)
    typer.echo(folder)


def evaluate(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets.")] = Path("data"),
    count: Annotated[int, typer.Option(help="Pictures to measure with.", min=2)] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Measure a finished run and write metrics.json."""
    import json

    from facegen.training.evaluation import evaluate_run

    metrics = evaluate_run(run, data, count=count)
    if as_json:
        typer.echo(json.dumps(metrics))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)
