"""Charts as HTML and SVG in the page's own colours: readable in the dark, on paper, on a phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bar", "Line", "bars", "histogram", "line_chart"]

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 10, 10, 34
_TICK_COUNT = 4


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: its name, its points, and its colour (a class of the page's style, 1 to 4)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, its length, and whether it is one's own or a rival's or a limit's."""

    label: str
    value: float
    kind: str = ""


def bars(rows: Sequence[Bar], *, digits: int = 1) -> str:
    """Horizontal bars from 0, with their numbers; `kind` is `own`, `rival`, `floor` or empty."""
    longest = max((it.value for it in rows), default=0.0) or 1.0
    lines = "".join(
        f"<span>{escape(it.label)}</span>"
        f'<i class="track {it.kind}">'
        f'<i style="width:{100 * max(it.value, 0) / longest:.1f}%"></i></i>'
        f"<b>{it.value:,.{digits}f}</b>"
        for it in rows
    )
    return f"<div class=bars>{lines}</div>"


def line_chart(
    lines: Sequence[Line], *, title: str, x_title: str, marks: Sequence[float] = ()
) -> str:
    """Curves over a common axis, with a legend; values that are not finite break a curve.

    Args:
        lines: The curves.
        title: What they show.
        x_title: What they are over.
        marks: Where dotted upright lines stand.
    """
    x = np.concatenate([np.asarray(it.x, np.float64) for it in lines])
    y = np.concatenate([np.asarray(it.y, np.float64) for it in lines])
    x_range, y_range = _range(x), _padded(*_range(y))
    drawn = "".join(
        f'<path class="line color-{it.color}" d="{_path(it, x_range, y_range)}"/>' for it in lines
    )
    legend = "".join(f"<span class=color-{it.color}>{escape(it.name)}</span>" for it in lines)
    axes = _axes(x_range, y_range, x_title)
    upright = "".join(
        f'<line class=mark x1="{_x(it, x_range)}" x2="{_x(it, x_range)}" '
        f'y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        for it in marks
    )
    return _figure(f"{axes}{upright}{drawn}", title, legend if len(lines) > 1 else "")


def histogram(values: NDArray[np.floating], *, title: str, x_title: str, bins: int = 24) -> str:
    """How often values lie where."""
    counts, edges = np.histogram(values, bins=bins)
    x_range, y_range = (float(edges[0]), float(edges[-1])), (0.0, float(counts.max()) * 1.05)
    boxes = "".join(
        f'<rect class=column x="{_x(left, x_range):.1f}" y="{_y(count, y_range):.1f}" '
        f'width="{max(_x(right, x_range) - _x(left, x_range) - 1, 0.5):.1f}" '
        f'height="{_y(0, y_range) - _y(count, y_range):.1f}"/>'
        for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    return _figure(f"{_axes(x_range, y_range, x_title)}{boxes}", title, "")


def _figure(drawing: str, title: str, legend: str) -> str:
    legend = f"<div class=legend>{legend}</div>" if legend else ""
    return (
        f"<figure class=chart><figcaption>{escape(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{drawing}</svg></figure>"
    )


def _axes(x_range: tuple[float, float], y_range: tuple[float, float], x_title: str) -> str:
    parts = []
    for value in _ticks(*y_range):
        y = _y(value, y_range)
        parts.append(f'<line class=grid x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class=end x="{_LEFT - 6}" y="{y + 4}">{_label(value)}</text>')
    bottom = _HEIGHT - _BOTTOM + 15
    parts += [
        f'<text class=middle x="{_x(value, x_range)}" y="{bottom}">{_label(value)}</text>'
        for value in _ticks(*x_range)
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class=middle x="{middle}" y="{_HEIGHT - 3}">{escape(x_title)}</text>')
    return "".join(parts)


def _path(line: Line, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    steps, pen_is_up = [], True
    for x, y in zip(line.x, line.y, strict=True):
        if not math.isfinite(y):
            pen_is_up = True
            continue
        steps.append(f"{'M' if pen_is_up else 'L'}{_x(x, x_range):.1f} {_y(y, y_range):.1f}")
        pen_is_up = False
    return "".join(steps)


def _x(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / ((high - low) or 1.0), 1)


def _y(value: float, span: tuple[float, float]) -> float:
    low, high = span
    height = _HEIGHT - _TOP - _BOTTOM
    return round(_TOP + height * (1 - (value - low) / ((high - low) or 1.0)), 1)


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.05 * (high - low) or 0.5
    return low - pad, high + pad


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range, about as many as fit."""
    if high <= low:
        return [low]
    rough = (high - low) / _TICK_COUNT
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 2.5, 5, 10), key=lambda it: abs(it * power - rough))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [step * it for it in range(first, last + 1)]


def _label(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:,.4g}k".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")
