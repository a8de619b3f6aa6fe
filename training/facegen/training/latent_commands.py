"""The commands `facegen fit` and `facegen nearest`: what is known of a finished run's latents."""

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["fit", "nearest"]

RunArgument = Annotated[Path, typer.Argument(help="A finished run folder of a VAE or autoencoder.")]
DataOption = Annotated[Path, typer.Option(help="Folder that holds the data sets.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def fit(
    run: RunArgument,
    data: DataOption = Path("data"),
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            help="A label whose pictures get a prior of their own, as Smiling; -Male: those "
            "without it. The recipe's by default.",
        ),
    ] = None,
    candidates: Annotated[
        list[int] | None,
        typer.Option(help="A number of components to choose from by BIC.", min=1),
    ] = None,
    mixture: Annotated[
        bool, typer.Option("--mixture", help="Fit the prior of all pictures anew, too.")
    ] = False,
    effects: Annotated[
        bool, typer.Option(help="Measure what directions change in validation photos.")
    ] = True,
    count: Annotated[
        int, typer.Option(help="Photos with and without a label to try each direction on.", min=10)
    ] = 100,
    as_json: JsonOption = False,
) -> None:
    """Fit priors of labels and directions to a finished run's latents, and measure directions.

    Writes priors/NAME.npz, directions.npz and directions.json into the run folder, in place of
    those of an earlier fit. Measuring takes some 15 ms a photo and CPU, minutes in all.
    """
    import json

    from facegen.training.refitting import FitOptions, fit_run

    options = FitOptions(
        labels=None if labels is None else tuple(labels),
        candidates=tuple(candidates or ()),
        mixture=mixture,
        effects=effects,
        count=count,
    )
    _log_to_stderr()
    result = fit_run(run, data, options=options)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _print_fit(result)


def nearest(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="The sheet to write; it shows the data's people.")],
    data: DataOption = Path("data"),
    seed: Annotated[int, typer.Option(help="Of the samples.", min=0)] = 0,
    count: Annotated[int, typer.Option(help="Samples to judge by.", min=2)] = 100,
    rows: Annotated[int, typer.Option(help="Samples on the sheet.", min=1)] = 12,
    as_json: JsonOption = False,
) -> None:
    """Find the training pictures nearest to samples: does the model draw, or does it remember?

    A ratio below 1 says that samples are nearer to training pictures than new faces are.
    """
    import json

    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from facegen.training.evaluation.networks import Judge
    from facegen.training.features import FeatureNetwork
    from facegen.training.nearest import find_nearest, nearest_sheet
    from facegen.training.run import load_run

    loaded = load_run(run)
    _log_to_stderr()
    faces = loaded.faces(data)
    judge = Judge(FeatureNetwork(), faces.dataset, limit=len(faces.dataset.pictures))
    found = find_nearest(loaded, faces, judge=judge, seed=seed, count=count)
    nearest_sheet(found, np.asarray(faces.pixels["train"]), row_count=rows).save(out)
    if as_json:
        typer.echo(json.dumps({**found.statistics, "sheet": str(out)}))
        return
    table = Table("median distance to the nearest training picture", "features", "pixels")
    for name in found.statistics["features"]:
        values = (found.statistics[space][name] for space in ("features", "pixels"))
        table.add_row(name.replace("_", " "), *(f"{value:.3f}" for value in values))
    Console().print(table)
    typer.echo(out)


def _log_to_stderr() -> None:
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])


def _print_fit(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    priors = Table("prior", "components")
    for name, components in result["priors"].items():
        priors.add_row(name, str(components))
    console.print(priors)
    directions = Table("direction", "judge", "+1", "−1", "others", "kept")
    measured = result["effects"].get("directions", {})
    for name in result["directions"]:
        found = measured.get(name, {})
        cells = (found.get(key) for key in ("balanced_accuracy", "added", "removed", "others"))
        texts = ("–" if cell is None else f"{cell:.2f}" for cell in cells)
        directions.add_row(name, *texts, "yes" if found.get("kept", True) else "no")
    console.print(directions)
