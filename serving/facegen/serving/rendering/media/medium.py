"""What jobs do with faces, whether a family makes pictures or meshes of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from facegen.serving.call_context import CallContext
from facegen.serving.faces.latent_pipelines import Draw, Floats
from facegen.serving.imaging import Origin
from facegen.serving.rendering.rows import Column, Fact

__all__ = ["Contents", "Medium"]

Contents = NDArray[Any]
"""Pictures (B, H, W, C), or the vertices (B, V, 3) of meshes."""


class Medium(ABC):
    """The faces of one family; called from several threads, it blocks.

    The errors are those of `Engine.submit`.

    Attributes:
        fidelity: The name of what tells how near a reconstruction is.
        priors: The family's priors, the default first.
        expressions: The family's expressions, the default first; none if it has none.
        latent_size: Coordinates of a latent.
        batch_rows: The most rows that a model runs at a time.
    """

    fidelity: ClassVar[str]
    priors: tuple[str, ...]
    expressions: tuple[str, ...]
    latent_size: int
    batch_rows: int

    @abstractmethod
    def draw(self, draws: Sequence[Draw], *, context: CallContext) -> Floats:
        """Draw the latents (B, Z) of faces from one prior, in the order of the draws."""

    @abstractmethod
    def read(self, data: bytes, name: str) -> Contents:
        """Read a file: what the models see of it, without the batch axis.

        Raises:
            InputError: It is broken, too large, or shows no face. Never right.
        """

    @abstractmethod
    def encode(self, contents: Contents, *, context: CallContext) -> Floats:
        """Encode faces: the means (B, Z) of their posteriors."""

    @abstractmethod
    def decode(self, latents: Floats, *, expression: str, context: CallContext) -> Contents:
        """Decode latents (B, Z)."""

    @abstractmethod
    def code(self, contents: Contents, origins: Sequence[Origin]) -> list[bytes]:
        """Code faces as files that say what made them."""

    @abstractmethod
    def compare(self, contents: Contents, others: Contents) -> list[float]:
        """Tell how near each reconstruction is to what it was made of, as `fidelity` names it."""

    @abstractmethod
    def scores(self, contents: Contents) -> list[float | None]:
        """Tell how sure a detector is that each shows a face; None: it finds none."""

    def columns(self, *, scored: bool) -> Mapping[str, Column]:
        """Name the facts that `scores` gives."""
        return {"face_score": "double"} if scored else {}

    def score_facts(self, contents: Contents, *, scored: bool) -> list[dict[str, Fact]]:
        """Give each face's score as a fact, if scores are wanted."""
        if not scored:
            return [{} for _ in contents]
        return [{"face_score": score} for score in self.scores(contents)]
