"""What is done with faces, over an engine and numpy: draw, encode, decode, blend, move.

Also what models do in a transfer of expressions: find points, and say how to edit a face.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, Done, Engine, InferRequest, Tensors
from facegen.serving.faces.family import Family, group_families
from facegen.serving.faces.noise import latent_noise
from facegen.serving.faces.slerp import lerp, slerp

__all__ = ["Draw", "Edits", "Faces", "Pipelines", "Posteriors"]

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
# Named once: an annotation inside a method is evaluated at every call.
Answer = dict[str, Array] | FacegenError
PixelsOrError = Pixels | FacegenError

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
class Faces:
    """Latents and their pictures.

    Attributes:
        latents: (B, Z).
        pixels: (B, H, W, C).
    """

    latents: Floats
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Posteriors:
    """What an encoder makes of pictures.

    Attributes:
        mu: (B, Z).
        logvar: (B, Z); None for an autoencoder.
    """

    mu: Floats
    logvar: Floats | None


@dataclass(frozen=True, slots=True)
class Edits:
    """How to give faces one expression; row i is of face i.

    Attributes:
        content: (B, H, W, 1), what to lay over the faces.
        mask: (B, C, C, 1) in [0, 1], how much of it shows.
        flow: (B, C, C, 2), where each place comes from: to the right and down of itself, as
            fractions of the side.
    """

    content: Pixels
    mask: Floats
    flow: Floats


class _Waiter(Generic[T]):
    """Makes a call of what calls back: give it `done`, then wait, once."""

    def __init__(self) -> None:
        self._answers: list[T | FacegenError] = []
        self._answered = threading.Lock()
        self._answered.acquire()

    def done(self, answer: T | FacegenError) -> None:
        self._answers.append(answer)
        self._answered.release()

    def wait(self) -> T:
        self._answered.acquire()
        (answer,) = self._answers
        if isinstance(answer, FacegenError):
            raise answer
        return answer


class Pipelines:
    """The pipelines over the families of one engine; safe to call from several threads.

    The errors are those of `Engine.submit`. `context` carries the deadline of all steps of a call,
    and cancels them. `begin_decode` and `begin_generate` call back, from any thread and exactly
    once; the others block.

    Args:
        engine: Runs the models; it is not closed here.

    Attributes:
        families: Those that are served now; another tuple after the engine's models have changed.

    Raises:
        FamilyError: Models of a family do not fit together. Later such a family is left out.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._looking = threading.Lock()
        engine.on_change(self.refresh)
        with self._looking:
            self.families = group_families(engine.models())

    def refresh(self) -> None:
        """Look for the families again; calls under way keep theirs."""
        with self._looking:
            try:
                self.families = group_families(self._engine.models(), lenient=True)
            except FacegenError as error:
                _LOGGER.warning("families not refreshed error=%s", error)

    def partial(self, name: str) -> bool:
        """Tell whether a family has models that are ready, but no complete set of one version."""
        there = {model.parameters.get("facegen.family") for model in self._engine.models()}
        return name in there and name not in {family.name for family in self.families}

    def encode(
        self, family: Family, pixels: Pixels, *, context: CallContext | None = None
    ) -> Posteriors:
        """Encode pictures (B, H, W, C)."""
        outputs = self._infer(family, family.encoder, {"image": pixels}, context)
        return Posteriors(mu=outputs["mu"], logvar=outputs.get("logvar"))

    def begin_decode(
        self,
        family: Family,
        latents: Floats,
        done: Callable[[PixelsOrError], None],
        *,
        expression: str = "",
        context: CallContext,
    ) -> None:
        """Decode latents (B, Z) to pictures (B, H, W, C); never blocks.

        Args:
            family: Whose decoder.
            latents: (B, Z).
            done: Gets the pictures.
            expression: Which decoder; empty: the family's default, or it has but one.
            context: Of the call.
        """
        model, inputs = family.decoder, {"latent": latents}
        if family.expressions is not None:
            model = family.expressions.decoders[expression or family.expressions.default]
            inputs["features"] = family.expressions.no_features(len(latents))

        def decoded(answer: Answer) -> None:
            done(answer if isinstance(answer, FacegenError) else answer["image"])

        self._submit(family, model, inputs, context, decoded)

    def decode(
        self,
        family: Family,
        latents: Floats,
        *,
        expression: str = "",
        context: CallContext | None = None,
    ) -> Pixels:
        """Decode latents (B, Z) to pictures (B, H, W, C); see `begin_decode`."""
        waiter = _Waiter[Pixels]()
        self.begin_decode(
            family, latents, waiter.done, expression=expression, context=context or CallContext()
        )
        return waiter.wait()

    def reconstruct(
        self,
        family: Family,
        pixels: Pixels,
        *,
        expression: str = "",
        context: CallContext | None = None,
    ) -> Pixels:
        """Encode pictures (B, H, W, C) and decode the means of their posteriors."""
        waiter = _Waiter[Faces]()
        self._begin(
            family,
            (family.encoder, "mu"),
            {"image": pixels},
            waiter.done,
            expression=expression,
            context=context or CallContext(),
        )
        return waiter.wait().pixels

    def begin_generate(
        self,
        family: Family,
        draw: Draw,
        done: Callable[[Faces | FacegenError], None],
        *,
        context: CallContext,
    ) -> None:
        """Draw faces from a prior; face i depends on the seed and i alone. Never blocks."""
        inputs = _prior_inputs(family, draw)
        prior = (family.priors[draw.prior], "latent")
        self._begin(family, prior, inputs, done, expression=draw.expression, context=context)

    def generate(self, family: Family, draw: Draw, *, context: CallContext | None = None) -> Faces:
        """Draw faces from a prior; see `begin_generate`."""
        waiter = _Waiter[Faces]()
        self.begin_generate(family, draw, waiter.done, context=context or CallContext())
        return waiter.wait()

    def generate_chunks(
        self, family: Family, draw: Draw, *, context: CallContext | None = None
    ) -> Generator[tuple[Draw, Faces], None, None]:
        """Draw any number of faces, the next chunk while the caller handles this one.

        Yields:
            Which faces, and the faces, in the order of their indices. Closing the generator cancels
            what is under way.
        """
        rows = min(family.batch_rows, _MOST_CHUNK_ROWS)
        chunks = (
            replace(draw, first_index=draw.first_index + done, count=min(rows, draw.count - done))
            for done in range(0, draw.count, rows)
        )
        under_way: deque[tuple[Draw, _Waiter[Faces]]] = deque()
        with (context or CallContext()).part() as part:
            while True:
                while len(under_way) < _CHUNKS_IN_FLIGHT and (chunk := next(chunks, None)):
                    under_way.append((chunk, _Waiter()))
                    self.begin_generate(family, chunk, under_way[-1][1].done, context=part)
                if not under_way:
                    return
                chunk, waiter = under_way.popleft()
                yield chunk, waiter.wait()

    def interpolate(
        self,
        family: Family,
        ends: tuple[Floats, Floats],
        *,
        count: int,
        spherical: bool,
        expression: str = "",
        context: CallContext | None = None,
    ) -> Faces:
        """Draw the path between two latents (Z,), both ends included; `count` is at least 2."""
        path = (slerp if spherical else lerp)(*ends, count=count)
        return Faces(path, self.decode(family, path, expression=expression, context=context))

    def draw_latents(
        self, family: Family, draws: Sequence[Draw], *, context: CallContext | None = None
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

    def move(
        self,
        family: Family,
        latents: Floats,
        strengths: Floats,
        *,
        context: CallContext | None = None,
    ) -> Floats:
        """Move latents along the family's directions.

        Args:
            family: One that has directions.
            latents: (B, Z).
            strengths: (B, D), of each direction in the order of their names.
            context: Of the call.

        Returns:
            (B, Z).
        """
        assert family.directions is not None
        inputs = {"latent": latents, "strength": strengths}
        return self._infer(family, family.directions.model, inputs, context)["edited"]

    def locate(
        self, family: Family, squares: Pixels, *, context: CallContext | None = None
    ) -> Floats:
        """Find the five points of the faces in grey squares (B, 64, 64, 1).

        Returns:
            (B, 5, 2), (x, y) as fractions of the square's side, from its top left corner.
        """
        assert family.expressions is not None
        return self._infer(family, family.expressions.aligner, {"image": squares}, context)[
            "points"
        ]

    def edit(
        self,
        family: Family,
        pixels: Pixels,
        expressions: Sequence[str],
        *,
        context: CallContext | None = None,
    ) -> Mapping[str, Edits]:
        """Say how to give aligned faces other expressions.

        The faces are encoded once. Then all decoders have their rows at the same time, and no
        thread wakes in between.

        Args:
            family: One of expressions.
            pixels: (B, H, W, 1).
            expressions: Those wanted, each at most once.
            context: Of the call.
        """
        assert family.expressions is not None
        decoders = family.expressions.decoders
        waiters = {expression: _Waiter[dict[str, Array]]() for expression in expressions}

        def decode(answer: Answer) -> None:
            for expression, waiter in waiters.items():
                if isinstance(answer, FacegenError):
                    waiter.done(answer)
                    continue
                inputs = {"latent": answer["mu"], "features": answer["features"]}
                self._submit(family, decoders[expression], inputs, part, waiter.done)

        # When one fails, the part is left, and what the others still wait for never runs.
        with (context or CallContext()).part() as part:
            self._submit(family, family.encoder, {"image": pixels}, part, decode)
            edits = {expression: waiter.wait() for expression, waiter in waiters.items()}
        return {
            expression: Edits(edit["image"], edit["mask"], edit["flow"])
            for expression, edit in edits.items()
        }

    def _begin(
        self,
        family: Family,
        first: tuple[str, str],
        inputs: Tensors,
        done: Callable[[Faces | FacegenError], None],
        *,
        expression: str,
        context: CallContext,
    ) -> None:
        """Run a model that gives latents, and the decoder on them; no thread wakes in between.

        Args:
            family: Whose models.
            first: The model, and the name of its output.
            inputs: Its inputs.
            done: Gets latents and pictures.
            expression: Which decoder; see `begin_decode`.
            context: Of both.
        """
        model, output = first

        def decode(answer: Answer) -> None:
            if isinstance(answer, FacegenError):
                done(answer)
                return
            latents = answer[output]

            def finish(pixels: PixelsOrError) -> None:
                done(pixels if isinstance(pixels, FacegenError) else Faces(latents, pixels))

            self.begin_decode(family, latents, finish, expression=expression, context=context)

        self._submit(family, model, inputs, context, decode)

    def _submit(
        self, family: Family, model: str, inputs: Tensors, context: CallContext, done: Done
    ) -> None:
        request = InferRequest(model, inputs, version=family.version, context=context)
        self._engine.submit(request, done)

    def _infer(
        self, family: Family, model: str, inputs: Tensors, context: CallContext | None
    ) -> dict[str, Array]:
        return self._engine.infer(model, inputs, version=family.version, context=context)


def _prior_inputs(family: Family, draw: Draw) -> dict[str, Floats]:
    """Give what a prior makes the latents of: noise and uniform numbers."""
    noise, uniform = latent_noise(
        draw.seed, draw.first_index, count=draw.count, latent_size=family.latent_size
    )
    return {"noise": noise * np.float32(draw.temperature), "uniform": uniform}
