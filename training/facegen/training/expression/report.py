"""An evaluation as one HTML page that needs nothing but itself."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facegen.training.expression.change import ChangeMaps
from facegen.training.expression.evaluation import Evaluation
from facegen.training.expression.heatmaps import draw_flow, draw_heat
from facegen.training.expression.sheets import Cell, Sheet
from facegen.training.expression.sources import Pixels

__all__ = ["confusions", "report_page", "write_whole"]

_DISTORTION_TITLES = {
    "jpeg_75": "JPEG 75",
    "blur_1px": "blur",
    "blur_1px_jpeg_75": "blur + JPEG",
}


def write_whole(path: Path, text: str) -> None:
    """Write a file in one move, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def report_page(title: str, evaluation: Evaluation, *, faces: Sheet, strengths: Sheet) -> str:
    """Make the page.

    Args:
        title: What was measured.
        evaluation: The numbers and maps.
        faces: Sources by expressions.
        strengths: Edits by strength.

    Returns:
        HTML with its style and pictures inside.
    """
    results = evaluation.results
    sections = [
        ("Faces", _FACES_NOTE, _sheet(faces)),
        ("Is the expression reached?", _RATES_NOTE, _rates(results)),
        ("What the judge sees instead", _CONFUSION_NOTE, confusions(results)),
        ("Strength", _STRENGTH_NOTE, _sheet(strengths)),
        ("Is it the same person?", _IDENTITY_NOTE, _identity(results["identity"])),
        ("Does it look real?", _REALISM_NOTE, _realism(results["realism"])),
        ("Where the pixels changed", _CHANGE_NOTE, _change(results["change"], evaluation.maps)),
        ("Protocol", "", _protocol(results)),
    ]
    style = (resources.files("facegen.training.expression") / "report.css").read_text("utf-8")
    body = "".join(
        f"<section><h2>{escape(name)}</h2>{f'<p class=note>{escape(note)}</p>' if note else ''}"
        f"{content}</section>"
        for name, note, content in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{_summary(results)}</header>{body}</main></body></html>\n"
    )


_FACES_NOTE = (
    "The first held-out faces of a seeded draw, all of them, at strength 1. Under each picture "
    "stands what the judge sees, green where it is what was wanted."
)
_RATES_NOTE = (
    "Share of edits that the judge takes for the target. Floor: the sources as they are. Ceiling: "
    "real faces of the expression. The columns after the strengths are measured at strength 1."
)
_CONFUSION_NOTE = "Rows are what was asked for, columns what the judge sees; then rates by source."
_STRENGTH_NOTE = "The first sources of other expressions, from untouched to more than trained."
_IDENTITY_NOTE = (
    "Floor: two different faces. Ceiling: a face and its slightly blurred copy. Strict is the "
    "distance that 1 % of pairs of different faces pass."
)
_REALISM_NOTE = (
    "Distances to real held-out faces of the expression; lower is better. Floor: other real faces "
    "of the expression. Unchanged: the sources before the edit. Compare within a row only."
)
_CHANGE_NOTE = (
    "Means over all edits. Change in levels of 255; arrows show where pixels of the mean face go, "
    "three times as far."
)


def _summary(results: Mapping[str, Any]) -> str:
    rates, identity = results["target_rate"]["1"], results["identity"]
    worst = min(results["robustness"].values(), key=lambda it: it["mean"])
    tiles = [
        (
            "target rate",
            rates["mean"],
            f"floor {_share(results['floor']['mean'])}, "
            f"real faces {_share(results['ceiling']['mean'])}",
        ),
        ("after the worst distortion", worst["mean"], f"real faces {_share(worst['ceiling'])}"),
        (
            "same person",
            identity["same_person_rate"],
            f"different people {_share(identity['floor']['same_person_rate'])}",
        ),
        (
            f"source found among {identity['gallery']:,}",
            identity["retrieval"],
            f"by plain pixels {_share(identity['pixel_retrieval'])}",
        ),
    ]
    return f"<div class=tiles>{''.join(_tile(*it) for it in tiles)}</div>"


def _tile(name: str, value: float, note: str) -> str:
    return (
        f"<div class=tile><b>{_share(value)}</b><span>{escape(name)}</span>"
        f'<i class=bar><i style="width:{100 * min(value, 1):.1f}%"></i></i>'
        f"<small>{escape(note)}</small></div>"
    )


def _share(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _sheet(sheet: Sheet) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in sheet.columns)
    rows = "".join(
        f"<tr><th>{escape(label)}</th>{''.join(map(_cell, cells))}</tr>"
        for label, cells in sheet.rows
    )
    return f"<div class=wide><table class=sheet><tr><th></th>{head}</tr>{rows}</table></div>"


def _cell(cell: Cell) -> str:
    kind = "" if not cell.wanted else "hit" if cell.verdict == cell.wanted else "miss"
    verdict = escape(cell.verdict)
    return f'<td class="{kind}">{_picture(cell.image, verdict)}<small>{verdict}</small></td>'


def _picture(image: Pixels, text: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        buffer, "PNG", optimize=True
    )
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, last_is_mean: bool) -> str:
    """A table of finished cells (`<td>…`), the first of each row its heading."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = []
    for index, (label, *cells) in enumerate(rows):
        kind = " class=mean" if last_is_mean and index == len(rows) - 1 else ""
        lines.append(f"<tr{kind}><th>{escape(label)}</th>{''.join(cells)}</tr>")
    return f"<div class=wide><table class=numbers><tr>{head}</tr>{''.join(lines)}</table></div>"


def _shaded(value: float) -> str:
    """A share as a cell, the darker the more."""
    if np.isnan(value):
        return "<td>–</td>"
    return f'<td style="--share:{100 * value:.0f}%" class=shaded>{value:.2f}</td>'


def _plain(value: float, digits: int = 2) -> str:
    return "<td>–</td>" if np.isnan(value) else f"<td>{value:,.{digits}f}</td>"


def _rates(results: Mapping[str, Any]) -> str:
    columns = {
        "floor": results["floor"],
        **{f"strength {name}": it for name, it in results["target_rate"].items()},
        **{_DISTORTION_TITLES.get(name, name): it for name, it in results["robustness"].items()},
        "ceiling": results["ceiling"],
    }
    counts = results["counts"]["edited_by_expression"]
    missing = float("nan")
    rows = [
        [
            name,
            *(_shaded(it["by_expression"].get(name, missing)) for it in columns.values()),
            f"<td>{counts[name]:,}</td>",
        ]
        for name in results["expressions"]
    ]
    mean = f"mean of {len(results['averaged'])}"
    rows.append([mean, *(_shaded(it["mean"]) for it in columns.values()), "<td></td>"])
    worn = ", ".join(
        f"{_DISTORTION_TITLES.get(name, name)} {_share(it['ceiling'])}"
        for name, it in results["robustness"].items()
    )
    note = f"<p class=note>Ceiling after the same distortion: {escape(worn)}.</p>"
    return _table(["target", *columns, "edits"], rows, last_is_mean=True) + note


def confusions(results: Mapping[str, Any]) -> str:
    """Tables of what the judge sees in edits and in real faces, by what they should show."""
    found = []
    for title, key in (
        ("Edits", "confusion"),
        ("Edits by the source's expression", "by_source"),
        ("Real faces", "real_confusion"),
    ):
        table: Mapping[str, Mapping[str, float]] = results[key]
        columns = list(dict.fromkeys(name for row in table.values() for name in row))
        ordered = [name for name in results["expressions"] if name in columns]
        ordered += [name for name in columns if name not in ordered]
        rows = [
            [name, *(_shaded(table[name].get(it, float("nan"))) for it in ordered)]
            for name in dict.fromkeys((*results["expressions"], *ordered))
            if name in table
        ]
        found.append(
            f"<div><h3>{title}</h3>{_table(['', *ordered], rows, last_is_mean=False)}</div>"
        )
    return f"<div class=columns>{''.join(found)}</div>"


def _identity(identity: Mapping[str, Any]) -> str:
    keys = {
        "same_person_rate": f"same person (under {identity['threshold']:g})",
        "strict_same_person_rate": f"strict (under {identity['strict_threshold']:.2f})",
        "retrieval": "source found",
        "pixel_retrieval": "by pixels",
    }
    missing = float("nan")
    lines: list[tuple[str, Mapping[str, Any]]] = [
        *identity["by_expression"].items(),
        ("floor", identity["floor"]),
        ("ceiling", identity["ceiling"]),
        ("all edits", identity),
    ]
    rows = [
        [
            name,
            *(_shaded(values.get(key, missing)) for key in keys),
            _plain(values.get("mean_distance", missing)),
            f"<td>{values.get('count', '')}</td>",
        ]
        for name, values in lines
    ]
    return _table(["target", *keys.values(), "mean distance", "edits"], rows, last_is_mean=True)


def _realism(realism: Mapping[str, Mapping[str, float]]) -> str:
    columns = [f"{kind}{suffix}" for kind in ("frechet", "kernel") for suffix in _SUFFIXES]
    titles = [
        f"{kind}{title}" for kind in ("Fréchet", "kernel × 1000") for title in _SUFFIXES.values()
    ]
    rows = [
        [name, *(_plain(values[key], 1) for key in columns), f"<td>{values['count']}</td>"]
        for name, values in realism.items()
    ]
    return _table(["target", *titles, "faces of a set"], rows, last_is_mean=False)


_SUFFIXES = {"_floor": ", floor", "": "", "_unchanged": ", unchanged"}


def _change(change: Mapping[str, Mapping[str, float]], maps: Mapping[str, ChangeMaps]) -> str:
    keys = {
        "inside": ("inside the mask", 1),
        "outside": ("outside", 2),
        "border": ("outermost pixels", 2),
        "mask_area": ("mean mask", 2),
        "support_area": ("mask ≥ 0.1, share", 2),
        "flow_px": ("mean flow, px", 2),
        "flow_p95_px": ("95 % of flow, px", 2),
    }
    rows = [
        [name, *(_plain(values[key], digits) for key, (_, digits) in keys.items())]
        for name, values in change.items()
    ]
    table = _table(["target", *(title for title, _ in keys.values())], rows, last_is_mean=False)
    most = max((float(it.change.max()) for it in maps.values()), default=1.0)
    figures = "".join(
        f"<figure>{_picture(draw_heat(it.change, most=most), f'change for {name}')}"
        f"{_picture(draw_heat(it.mask, most=1), f'mask for {name}')}"
        f"{_picture(draw_flow(it), f'flow for {name}')}"
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, it in maps.items()
    )
    legend = (
        "<p class=note>Top to bottom: mean absolute change (black 0, brightest "
        f"{most:.0f} levels), mean mask (black 0, brightest 1), mean flow.</p>"
    )
    return f"{table}<div class=maps>{figures}</div>{legend}"


def _protocol(results: Mapping[str, Any]) -> str:
    numbers = json.dumps(results, indent=2, ensure_ascii=False)
    exact = (
        "At strength 0 the model gives its input back bit for bit."
        if results["exact_at_strength_0"]
        else "At strength 0 the model does NOT give its input back bit for bit."
    )
    return (
        f"<p>{escape(results['protocol'])}</p><p>{exact}</p>"
        f"<details><summary>All numbers as JSON</summary><pre>{escape(numbers)}</pre></details>"
    )
