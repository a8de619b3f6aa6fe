"""The errors of export.

FacegenError
└── ExportError
    ├── OptionError                 a family, version or option that cannot be used
    ├── RunError                    a run folder that cannot be exported
    ├── RepositoryConflictError     another version in the repository has other shapes
    ├── WeightRangeError            a weight that float16 cannot hold
    └── GraphError                  a graph that fails a check, with the graph's name
        ├── InvalidGraphError       onnx.checker refuses it, or its interface is not the contract's
        ├── RandomOperatorError     it draws random numbers by itself
        ├── ParityError             its pixels differ from PyTorch's
        ├── LatentParityError       its latents differ from PyTorch's
        ├── ValueParityError        its points, masks or flows differ from PyTorch's
        └── BatchDependenceError    a row depends on the rows beside it
"""

from collections.abc import Sequence
from pathlib import Path

from facegen.errors import FacegenError

__all__ = [
    "BatchDependenceError",
    "ExportError",
    "GraphError",
    "InvalidGraphError",
    "LatentParityError",
    "OptionError",
    "ParityError",
    "RandomOperatorError",
    "RepositoryConflictError",
    "RunError",
    "ValueParityError",
    "WeightRangeError",
]


class ExportError(FacegenError):
    """The root of export's errors."""


class OptionError(ExportError):
    """A family, version or option that cannot be used.

    Attributes:
        option: The option's name, for example `version`.
    """

    def __init__(self, option: str, value: object, *, expected: str) -> None:
        super().__init__(f"{option} is {value!r}; expected {expected}")
        self.option = option


class RunError(ExportError):
    """A run folder that cannot be exported.

    Attributes:
        run: The folder.
    """

    def __init__(self, run: Path, problem: str) -> None:
        super().__init__(f"{run}: {problem}")
        self.run = run


class RepositoryConflictError(ExportError):
    """Another version of the model has other shapes, which one config.pbtxt cannot say."""

    def __init__(self, model: str, *, versions: Sequence[str], difference: str) -> None:
        super().__init__(
            f'model "{model}" has version {", ".join(versions)} with other shapes ({difference}); '
            "export under another --family, or remove the old versions"
        )


class WeightRangeError(ExportError):
    """A weight that float16 cannot hold."""

    def __init__(self, graph: str, tensor: str, *, largest: float) -> None:
        super().__init__(
            f'graph "{graph}": {tensor} reaches {largest:g}, float16 ends at 65504; '
            "export with --weights float32"
        )


class GraphError(ExportError):
    """A graph that fails a check; nothing was written.

    Attributes:
        graph: The graph's name in the model repository.
    """

    def __init__(self, graph: str, problem: str) -> None:
        super().__init__(f'graph "{graph}" {problem}; nothing was written')
        self.graph = graph


class InvalidGraphError(GraphError):
    """onnx.checker refuses the graph, or its inputs and outputs are not the contract's."""


class RandomOperatorError(GraphError):
    """The graph draws random numbers by itself, so a seed could not reproduce its answers."""

    def __init__(self, graph: str, operators: Sequence[str]) -> None:
        super().__init__(
            graph,
            f"contains the random operator {', '.join(operators)}: pass noise as an input instead",
        )
        self.operators = tuple(operators)


class ParityError(GraphError):
    """The graph's pixels differ from PyTorch's.

    Attributes:
        levels: The largest difference, in 8-bit levels.
        limit: The largest allowed.
    """

    def __init__(self, graph: str, *, levels: int, limit: int) -> None:
        super().__init__(
            graph,
            f"differs from PyTorch by {levels} of 255 levels, allowed {limit}: "
            "try --weights float32",
        )
        self.levels = levels
        self.limit = limit


class LatentParityError(GraphError):
    """The graph's latents differ from PyTorch's.

    Attributes:
        difference: The largest difference, in standard deviations of the output.
        limit: The largest allowed.
    """

    def __init__(self, graph: str, output: str, *, difference: float, limit: float) -> None:
        super().__init__(
            graph,
            f"differs from PyTorch in {output} by {difference:.2g} standard deviations, "
            f"allowed {limit:.2g}: try --weights float32",
        )
        self.difference = difference
        self.limit = limit


class ValueParityError(GraphError):
    """Values of the graph with a unit of their own differ from PyTorch's.

    Attributes:
        difference: The largest difference, in the output's unit.
        limit: The largest allowed.
    """

    def __init__(self, graph: str, output: str, *, difference: float, limit: float) -> None:
        super().__init__(
            graph,
            f"differs from PyTorch in {output} by {difference:.2g}, allowed {limit:.2g}: "
            "try --weights float32",
        )
        self.difference = difference
        self.limit = limit


class BatchDependenceError(GraphError):
    """A row's answer depends on the rows beside it, so a seed would not fix a face.

    Attributes:
        batch_size: The rows of one execution at which it showed.
        differing: How many values of the output differ.
    """

    def __init__(self, graph: str, output: str, *, batch_size: int, differing: int) -> None:
        super().__init__(
            graph,
            f"gives {differing} other values of {output} in batches of {batch_size} than in one "
            "batch of all",
        )
        self.batch_size = batch_size
        self.differing = differing
