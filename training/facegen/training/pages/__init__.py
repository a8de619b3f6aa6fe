"""Reports as single HTML pages: their frame, tables, pictures and charts."""

from facegen.training.pages.charts import Bar, Line, bars, histogram, line_chart
from facegen.training.pages.page import Section, page, write_whole
from facegen.training.pages.parts import (
    animation,
    lighter,
    number,
    picture,
    shaded,
    share,
    strip,
    table,
    terms,
    tile,
)

__all__ = [
    "Bar",
    "Line",
    "Section",
    "animation",
    "bars",
    "histogram",
    "lighter",
    "line_chart",
    "number",
    "page",
    "picture",
    "shaded",
    "share",
    "strip",
    "table",
    "terms",
    "tile",
    "write_whole",
]
