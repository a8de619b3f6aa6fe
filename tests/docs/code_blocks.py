"""The code blocks of the documentation, and the script that a reader would run."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "Change", "blocks_of", "changed", "commands_in", "pages", "script_of"]

ROOT = Path(__file__).parents[2]

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^(?: {4}\S.*\n)+", re.MULTILINE)
_SHELL = ("sh", "console")
_PRESUME_A_SERVER = ("clients/README.md",)

# A server is started as in a window of its own: it takes the place of the one before, and the next
# command is typed when it is ready.
_HEAD = """set -euo pipefail
server=
begin() {
  if [ -n "$server" ]; then kill "$server"; wait "$server" || true; fi
  "$@" &
  server=$!
  facegen health --wait --timeout-s 240
}
trap 'jobs -p | xargs --no-run-if-empty kill' EXIT
PS4='+ ${SECONDS} s: '
set -x
"""


@dataclass(frozen=True, slots=True)
class Block:
    """One code block: its page, the line where it begins, its language, and its text."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """Why a command or a Python block is left out, or what is added to it to make it short."""

    reason: str
    added: str = ""


def pages() -> list[str]:
    """Name every page of the documentation, relative to the repository."""
    patterns = ("README.md", "*/README.md", "docs/**/*.md", "models/*.md")
    return sorted({path.relative_to(ROOT).as_posix() for it in patterns for path in ROOT.glob(it)})


def blocks_of(page: str, *, indented: bool = False) -> list[Block]:
    """Find the fenced blocks of a page, or those that are marked by their indentation."""
    text = (ROOT / page).read_text("utf-8")
    found = []
    for match in (_INDENTED if indented else _FENCED).finditer(text):
        language, code = ("sh", match[0]) if indented else (match[1], match[2])
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, language, code))
    return found


def commands_in(block: Block) -> list[str]:
    """List the commands of a shell block; in a console's those lines that begin with a prompt."""
    if block.language not in _SHELL:
        return []
    lines = block.text.replace("\\\n", "").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def changed(block: Block, changes: Mapping[str, Change]) -> set[str]:
    """Give the keys of the changes that concern a block."""
    lines = commands_in(block) or block.text.splitlines()
    return {key for key in changes for line in lines if _is(key, line)}


def script_of(page: str, changes: Mapping[str, Change], folder: Path, address: str) -> str:
    """Write what a reader of a page would type, from its first block to its last.

    Args:
        page: The page.
        changes: What is left out or shortened, by the command.
        folder: Takes the Python blocks.
        address: Stands for that of the server, which the pages name.
    """
    script = [_HEAD, *(["begin facegen serve"] if page in _PRESUME_A_SERVER else [])]
    for block in blocks_of(page):
        if block.language == "python" and not changed(block, changes):
            file = folder / f"line_{block.line}.py"
            file.write_text(_at(address, block.text), "utf-8")
            script.append(f"python {shlex.quote(str(file))}")
        for command in commands_in(block):
            change = next((it for key, it in changes.items() if _is(key, command)), None)
            if change is None or change.added:
                added = f" {change.added}" if change else ""
                script.append(_typed(f"{command.partition(' #')[0].rstrip()}{added}"))
    return _at(address, "\n".join(filter(None, script)) + "\n")


def _at(address: str, text: str) -> str:
    return re.sub(r"(localhost|127\.0\.0\.1):50051", address, text)


def _is(key: str, line: str) -> bool:
    if key.endswith("…"):
        return line.startswith(key[:-1])
    return line.partition(" #")[0].rstrip() == key


def _typed(command: str) -> str:
    """Let servers run beside what follows."""
    if not command.startswith("facegen serve"):
        return command
    return f"begin {command.rstrip(' &')}"
