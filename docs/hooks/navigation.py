"""Lets a folder in the navigation stand for its pages: `design/` for every page in it."""

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files


@event_priority(-100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace folders by their pages, once all hooks have made theirs."""
    uris = [file.src_uri for file in files.documentation_pages()]
    config.nav = _expanded(config.nav, uris)
    return files


def _expanded(entry: Any, uris: list[str]) -> Any:
    if isinstance(entry, list):
        return [_expanded(it, uris) for it in entry]
    if isinstance(entry, dict):
        return {title: _expanded(it, uris) for title, it in entry.items()}
    if not entry.endswith("/"):
        return entry
    pages = [uri for uri in uris if uri.startswith(entry)]
    if not pages:
        raise PluginError(f"the navigation names {entry}, where no page is")
    return sorted(pages, key=lambda uri: (not uri.endswith("/index.md"), uri))
