"""What is done with faces, over an engine and numpy: draw, encode, decode, reconstruct, blend."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, Done, Engine, InferRequest, Tensors
from facegen.serving.faces.family import Family, group_families
from facegen.serving.faces.noise import latent_noise
from facegen.serving.faces.slerp import lerp, slerp

__all__ = ["Draw", "Faces", "Pipelines", "Posteriors"]

_LOGGER = logging.getLogger(__name__)

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


class Pipelines:
    """The pipelines over the families of one engine; safe to call from several threads.

    Every method blocks, and raises what `Engine.submit` names. `context` carries the deadline of
    all its steps, and cancels them.

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

    def decode(
        self, family: Family, latents: Floats, *, context: CallContext | None = None
    ) -> Pixels:
        """Decode latents (B, Z) to pictures (B, H, W, C)."""
        return self._infer(family, family.decoder, {"latent": latents}, context)["image"]

    def reconstruct(
        self, family: Family, pixels: Pixels, *, context: CallContext | None = None
    ) -> Pixels:
        """Encode pictures (B, H, W, C) and decode the means of their posteriors."""
        inputs = {"image": pixels}
        return self._begin(family, family.encoder, inputs, "mu", context or CallContext())().pixels

    def generate(self, family: Family, draw: Draw, *, context: CallContext | None = None) -> Faces:
        """Draw faces from a prior; face i depends on the seed and i alone."""
        return self._draw(family, draw, context or CallContext())()

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
        under_way: deque[tuple[Draw, Callable[[], Faces]]] = deque()
        with (context or CallContext()).part() as part:
            while True:
                while len(under_way) < _CHUNKS_IN_FLIGHT and (chunk := next(chunks, None)):
                    under_way.append((chunk, self._draw(family, chunk, part)))
                if not under_way:
                    return
                chunk, faces = under_way.popleft()
                yield chunk, faces()

    def interpolate(
        self,
        family: Family,
        ends: tuple[Floats, Floats],
        *,
        count: int,
        spherical: bool,
        context: CallContext | None = None,
    ) -> Faces:
        """Draw the path between two latents (Z,), both ends included; `count` is at least 2."""
        path = (slerp if spherical else lerp)(*ends, count=count)
        return Faces(path, self.decode(family, path, context=context))

    def _draw(self, family: Family, draw: Draw, context: CallContext) -> Callable[[], Faces]:
        """Begin to draw faces; what is returned waits for them."""
        noise, uniform = latent_noise(
            draw.seed, draw.first_index, count=draw.count, latent_size=family.latent_size
        )
        inputs = {"noise": noise * np.float32(draw.temperature), "uniform": uniform}
        return self._begin(family, family.priors[draw.prior], inputs, "latent", context)

    def _begin(
        self, family: Family, model: str, inputs: Tensors, output: str, context: CallContext
    ) -> Callable[[], Faces]:
        """Run a model that gives latents, and the decoder on them; no thread wakes in between.

        Returns:
            What waits for the faces, once.
        """
        latents: list[Array] = []
        answers: list[dict[str, Array] | FacegenError] = []
        answered = threading.Lock()
        answered.acquire()

        def finish(answer: dict[str, Array] | FacegenError) -> None:
            answers.append(answer)
            answered.release()

        def decode(answer: dict[str, Array] | FacegenError) -> None:
            if isinstance(answer, FacegenError):
                finish(answer)
            else:
                latents.append(answer[output])
                self._submit(family, family.decoder, {"latent": answer[output]}, context, finish)

        def wait() -> Faces:
            answered.acquire()
            (answer,) = answers
            if isinstance(answer, FacegenError):
                raise answer
            return Faces(latents[0], answer["image"])

        self._submit(family, model, inputs, context, decode)
        return wait

    def _submit(
        self, family: Family, model: str, inputs: Tensors, context: CallContext, done: Done
    ) -> None:
        request = InferRequest(model, inputs, version=family.version, context=context)
        self._engine.submit(request, done)

    def _infer(
        self, family: Family, model: str, inputs: Tensors, context: CallContext | None
    ) -> dict[str, Array]:
        return self._engine.infer(model, inputs, version=family.version, context=context)
