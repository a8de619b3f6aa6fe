"""The frame of a report: one HTML page that needs nothing but itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

__all__ = ["Section", "page", "write_whole"]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page.

    Attributes:
        title: Its heading.
        content: Finished HTML.
        note: A sentence or two of plain text under the heading.
    """

    title: str
    content: str
    note: str = ""


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Make a page with its style inside.

    Args:
        title: Its heading and the browser's title.
        lead: Finished HTML that stands before the first section.
        sections: In their order; those without content are left out.

    Returns:
        HTML without external resources.
    """
    style = (resources.files("facegen.training.pages") / "page.css").read_text("utf-8")
    body = "".join(_section(it) for it in sections if it.content)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{lead}</header>{body}</main></body></html>\n"
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file in one move, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def _section(section: Section) -> str:
    note = f"<p class=note>{escape(section.note)}</p>" if section.note else ""
    return f"<section><h2>{escape(section.title)}</h2>{note}{section.content}</section>"
