"""What is done with faces, over an engine and numpy: draw, encode, decode, blend, move.

Also what models do in a transfer of expressions: find points, and say how to edit a face.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, ModelInfo
from facegen.serving.faces.family import Family, group_families
from facegen.serving.faces.latent_pipelines import (
    Answer,
    Draw,
    Floats,
    LatentPipelines,
    Posteriors,
    Waiter,
)
from facegen.serving.faces.slerp import lerp, slerp

__all__ = ["Draw", "Edits", "Faces", "Pipelines", "Posteriors"]

Pixels = NDArray[np.uint8]
# Named once: an annotation inside a method is evaluated at every call.
PixelsOrError = Pixels | FacegenError


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


class Pipelines(LatentPipelines[Family]):
    """The pipelines over the families of pictures of one engine; safe to call from several threads.

    The errors are those of `Engine.submit`. `context` carries the deadline of all steps of a call,
    and cancels them. `begin_decode` and `begin_generate` call back, from any thread and exactly
    once; the others block.
    """

    def _group(self, models: Sequence[ModelInfo], *, lenient: bool) -> tuple[Family, ...]:
        return group_families(models, lenient=lenient)

    def encode(
        self, family: Family, pixels: Pixels, *, context: CallContext | None = None
    ) -> Posteriors:
        """Encode pictures (B, H, W, C)."""
        outputs = self._infer(family, family.encoder, {"image": pixels}, context)
        return Posteriors.of(outputs)

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
        waiter = Waiter[Pixels]()
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
        waiter = Waiter[Faces]()
        context = context or CallContext()
        decode = self._decoding(family, "mu", waiter.done, expression, context)
        self._submit(family, family.encoder, {"image": pixels}, context, decode)
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
        decode = self._decoding(family, "latent", done, draw.expression, context)
        self._begin_draw(family, draw, context, decode)

    def generate(self, family: Family, draw: Draw, *, context: CallContext | None = None) -> Faces:
        """Draw faces from a prior; see `begin_generate`."""
        waiter = Waiter[Faces]()
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

        def begin(
            chunk: Draw, done: Callable[[Faces | FacegenError], None], part: CallContext
        ) -> None:
            self.begin_generate(family, chunk, done, context=part)

        return self._chunks(family, draw, begin, context)

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
        waiters = {expression: Waiter[dict[str, Array]]() for expression in expressions}

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

    def _decoding(
        self,
        family: Family,
        output: str,
        done: Callable[[Faces | FacegenError], None],
        expression: str,
        context: CallContext,
    ) -> Callable[[Answer], None]:
        """Give what takes the outputs of a model and decodes one; no thread wakes in between.

        Args:
            family: Whose decoder.
            output: The name of the output with the latents.
            done: Gets latents and pictures.
            expression: Which decoder; see `begin_decode`.
            context: Of the call.
        """

        def decode(answer: Answer) -> None:
            if isinstance(answer, FacegenError):
                done(answer)
                return
            latents = answer[output]

            def finish(pixels: PixelsOrError) -> None:
                done(pixels if isinstance(pixels, FacegenError) else Faces(latents, pixels))

            self.begin_decode(family, latents, finish, expression=expression, context=context)

        return decode
