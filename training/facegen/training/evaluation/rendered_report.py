"""An evaluation of rendered pictures as one HTML page."""

from collections.abc import Mapping
from html import escape
from typing import Any

from facegen.training.evaluation import gallery, sections
from facegen.training.evaluation.comparing import Comparison
from facegen.training.evaluation.nearest import nearest_faces
from facegen.training.pages import Section, page

__all__ = ["rendered_page"]

_PICTURES_NOTE = "The first of the draw, chosen by nobody."
_CAUTION = (
    "This page shows faces of the data set {}, and rendered pictures may show people too, where "
    "they were made from photos: mind the terms before you pass it on, and do not publish it."
)


def rendered_page(name: str, comparison: Comparison, results: Mapping[str, Any]) -> str:
    """Make the page.

    Args:
        name: The data set's, for people.
        comparison: What was found, and with what.
        results: The same as it is written to metrics.json.

    Returns:
        HTML with its style and pictures inside.
    """
    shown = [
        Section("Rendered pictures", gallery.rendered(comparison), _PICTURES_NOTE),
        sections.distances(comparison),
        sections.neighbourhoods(comparison),
        sections.remembered(nearest_faces(comparison)),
        sections.numbers(comparison),
        sections.protocol(results),
    ]
    return page(f"{name}: how good are its faces?", _lead(comparison, results), shown)


def _lead(comparison: Comparison, results: Mapping[str, Any]) -> str:
    fields = results["protocol_fields"]
    subject, data = fields["subject"], fields["data"]
    words = (
        f"{subject['count']:,} of {subject['pictures']:,} rendered pictures, reduced to "
        f"{data['image_size_px']} × {data['image_size_px']} pixels, beside as many validation "
        f"pictures of {data['reader']}."
    )
    tiles = [*sections.distance_tiles(comparison), *sections.variety_tiles(comparison)]
    return (
        f"<p class=lead>{escape(words)}</p><div class=tiles>{''.join(tiles)}</div>"
        f"<p class=caution>{escape(_CAUTION.format(data['reader']))}</p>"
    )
