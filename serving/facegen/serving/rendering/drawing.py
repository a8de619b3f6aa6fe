"""Draws faces from priors: each by itself, or on the way from one to the next."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from facegen.serving.call_context import CallContext
from facegen.serving.errors import InputError
from facegen.serving.faces.latent_pipelines import Draw, Floats
from facegen.serving.faces.slerp import lerp, slerp
from facegen.serving.imaging import Origin
from facegen.serving.rendering.job import GenerateJob, InterpolateJob
from facegen.serving.rendering.media.medium import Medium
from facegen.serving.rendering.rows import Chunk, Fact, Rendered, Row
from facegen.serving.rendering.where import Where
from facegen.serving.rendering.work import Work

__all__ = ["Generation", "Interpolation"]

_MOST_CHUNK_ROWS = 64
_UINT64_COUNT = 2**64


class Generation(Work):
    """Draws faces from a prior: that of index i depends on the seed and i alone.

    Args:
        job: What to draw.
        medium: Draws it.

    Raises:
        InputError: The family has no such prior or expression, or no score. Never right.
    """

    def __init__(self, job: GenerateJob | InterpolateJob, medium: Medium) -> None:
        self._job, self._medium = job, medium
        check_choice("prior", job.prior, medium.priors)
        check_choice("expression", job.expression, medium.expressions)
        last = job.first_index + job.count - 1
        if last >= _UINT64_COUNT:
            raise InputError(
                "first_index", f"brings the last index to {last}; the last there is is 2^64 - 1"
            )
        # Both are settled by the plan; of a family without expressions none is named.
        self._prior, self._expression = job.prior, job.expression
        own = self._own_columns() | ({"expression": "string"} if self._expression else {})
        self._where = Where(job.where, ("key", "index", *own, "face_score"))
        self._scored = job.scores or "face_score" in self._where.names
        self.columns = own | dict(medium.columns(scored=self._scored))
        self.chunk_size = min(_MOST_CHUNK_ROWS, medium.batch_rows)
        self.latent_size = medium.latent_size if job.latents else 0

    def _own_columns(self) -> dict[str, str]:
        return {"seed": "uint64"}

    def _index(self, place: int) -> int:
        return self._job.first_index + place

    def _render(self, chunk: Chunk, context: CallContext) -> Rendered:
        latents, facts = self._latents(chunk, context)
        contents = self._medium.decode(latents, expression=self._expression, context=context)
        scores = self._medium.score_facts(contents, scored=self._scored)
        kept: list[int] = []
        for row, score in enumerate(scores):
            facts[row] |= score
            if self._expression:
                facts[row]["expression"] = self._expression
            index = self._index(chunk.first + row)
            if self._where.keeps({"key": f"{index:09}", "index": index, **facts[row]}):
                kept.append(row)
        origins = [self._origin(chunk.first + row) for row in kept]
        files = self._medium.code(contents[kept], origins) if kept else []
        rows = []
        for row, data in zip(kept, files, strict=True):
            index = self._index(chunk.first + row)
            latent = latents[row] if self.latent_size else None
            rows.append(Row(f"{index:09}", index, data, facts[row], latent))
        return Rendered(tuple(rows), rejected_count=chunk.count - len(rows))

    def _latents(self, chunk: Chunk, context: CallContext) -> tuple[Floats, list[dict[str, Fact]]]:
        """Give the latents (B, Z) of a chunk, and what is known of each row."""
        seed = self._job.seed
        draw = self._draw(self._index(chunk.first), chunk.count)
        latents = self._medium.draw([draw], context=context)
        return latents, [{"seed": seed} for _ in range(chunk.count)]

    def _origin(self, place: int) -> Origin:
        job = self._job
        return Origin(
            job.family, job.version, job.seed, self._index(place), expression=self._expression
        )

    def _draw(self, first_index: int, count: int) -> Draw:
        job = self._job
        return Draw(job.seed, first_index, count, job.temperature, self._prior, self._expression)


class Interpolation(Generation):
    """Walks from face to face of a seed: a picture's place on its way is a fact of its row.

    Way w goes from face `first_index + w` to the next one, with the first and without the last,
    which begins the next way. The index of a row counts pictures.

    Args:
        job: What to draw.
        medium: Draws it.
    """

    def __init__(self, job: InterpolateJob, medium: Medium) -> None:
        self._frames, self._linear = job.frames, job.linear
        super().__init__(job, medium)
        last_face = job.first_index + (job.count - 1) // job.frames + 1
        if last_face >= _UINT64_COUNT:
            raise InputError("first_index", "leaves too few faces up to 2^64 - 1; begin earlier")

    def _own_columns(self) -> dict[str, str]:
        return {"seed": "uint64", "from_index": "uint64", "to_index": "uint64", "place": "double"}

    def _index(self, place: int) -> int:
        return place

    def _latents(self, chunk: Chunk, context: CallContext) -> tuple[Floats, list[dict[str, Fact]]]:
        first_way, last_way = (
            place // self._frames for place in (chunk.first, chunk.first + chunk.count - 1)
        )
        first_face = self._job.first_index + first_way
        faces = self._medium.draw(
            [self._draw(first_face, last_way - first_way + 2)], context=context
        )
        path = lerp if self._linear else slerp
        ways = [path(*ends, count=self._frames + 1)[:-1] for ends in pairwise(faces)]
        start = chunk.first - first_way * self._frames
        latents = np.concatenate(ways)[start : start + chunk.count]
        return latents, [self._fact(chunk.first + row) for row in range(chunk.count)]

    def _fact(self, place: int) -> dict[str, Fact]:
        way, frame = divmod(place, self._frames)
        face = self._job.first_index + way
        return {
            "seed": self._job.seed,
            "from_index": face,
            "to_index": face + 1,
            "place": frame / self._frames,
        }

    def _origin(self, place: int) -> Origin:
        # A picture between two faces is no face of the seed.
        return Origin(self._job.family, self._job.version, expression=self._expression)


def check_choice(field: str, name: str, known: Sequence[str]) -> None:
    """Refuse a name that the family does not have; an empty one is its default.

    Raises:
        InputError: It does not have it. Never right.
    """
    if name and name not in known:
        raise InputError(
            field, f'"{name}" is none of this family\'s: {", ".join(known) or "it has none"}'
        )
