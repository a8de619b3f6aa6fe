"""What is done with faces, over an engine and numpy: draw, encode, decode, reconstruct, blend."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.serving.engine import Engine
from facegen.serving.faces.family import Family, group_families
from facegen.serving.faces.noise import latent_noise
from facegen.serving.faces.slerp import lerp, slerp

__all__ = ["Draw", "Faces", "Pipelines", "Posteriors"]

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

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
    """

    seed: int
    first_index: int
    count: int
    temperature: float
    prior: str


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


class Countdown:
    """Seconds left of a timeout that several steps share.

    Args:
        timeout_s: The seconds there are now; None is without end.
    """

    def __init__(self, timeout_s: float | None) -> None:
        now = asyncio.get_running_loop().time()
        self._end_s = None if timeout_s is None else now + timeout_s

    def left_s(self) -> float | None:
        """Give the seconds left, at least 0; None is without end."""
        if self._end_s is None:
            return None
        return max(0.0, self._end_s - asyncio.get_running_loop().time())


class Pipelines:
    """The pipelines over the families of one engine.

    Every method raises what `Engine.infer` raises, and takes `timeout_s`, the seconds until its
    answer is of no use (None: without end).

    Args:
        engine: Runs the models; it is not closed here.
        families: Those it serves.
        batch_rows: The `max_batch_size` of its models, by name.
    """

    def __init__(
        self, engine: Engine, families: Sequence[Family], *, batch_rows: dict[str, int]
    ) -> None:
        self._engine = engine
        self._batch_rows = batch_rows
        self.families = tuple(families)

    @classmethod
    async def over(cls, engine: Engine) -> "Pipelines":
        """Find the families of an engine.

        Raises:
            FamilyError: Models of a family do not fit together.
        """
        models = await engine.models()
        rows = {model.name: model.max_batch_size for model in models}
        return cls(engine, group_families(models), batch_rows=rows)

    async def encode(
        self, family: Family, pixels: Pixels, *, timeout_s: float | None = None
    ) -> Posteriors:
        """Encode pictures (B, H, W, C)."""
        outputs = await self._infer(family, family.encoder, {"image": pixels}, timeout_s)
        return Posteriors(mu=outputs["mu"], logvar=outputs.get("logvar"))

    async def decode(
        self, family: Family, latents: Floats, *, timeout_s: float | None = None
    ) -> Pixels:
        """Decode latents (B, Z) to pictures (B, H, W, C)."""
        outputs = await self._infer(family, family.decoder, {"latent": latents}, timeout_s)
        return outputs["image"]

    async def reconstruct(
        self, family: Family, pixels: Pixels, *, timeout_s: float | None = None
    ) -> Pixels:
        """Encode pictures (B, H, W, C) and decode the means of their posteriors."""
        countdown = Countdown(timeout_s)
        posteriors = await self.encode(family, pixels, timeout_s=countdown.left_s())
        return await self.decode(family, posteriors.mu, timeout_s=countdown.left_s())

    async def generate(
        self, family: Family, draw: Draw, *, timeout_s: float | None = None
    ) -> Faces:
        """Draw faces from a prior; face i depends on the seed and i alone."""
        countdown = Countdown(timeout_s)
        noise, uniform = latent_noise(
            draw.seed, draw.first_index, count=draw.count, latent_size=family.latent_size
        )
        inputs = {"noise": noise * np.float32(draw.temperature), "uniform": uniform}
        prior = await self._infer(family, family.priors[draw.prior], inputs, countdown.left_s())
        latents = prior["latent"]
        pixels = await self.decode(family, latents, timeout_s=countdown.left_s())
        return Faces(latents, pixels)

    async def generate_chunks(
        self, family: Family, draw: Draw, *, timeout_s: float | None = None
    ) -> AsyncGenerator[tuple[Draw, Faces], None]:
        """Draw any number of faces, the next chunk while the caller handles this one.

        Yields:
            Which faces, and the faces, in the order of their indices. Closing the generator cancels
            what is under way.
        """
        countdown = Countdown(timeout_s)
        rows = min(self._batch_rows[family.decoder], _MOST_CHUNK_ROWS)
        chunks = (
            replace(draw, first_index=draw.first_index + done, count=min(rows, draw.count - done))
            for done in range(0, draw.count, rows)
        )
        under_way: deque[tuple[Draw, asyncio.Task[Faces]]] = deque()
        try:
            while True:
                while len(under_way) < _CHUNKS_IN_FLIGHT and (chunk := next(chunks, None)):
                    work = self.generate(family, chunk, timeout_s=countdown.left_s())
                    under_way.append((chunk, asyncio.create_task(work)))
                if not under_way:
                    return
                chunk, task = under_way[0]
                faces = await task
                under_way.popleft()
                yield chunk, faces
        finally:
            for _, task in under_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)

    async def interpolate(
        self,
        family: Family,
        ends: tuple[Floats, Floats],
        *,
        count: int,
        spherical: bool,
        timeout_s: float | None = None,
    ) -> Faces:
        """Draw the path between two latents (Z,), both ends included; `count` is at least 2."""
        path = (slerp if spherical else lerp)(*ends, count=count)
        return Faces(path, await self.decode(family, path, timeout_s=timeout_s))

    async def _infer(
        self, family: Family, model: str, inputs: dict[str, NDArray[Any]], timeout_s: float | None
    ) -> dict[str, NDArray[Any]]:
        return await self._engine.infer(model, inputs, version=family.version, timeout_s=timeout_s)
