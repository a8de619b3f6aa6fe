"""Reads what serving/Dockerfile says: its stages, and what is copied into them.

It knows the instructions that this one file uses, and refuses all others.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from string import Template

__all__ = ["Instruction", "Stage", "copied_files", "environment_of", "read_stages"]

_CONTINUED = re.compile(r"\\\n\s*")
_KNOWN = {
    "ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "USER", "WORKDIR",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        name: For example `RUN`.
        text: What follows it, in one line.
    """

    name: str
    text: str

    @property
    def options(self) -> Mapping[str, str]:
        """What stands before its arguments: `--from=build` is {"from": "build"}."""
        words = self.text.split()
        named = [word for word in words if word.startswith("--") and "=" in word]
        leading = named[: next((i for i, word in enumerate(words) if word not in named), None)]
        return dict(word.removeprefix("--").split("=", 1) for word in leading)

    @property
    def arguments(self) -> str:
        """What follows its options."""
        words = self.text.split(maxsplit=len(self.options))
        return words[-1] if self.options else self.text

    @property
    def command(self) -> list[str]:
        """The command of a CMD or HEALTHCHECK, as it is executed."""
        command: list[str] = json.loads(self.text[self.text.index("[") :])
        return command


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        name: What it is called after AS.
        parent: The stage or image that it begins with.
        instructions: What is done then.
    """

    name: str
    parent: str
    instructions: Sequence[Instruction]

    def last(self, name: str) -> Instruction:
        """Give its last instruction of a name."""
        return next(it for it in reversed(self.instructions) if it.name == name)


def read_stages(dockerfile: Path) -> dict[str, Stage]:
    """Read a Dockerfile: its stages by name, in its order.

    Raises:
        ValueError: It has an instruction that is not known here.
    """
    lines = [line for line in dockerfile.read_text("utf-8").splitlines() if line[:1] != "#"]
    stages: dict[str, Stage] = {}
    instructions: list[Instruction] = []
    for line in _CONTINUED.sub(" ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, _, text = line.partition(" ")
        if name not in _KNOWN:
            raise ValueError(f'{dockerfile} has the instruction "{name}": teach it to {__file__}')
        if name == "FROM":
            parent, _, stage = text.split()
            instructions = []
            stages[stage] = Stage(stage, parent, instructions)
        else:
            instructions.append(Instruction(name, text.strip()))
    return stages


def environment_of(
    instructions: Sequence[Instruction], before: Mapping[str, str]
) -> dict[str, str]:
    """Add what ARG and ENV set to an environment, with $NAME replaced."""
    values = dict(before)
    for it in instructions:
        if it.name in ("ARG", "ENV"):
            pairs = (word.partition("=") for word in shlex.split(it.text))
            values |= {name: Template(value).safe_substitute(values) for name, _, value in pairs}
    return values


def copied_files(context: Path, source: str, ignore_file: Path) -> Iterator[Path]:
    """Give the files that COPY takes of the build's context, as a .dockerignore leaves them."""
    lines = (line.strip() for line in ignore_file.read_text("utf-8").splitlines())
    patterns = [line for line in lines if line and not line.startswith("#")]
    start = context / source
    for path in sorted([start] if start.is_file() else start.rglob("*")):
        relative = PurePosixPath(path.relative_to(context))
        if path.is_file() and not _ignored(relative, patterns):
            yield path


def _ignored(path: PurePosixPath, patterns: Sequence[str]) -> bool:
    """Decide as Docker does: the last pattern that fits the path, or a folder above it, wins."""
    ignored = False
    names = [str(path), *map(str, path.parents)]
    for pattern in patterns:
        glob = pattern.removeprefix("!").removeprefix("**/")
        found = (name.rsplit("/")[-1] if "**/" in pattern else name for name in names)
        if any(fnmatch(name, glob) and name.count("/") == glob.count("/") for name in found):
            ignored = not pattern.startswith("!")
    return ignored
