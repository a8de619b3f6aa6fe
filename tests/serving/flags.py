"""The page of the documentation that tells every flag of `facegen serve`.

`python -m tests.serving.flags` writes it to docs.
"""

import inspect
from pathlib import Path

from facegen.serving.cli import serve

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parents[2] / "docs" / "serving-flags.md"

_HEAD = """# Flags of `facegen serve`

From `facegen serve --help`, which tells the same. Each flag has a variable: `--max-images` is
`FACEGEN_SERVE_MAX_IMAGES`. A flag wins over its variable; several values of `--load-models` are
separated by spaces in the variable. `facegen doctor` prints what is set.
"""
_TABLE = """
## {panel}

| flag | default | what it sets |
| --- | --- | --- |
"""


def page() -> str:
    """Write the page."""
    text, panel = _HEAD, ""
    for name, parameter in inspect.signature(serve).parameters.items():
        (option,) = parameter.annotation.__metadata__
        if option.rich_help_panel != panel:
            panel = option.rich_help_panel
            text += _TABLE.format(panel=panel)
        default = "" if parameter.default in ("", None, []) else f"`{_shown(parameter.default)}`"
        text += f"| `--{name.replace('_', '-')}` | {default} | {option.help} |\n"
    return text


def _shown(default: object) -> str:
    return "off" if default is False else str(default)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
