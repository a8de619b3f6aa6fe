"""What training refuses, and what to do about it.

FacegenError
└── TrainingError
    ├── ConfigurationError    a preset, a TOML file or a --set that does not fit
    ├── DatasetError          a data set that is missing, broken or empty
    ├── DivergedError         a loss far above where it began
    ├── MeshFileError         a mesh file that cannot be read
    ├── NonFiniteError        a loss or gradient that is not a number
    ├── ProcessError          one of several processes that ended without a word
    ├── RenderingError        a picture of a mesh on a machine without the ray caster
    └── RunError              a run folder that cannot be read, resumed or overwritten
"""

from pathlib import Path
from typing import Any

from facegen.errors import FacegenError

__all__ = [
    "ConfigurationError",
    "DatasetError",
    "DivergedError",
    "MeshFileError",
    "NonFiniteError",
    "ProcessError",
    "RenderingError",
    "RunError",
    "TrainingError",
]


class TrainingError(FacegenError):
    """The root of this part's errors; they can be sent from process to process."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the message and the facts: constructors take other arguments."""
        return _received, (type(self), self.args, vars(self))


def _received(
    kind: type[TrainingError], args: tuple[Any, ...], facts: dict[str, Any]
) -> TrainingError:
    error = kind.__new__(kind, *args)
    vars(error).update(facts)
    return error


class ConfigurationError(TrainingError):
    """A configuration does not fit its schema; never right until it is changed.

    Args:
        source: Where it came from: a preset's name, a file or "--set".
        problem: What is wrong, with the key and the value, and what would be right.
    """

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


class DatasetError(TrainingError):
    """A data set is not there or cannot be used; right once the files are in place.

    Args:
        name: The data set's name.
        looked_for: What was expected on disk and not found.
        where: The folder that was searched.
        remedy: How to get or repair it.
    """

    def __init__(self, name: str, *, looked_for: str, where: Path, remedy: str) -> None:
        super().__init__(
            f"{name}: looked for {looked_for} in {where} and did not find it. {remedy}"
        )
        self.name = name
        self.looked_for = looked_for
        self.where = where
        self.remedy = remedy


class MeshFileError(TrainingError):
    """A mesh file cannot be read; right once the file is.

    Args:
        path: The file.
        problem: What is wrong with it, with the value.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"mesh {path}: {problem}. Write it anew, or take it away.")
        self.path = path
        self.problem = problem


class NonFiniteError(TrainingError):
    """Training met a loss or gradient that is not finite, before it reached the weights.

    Args:
        what: "loss" or "gradient norm".
        value: The value, NaN or an infinity.
        epoch: The epoch, from 0.
        step: The optimiser step, from 0.
        checkpoint: The last good checkpoint, or None when the first epoch had not ended.
    """

    def __init__(
        self, what: str, value: float, *, epoch: int, step: int, checkpoint: Path | None
    ) -> None:
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint exists"
        super().__init__(
            f"{what} is {value} at step {step} of epoch {epoch}; {kept}. The same command with a "
            "lower optimizer.learning_rate or optimizer.gradient_clip_norm goes on from there; if "
            "precision is bf16, try 32 under another --name."
        )
        self.step = step
        self.epoch = epoch
        self.checkpoint = checkpoint


class DivergedError(TrainingError):
    """Training made the loss of a whole epoch much worse than it was before the first step.

    Args:
        value: The epoch's mean of the loss that goes backward.
        first: The first step's.
        epoch: The epoch, from 0.
        checkpoint: The last good checkpoint, or None when the first epoch had not ended.
    """

    def __init__(self, value: float, first: float, *, epoch: int, checkpoint: Path | None) -> None:
        start = f"goes on from {checkpoint}" if checkpoint else "starts anew"
        super().__init__(
            f"the loss of epoch {epoch} is {value:.4g}, far above the {first:.4g} it began with: "
            "the training diverges. The same command with a lower optimizer.learning_rate or "
            f"optimizer.gradient_clip_norm {start}."
        )
        self.value = value
        self.first = first
        self.epoch = epoch
        self.checkpoint = checkpoint


class ProcessError(TrainingError):
    """One of several processes ended without an error of its own; the others were stopped.

    Args:
        number: Which, from 0.
        count: How many there were on this machine.
        how: The signal's name, or the exit code in words.
    """

    def __init__(self, number: int, count: int, *, how: str) -> None:
        super().__init__(
            f"process {number} of {count} ended: {how}; the others were stopped. "
            "SIGKILL is often the kernel's, out of memory. The same command goes on from the last "
            "checkpoint."
        )
        self.number = number
        self.count = count
        self.how = how


class RenderingError(TrainingError):
    """A mesh cannot be drawn, because the ray caster is missing; never right on such a machine.

    Args:
        machine: The operating system and processor, such as "Linux aarch64".
    """

    def __init__(self, machine: str) -> None:
        super().__init__(
            f"pictures of meshes need embreex, which is not installed here ({machine}): "
            "pip install 'facegen[train]' brings it, but for Linux on other processors than x86-64 "
            "there is none. Draw on another machine."
        )
        self.machine = machine


class RunError(TrainingError):
    """A run folder cannot be read, resumed or overwritten.

    Args:
        folder: The run folder.
        problem: What is wrong with it and what to do.
    """

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"run {folder}: {problem}")
        self.folder = folder
