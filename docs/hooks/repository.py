"""Brings pages of the repository into the site that lie outside of docs/, and mends links.

A link is written for who reads the files in the repository. In the site it leads to the page or
picture that its target became; where the target is not part of the site, its text alone stays.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[2]
_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "models/README.md": "models/index.md",
} | {
    f"{part}/README.md": f"parts/{part}.md"
    for part in ("protos", "clients", "serving", "training", "export")
}
"""Where a page of the repository stands in the site."""

_MODEL_FILES = ("*.md", "*.png", "*.gif", "*.html", "*.ply")
"""Cards, their pictures and what they link to: the same place in the site."""

_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for path, uri in _outside().items():
        files.append(File.generated(config, uri, abs_src_path=str(_ROOT / path)))
    return files


def on_page_markdown(
    markdown: str, *, page: Page, config: MkDocsConfig, files: Files, **_: Any
) -> str:
    """Mend the links of a page."""
    outside = _outside()
    places = {uri: path for path, uri in outside.items()}
    here = page.file.src_uri
    folder = posixpath.dirname(places.get(here, f"docs/{here}"))

    def mended(link: re.Match[str]) -> str:
        mark, text, target = link.groups()
        path, hash_sign, anchor = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return link[0]
        path = posixpath.normpath(posixpath.join(folder, path))
        uri = outside.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(uri):
            to = posixpath.relpath(uri, posixpath.dirname(here) or ".")
            return f"{mark}[{text}]({to}{hash_sign}{anchor})"
        if mark or not (_ROOT / path).exists():
            raise PluginError(f"{here} links to {target}, which is not there")
        return text

    parts = _FENCED.split(markdown)
    return "".join(it if it.startswith("```") else _LINK.sub(mended, it) for it in parts)


def _outside() -> dict[str, str]:
    """Tell the site's names of files outside of docs/ by their own."""
    pages = {path: uri for path, uri in _PAGES.items() if (_ROOT / path).exists()}
    models = [path for kind in _MODEL_FILES for path in sorted((_ROOT / "models").glob(kind))]
    same = [path.relative_to(_ROOT).as_posix() for path in models]
    return {path: path for path in same} | pages
