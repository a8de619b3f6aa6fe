"""An evaluation as one HTML page that needs nothing but itself."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from facegen.training.expression.change import ChangeMaps
from facegen.training.expression.evaluation import Evaluation
from facegen.training.expression.heatmaps import draw_flow, draw_heat
from facegen.training.expression.sheets import Cell, Sheet
from facegen.training.pages import Section, number, page, picture, shaded, share, table, tile

__all__ = ["confusions", "report_page"]

_DISTORTION_TITLES = {
    "jpeg_75": "JPEG 75",
    "blur_1px": "blur",
    "blur_1px_jpeg_75": "blur + JPEG",
}


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
        Section("Faces", _sheet(faces), _FACES_NOTE),
        Section("Is the expression reached?", _rates(results), _RATES_NOTE),
        Section("What the judge sees instead", confusions(results), _CONFUSION_NOTE),
        Section("Strength", _sheet(strengths), _STRENGTH_NOTE),
        Section("Is it the same person?", _identity(results["identity"]), _IDENTITY_NOTE),
        Section("Does it look real?", _realism(results["realism"]), _REALISM_NOTE),
        Section(
            "Where the pixels changed", _change(results["change"], evaluation.maps), _CHANGE_NOTE
        ),
        Section("Protocol", _protocol(results)),
    ]
    return page(title, _summary(results), sections)


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
            f"floor {share(results['floor']['mean'])}, "
            f"real faces {share(results['ceiling']['mean'])}",
        ),
        ("after the worst distortion", worst["mean"], f"real faces {share(worst['ceiling'])}"),
        (
            "same person",
            identity["same_person_rate"],
            f"different people {share(identity['floor']['same_person_rate'])}",
        ),
        (
            f"source found among {identity['gallery']:,}",
            identity["retrieval"],
            f"by plain pixels {share(identity['pixel_retrieval'])}",
        ),
    ]
    cells = (tile(share(value), name, note, filled=value) for name, value, note in tiles)
    return f"<div class=tiles>{''.join(cells)}</div>"


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
    return f'<td class="{kind}">{picture(cell.image, verdict)}<small>{verdict}</small></td>'


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
            *(shaded(it["by_expression"].get(name, missing)) for it in columns.values()),
            f"<td>{counts[name]:,}</td>",
        ]
        for name in results["expressions"]
    ]
    mean = f"mean of {len(results['averaged'])}"
    rows.append([mean, *(shaded(it["mean"]) for it in columns.values()), "<td></td>"])
    worn = ", ".join(
        f"{_DISTORTION_TITLES.get(name, name)} {share(it['ceiling'])}"
        for name, it in results["robustness"].items()
    )
    note = f"<p class=note>Ceiling after the same distortion: {escape(worn)}.</p>"
    return table(["target", *columns, "edits"], rows, last_is_mean=True) + note


def confusions(results: Mapping[str, Any]) -> str:
    """Tables of what the judge sees in edits and in real faces, by what they should show."""
    found = []
    for title, key in (
        ("Edits", "confusion"),
        ("Edits by the source's expression", "by_source"),
        ("Real faces", "real_confusion"),
    ):
        seen: Mapping[str, Mapping[str, float]] = results[key]
        columns = list(dict.fromkeys(name for row in seen.values() for name in row))
        ordered = [name for name in results["expressions"] if name in columns]
        ordered += [name for name in columns if name not in ordered]
        rows = [
            [name, *(shaded(seen[name].get(it, float("nan"))) for it in ordered)]
            for name in dict.fromkeys((*results["expressions"], *ordered))
            if name in seen
        ]
        found.append(f"<div><h3>{title}</h3>{table(['', *ordered], rows)}</div>")
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
            *(shaded(values.get(key, missing)) for key in keys),
            number(values.get("mean_distance", missing)),
            f"<td>{values.get('count', '')}</td>",
        ]
        for name, values in lines
    ]
    return table(["target", *keys.values(), "mean distance", "edits"], rows, last_is_mean=True)


def _realism(realism: Mapping[str, Mapping[str, float]]) -> str:
    columns = [f"{kind}{suffix}" for kind in ("frechet", "kernel") for suffix in _SUFFIXES]
    titles = [
        f"{kind}{title}" for kind in ("Fréchet", "kernel × 1000") for title in _SUFFIXES.values()
    ]
    rows = [
        [name, *(number(values[key], 1) for key in columns), f"<td>{values['count']}</td>"]
        for name, values in realism.items()
    ]
    return table(["target", *titles, "faces of a set"], rows)


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
        [name, *(number(values[key], digits) for key, (_, digits) in keys.items())]
        for name, values in change.items()
    ]
    numbers = table(["target", *(title for title, _ in keys.values())], rows)
    most = max((float(it.change.max()) for it in maps.values()), default=1.0)
    figures = "".join(
        f"<figure>{picture(draw_heat(it.change, most=most), f'change for {name}')}"
        f"{picture(draw_heat(it.mask, most=1), f'mask for {name}')}"
        f"{picture(draw_flow(it), f'flow for {name}')}"
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, it in maps.items()
    )
    legend = (
        "<p class=note>Top to bottom: mean absolute change (black 0, brightest "
        f"{most:.0f} levels), mean mask (black 0, brightest 1), mean flow.</p>"
    )
    return f"{numbers}<div class=maps>{figures}</div>{legend}"


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
