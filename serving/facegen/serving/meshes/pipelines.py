"""What is done with meshes, over an engine and numpy: draw, encode, decode, blend."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Engine, ModelInfo
from facegen.serving.errors import FamilyError
from facegen.serving.faces.latent_pipelines import (
    Answer,
    Draw,
    Floats,
    LatentPipelines,
    Posteriors,
    Waiter,
)
from facegen.serving.faces.slerp import lerp, slerp
from facegen.serving.meshes.family import MeshFamily, group_mesh_families
from facegen.serving.meshes.topology import Topology

__all__ = ["MeshPipelines", "Meshes"]


@dataclass(frozen=True, slots=True)
class Meshes:
    """Latents and their meshes.

    Attributes:
        latents: (B, Z).
        vertices: (B, V, 3), millimetres.
    """

    latents: Floats
    vertices: Floats


class MeshPipelines(LatentPipelines[MeshFamily]):
    """The pipelines over the families of meshes of one engine; safe to call from several threads.

    The errors are those of `Engine.submit`. `context` carries the deadline of all steps of a call,
    and cancels them. Methods that begin call back, from any thread and exactly once; the others
    block.
    """

    of_meshes = True

    def __init__(self, engine: Engine) -> None:
        # By family and version; another one after the engine's models have changed.
        self._topologies: dict[tuple[str, str], Topology] = {}
        super().__init__(engine)

    def _group(self, models: Sequence[ModelInfo], *, lenient: bool) -> tuple[MeshFamily, ...]:
        self._topologies = {}
        return group_mesh_families(models, lenient=lenient)

    def topology(self, family: MeshFamily, *, context: CallContext | None = None) -> Topology:
        """Give a family's topology; its model is asked once.

        Raises:
            FamilyError: It is none: export the family again.
        """
        known = self._topologies
        key = (family.name, family.version)
        if key not in known:
            row = np.zeros((1, 1), np.uint8)
            outputs = self._infer(family, family.topology, {"row": row}, context)
            try:
                known[key] = Topology(outputs["faces"][0], outputs["template"][0])
            except ValueError as error:
                raise FamilyError(family.name, f'"{family.topology}": {error}') from error
        return known[key]

    def begin_encode(
        self,
        family: MeshFamily,
        vertices: Floats,
        done: Callable[[Posteriors | FacegenError], None],
        *,
        context: CallContext,
    ) -> None:
        """Encode meshes (B, V, 3); never blocks."""

        def encoded(answer: Answer) -> None:
            done(answer if isinstance(answer, FacegenError) else Posteriors.of(answer))

        self._submit(family, family.encoder, {"vertices": vertices}, context, encoded)

    def encode(
        self, family: MeshFamily, vertices: Floats, *, context: CallContext | None = None
    ) -> Posteriors:
        """Encode meshes (B, V, 3)."""
        waiter = Waiter[Posteriors]()
        self.begin_encode(family, vertices, waiter.done, context=context or CallContext())
        return waiter.wait()

    def begin_decode(
        self,
        family: MeshFamily,
        latents: Floats,
        done: Callable[[Meshes | FacegenError], None],
        *,
        context: CallContext,
    ) -> None:
        """Decode latents (B, Z); never blocks."""

        def decoded(answer: Answer) -> None:
            if isinstance(answer, FacegenError):
                done(answer)
            else:
                done(Meshes(latents, answer["vertices"]))

        self._submit(family, family.decoder, {"latent": latents}, context, decoded)

    def decode(
        self, family: MeshFamily, latents: Floats, *, context: CallContext | None = None
    ) -> Meshes:
        """Decode latents (B, Z); see `begin_decode`."""
        waiter = Waiter[Meshes]()
        self.begin_decode(family, latents, waiter.done, context=context or CallContext())
        return waiter.wait()

    def begin_reconstruct(
        self,
        family: MeshFamily,
        vertices: Floats,
        done: Callable[[Meshes | FacegenError], None],
        *,
        context: CallContext,
    ) -> None:
        """Encode meshes (B, V, 3) and decode the means of their posteriors; never blocks."""
        decode = self._decoding(family, "mu", done, context)
        self._submit(family, family.encoder, {"vertices": vertices}, context, decode)

    def begin_generate(
        self,
        family: MeshFamily,
        draw: Draw,
        done: Callable[[Meshes | FacegenError], None],
        *,
        context: CallContext,
    ) -> None:
        """Draw meshes from a prior; mesh i depends on the seed and i alone. Never blocks."""
        self._begin_draw(family, draw, context, self._decoding(family, "latent", done, context))

    def generate_chunks(
        self, family: MeshFamily, draw: Draw, *, context: CallContext | None = None
    ) -> Generator[tuple[Draw, Meshes], None, None]:
        """Draw any number of meshes, the next chunk while the caller handles this one.

        Yields:
            Which meshes, and the meshes, in the order of their indices. Closing the generator
            cancels what is under way.
        """

        def begin(
            chunk: Draw, done: Callable[[Meshes | FacegenError], None], part: CallContext
        ) -> None:
            self.begin_generate(family, chunk, done, context=part)

        return self._chunks(family, draw, begin, context)

    def interpolate(
        self,
        family: MeshFamily,
        ends: tuple[Floats, Floats],
        *,
        count: int,
        spherical: bool,
        context: CallContext | None = None,
    ) -> Meshes:
        """Make the path between two latents (Z,), both ends included; `count` is at least 2."""
        path = (slerp if spherical else lerp)(*ends, count=count)
        return self.decode(family, path, context=context)

    def _decoding(
        self,
        family: MeshFamily,
        output: str,
        done: Callable[[Meshes | FacegenError], None],
        context: CallContext,
    ) -> Callable[[Answer], None]:
        """Give what takes the outputs of a model and decodes one; no thread wakes in between."""

        def decode(answer: Answer) -> None:
            if isinstance(answer, FacegenError):
                done(answer)
            else:
                self.begin_decode(family, answer[output], done, context=context)

        return decode
