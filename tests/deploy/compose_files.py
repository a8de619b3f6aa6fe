"""Reads compose files as Compose does: merges what lies over one another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["BASE", "OVERRIDES", "ROOT", "merged", "read"]

ROOT = Path(__file__).parents[2]
BASE = ROOT / "docker-compose.yml"
OVERRIDES = sorted(ROOT.glob("docker-compose.*.yml"))


class _Reset:
    """The value `!reset`: what lies below is taken away."""


class _Loader(yaml.SafeLoader):
    """Knows Compose's own tag."""


_Loader.add_constructor("!reset", lambda _loader, _node: _Reset())


def read(path: Path) -> dict[str, Any]:
    """Read a file as it stands, with what it takes away left out."""
    plain: dict[str, Any] = _merged({}, _load(path))
    return plain


def merged(*overrides: Path) -> dict[str, Any]:
    """Read docker-compose.yml with others over it."""
    together: dict[str, Any] = _load(BASE)
    for path in overrides:
        together = _merged(together, _load(path))
    return together


def _load(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), _Loader)


def _merged(below: Any, above: Any) -> Any:
    if isinstance(above, Mapping):
        under = below if isinstance(below, Mapping) else {}
        both = {key: _merged(under.get(key), value) for key, value in above.items()}
        return {
            key: value for key, value in {**under, **both}.items() if not isinstance(value, _Reset)
        }
    # Compose adds to the lists that describe a container, and replaces what it is started with;
    # no file here has such a list twice, which a test holds.
    return above
