"""What pipelines have in common, whatever latents are decoded to: families, priors, chunks."""

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, Done, Engine, InferRequest, ModelInfo, Tensors
from facegen.serving.faces.grouping import is_of_meshes
from facegen.serving.faces.latent_family import LatentFamily
from facegen.serving.faces.noise import latent_noise

__all__ = ["Answer", "Draw", "Floats", "LatentPipelines", "Posteriors", "Waiter"]

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")
AnyFamily = TypeVar("AnyFamily", bound=LatentFamily)
Floats = NDArray[np.float32]
# Named once: an annotation inside a method is evaluated at every call.
Answer = dict[str, Array] | FacegenError

# While one chunk of a stream is coded and sent, one is computed; more would only use memory.
_CHUNKS_IN_FLIGHT = 2
# A stream's chunk is no larger than this, so that the first faces come soon.
_MOST_CHUNK_ROWS = 64


@dataclass(frozen=True, slots=True)
class Draw:
    """Which faces to draw from a prior.

    Attributes:
        seed: uint64.
        first_index: The first face, uint64.
        count: How many, at least 1; the last index is a uint64 too.
        temperature: Standard deviation of the noise, 0 or more.
        prior: One of the family's priors.
        expression: One of the family's expressions; empty: its default, or it has none.
    """

    seed: int
    first_index: int
    count: int
    temperature: float
    prior: str
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Posteriors:
    """What an encoder makes of faces.

    Attributes:
        mu: (B, Z).
        logvar: (B, Z); None for an autoencoder.
    """

    mu: Floats
    logvar: Floats | None

    @classmethod
    def of(cls, outputs: dict[str, Array]) -> "Posteriors":
        """Read an encoder's outputs."""
        return cls(mu=outputs["mu"], logvar=outputs.get("logvar"))


class Waiter(Generic[T]):
    """Makes a call of what calls back: give it `done`, then wait, once."""

    def __init__(self) -> None:
        self._answers: list[T | FacegenError] = []
        self._answered = threading.Lock()
        self._answered.acquire()

    def done(self, answer: T | FacegenError) -> None:
        """Take the answer."""
        self._answers.append(answer)
        self._answered.release()

    def wait(self) -> T:
        """Wait for the answer, and raise it if it is an error."""
        self._answered.acquire()
        (answer,) = self._answers
        if isinstance(answer, FacegenError):
            raise answer
        return answer


class LatentPipelines(ABC, Generic[AnyFamily]):
    """The families of one engine, and what is done with their latents; safe to call from threads.

    Args:
        engine: Runs the models; it is not closed here.

    Attributes:
        families: Those that are served now; another tuple after the engine's models have changed.

    Raises:
        FamilyError: Models of a family do not fit together. Later such a family is left out.
    """

    of_meshes = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._looking = threading.Lock()
        engine.on_change(self.refresh)
        with self._looking:
            self.families = self._group(engine.models(), lenient=False)

    @abstractmethod
    def _group(self, models: Sequence[ModelInfo], *, lenient: bool) -> tuple[AnyFamily, ...]:
        """Group models into families."""

    def refresh(self) -> None:
        """Look for the families again; calls under way keep theirs."""
        with self._looking:
            try:
                self.families = self._group(self._engine.models(), lenient=True)
            except FacegenError as error:
                _LOGGER.warning("families not refreshed error=%s", error)

    def partial(self, name: str) -> bool:
        """Tell whether a family has models that are ready, but no complete set of one version."""
        there = [
            model
            for model in self._engine.models()
            if model.parameters.get("facegen.family") == name
        ]
        complete = name in {family.name for family in self.families}
        return bool(there) and is_of_meshes(there) is self.of_meshes and not complete

    def draw_latents(
        self, family: AnyFamily, draws: Sequence[Draw], *, context: CallContext | None = None
    ) -> Floats:
        """Draw the latents of faces from one prior, in the order of the draws.

        Args:
            family: Whose prior.
            draws: Which faces; their priors are the same.
            context: Of the call.

        Returns:
            (B, Z), B being the counts of all together.
        """
        inputs = [_prior_inputs(family, draw) for draw in draws]
        joined = {name: np.concatenate([some[name] for some in inputs]) for name in inputs[0]}
        return self._infer(family, family.priors[draws[0].prior], joined, context)["latent"]

    def _begin_draw(
        self, family: AnyFamily, draw: Draw, context: CallContext, done: Callable[[Answer], None]
    ) -> None:
        """Draw latents from a prior; never blocks."""
        model = family.priors[draw.prior]
        self._submit(family, model, _prior_inputs(family, draw), context, done)

    def _chunks(
        self,
        family: AnyFamily,
        draw: Draw,
        begin: Callable[[Draw, Callable[[T | FacegenError], None], CallContext], None],
        context: CallContext | None,
    ) -> Generator[tuple[Draw, T], None, None]:
        """Draw any number of faces, the next chunk while the caller handles this one.

        Args:
            family: Whose faces.
            draw: Which.
            begin: Begins to draw a chunk, and calls back with its faces.
            context: Of the call.

        Yields:
            Which faces, and the faces, in the order of their indices. Closing the generator cancels
            what is under way.
        """
        rows = min(family.batch_rows, _MOST_CHUNK_ROWS)
        chunks = (
            replace(draw, first_index=draw.first_index + done, count=min(rows, draw.count - done))
            for done in range(0, draw.count, rows)
        )
        under_way: deque[tuple[Draw, Waiter[T]]] = deque()
        with (context or CallContext()).part() as part:
            while True:
                while len(under_way) < _CHUNKS_IN_FLIGHT and (chunk := next(chunks, None)):
                    under_way.append((chunk, Waiter()))
                    begin(chunk, under_way[-1][1].done, part)
                if not under_way:
                    return
                chunk, waiter = under_way.popleft()
                yield chunk, waiter.wait()

    def _submit(
        self, family: AnyFamily, model: str, inputs: Tensors, context: CallContext, done: Done
    ) -> None:
        request = InferRequest(model, inputs, version=family.version, context=context)
        self._engine.submit(request, done)

    def _infer(
        self, family: AnyFamily, model: str, inputs: Tensors, context: CallContext | None
    ) -> dict[str, Array]:
        return self._engine.infer(model, inputs, version=family.version, context=context)


def _prior_inputs(family: LatentFamily, draw: Draw) -> dict[str, Floats]:
    """Give what a prior makes the latents of: noise and uniform numbers."""
    noise, uniform = latent_noise(
        draw.seed, draw.first_index, count=draw.count, latent_size=family.latent_size
    )
    return {"noise": noise * np.float32(draw.temperature), "uniform": uniform}
