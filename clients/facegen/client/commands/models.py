"""`facegen models`: list what a server serves."""

from typing import TYPE_CHECKING, Annotated

import typer

from facegen.client.commands.connection import Connection, calls_a_server
from facegen.client.commands.options import JsonOption, TimeoutOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from facegen.client.types import Direction, Model

__all__ = ["models"]

_MOST_NAMES = 3


@calls_a_server
def models(
    family: Annotated[
        str, typer.Argument(help="Describe this family.", show_default="list them all")
    ] = "",
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 30.0,
    *,
    connection: Connection,
) -> None:
    """List the families a server has, or describe one."""
    from facegen.client.commands.output import console, print_json

    with connection.client(timeout_s=timeout_s) as client:
        found = (client.model(family),) if family else client.models()
    if as_json:
        print_json(found[0] if family else found)
    elif family:
        console().print(_card(found[0]))
    else:
        console().print(_table(found))
        for model in filter(_expressions, found):
            console().print(f"[bold]{model.family}[/] gives {_expressions(model)}")
        for model in (model for model in found if model.directions):
            names = _shortened([it.name for it in sorted(model.directions, key=_unknown)])
            console().print(f"[bold]{model.family}[/] moves along {names}")


def _table(models: "Sequence[Model]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("family", "version", "kind", "makes", "latent", "priors", "data"):
        table.add_column(name, justify="right" if name == "latent" else "left")
    for model in models:
        table.add_row(
            f"[bold]{model.family}[/]",
            model.version,
            model.kind,
            _size(model),
            str(model.latent_size),
            _shortened(model.priors),
            model.dataset,
        )
    return table


def _card(model: "Model") -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    facts = {
        "family": f"[bold]{model.family}[/]",
        "version": model.version,
        "kind": model.kind,
        "mesh" if model.vertex_count else "image": _size(model),
        "latent": f"{model.latent_size} values",
        "priors": ", ".join(model.priors),
        "expressions": _expressions(model),
        "directions": ", ".join(map(_direction, model.directions)),
        "data": model.dataset,
        "data licence": model.data_license,
        "graphs": ", ".join(model.graphs),
    }
    for name, fact in facts.items():
        if fact or name not in ("expressions", "directions"):
            table.add_row(name, fact)
    for name, value in sorted(model.metrics.items()):
        table.add_row(name, f"{value:g}")
    return table


def _shortened(names: "Sequence[str]") -> str:
    """Name the first few of many: some families have a prior and a direction for each attribute."""
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} [dim]+{len(names) - _MOST_NAMES}[/]" if len(names) > _MOST_NAMES else shown


def _unknown(direction: "Direction") -> tuple[bool, float]:
    """Tell the direction's place: those of the greatest effect first, of no known one last."""
    effect = direction.effect
    return (effect is None, 0.0 if effect is None else -abs(effect))


def _direction(direction: "Direction") -> str:
    effect = "" if direction.effect is None else f" [dim]{direction.effect:.3g}[/]"
    return f"{direction.name}{effect}"


def _size(model: "Model") -> str:
    if model.vertex_count:
        return f"{model.vertex_count} vertices, {model.face_count} triangles"
    color = {1: "grey", 3: "RGB"}.get(model.channel_count, f"{model.channel_count} channels")
    return f"{model.width_px} x {model.height_px} {color}"


def _expressions(model: "Model") -> str:
    experimental = ", ".join(model.experimental_expressions)
    places = (
        ", ".join(model.expressions),
        experimental and f"[dim]experimental: {experimental}[/]",
    )
    return "; ".join(filter(None, places))
