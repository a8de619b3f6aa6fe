"""Reconstructs the photos or meshes of a folder, and gives photos other expressions."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.errors import InputError
from facegen.serving.faces.family import Family
from facegen.serving.faces.finding import FaceFinder
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.faces.transfer import Order, Target, Transfer
from facegen.serving.imaging import ImagingPool, Origin, PictureFormat, Upload
from facegen.serving.rendering.drawing import check_choice
from facegen.serving.rendering.inputs import InputFolder
from facegen.serving.rendering.job import ReconstructJob, TransferJob
from facegen.serving.rendering.media.medium import Contents, Medium
from facegen.serving.rendering.rows import Chunk, Fact, Fault, Rendered, Row
from facegen.serving.rendering.where import Where
from facegen.serving.rendering.work import Work, fault_of, joined

__all__ = ["Reconstruction", "Transferral"]

# Photos of a camera take as long to read as dozens of faces to draw.
_RECONSTRUCT_CHUNK = 16
_TRANSFER_CHUNK = 4
_MOST_STEM_CHARACTERS = 60
# What errors of requests advise, as it is called here.
_OPTIONS = {
    "FACE_FINDING_CROPPED": "--cropped",
    "give crop.square_px": "use --crop center",
    "(max_faces)": "(--max-faces)",
}
# Of the pictures made of one photo; no more than what a machine holds.
_MOST_TRANSFER_BYTES = 2**30


class Reconstruction(Work):
    """Encodes and decodes the photos, or meshes, of a folder.

    Args:
        job: What to reconstruct.
        medium: Does it.
        inputs: Where the files are.

    Raises:
        InputError: The family has no score. Never right.
    """

    def __init__(self, job: ReconstructJob, medium: Medium, inputs: InputFolder) -> None:
        self._job, self._medium, self._inputs = job, medium, inputs
        own = {"source": "string", medium.fidelity: "double"}
        self._where = Where(job.where, ("key", "index", *own, "face_score"))
        self._scored = job.scores or "face_score" in self._where.names
        self.columns = own | dict(medium.columns(scored=self._scored))
        self.chunk_size = _RECONSTRUCT_CHUNK
        self.latent_size = medium.latent_size if job.latents else 0

    def _index(self, place: int) -> int:
        return place

    def _render(self, chunk: Chunk, context: CallContext) -> Rendered:
        contents: list[Contents] = []
        places: list[int] = []
        faults: list[Fault] = []
        for row, data in enumerate(self._inputs.read(chunk.inputs)):
            index, name = chunk.first + row, chunk.inputs[row]
            try:
                if isinstance(data, FacegenError):
                    raise data
                contents.append(self._medium.read(data, name))
                places.append(row)
            except InputError as error:
                faults.append(fault_in(error, index, name))
        if not contents:
            return Rendered((), tuple(faults))
        seen = np.stack(contents)
        latents = self._medium.encode(seen, context=context)
        drawn = self._medium.decode(latents, expression="", context=context)
        fidelities = self._medium.compare(seen, drawn)
        scores = self._medium.score_facts(drawn, scored=self._scored)
        facts: list[dict[str, Fact]] = [
            {"source": chunk.inputs[place], self._medium.fidelity: fidelity, **score}
            for place, fidelity, score in zip(places, fidelities, scores, strict=True)
        ]
        keys = [key_of(chunk.first + place, chunk.inputs[place]) for place in places]
        kept = [
            row
            for row, place in enumerate(places)
            if self._where.keeps({"key": keys[row], "index": chunk.first + place, **facts[row]})
        ]
        origin = Origin(self._job.family, self._job.version)
        files = self._medium.code(drawn[kept], [origin] * len(kept)) if kept else []
        rows = [
            Row(
                keys[row],
                chunk.first + places[row],
                data,
                facts[row],
                latents[row] if self.latent_size else None,
            )
            for row, data in zip(kept, files, strict=True)
        ]
        return Rendered(tuple(rows), tuple(faults), len(places) - len(kept))


class Transferral(Work):
    """Gives the faces of photos other expressions.

    Args:
        job: What to give.
        pipelines: Run the models.
        family: One of expressions.
        imaging: Works on pixels.
        inputs: Where the photos are.
        picture_format: How pictures are coded.

    Raises:
        InputError: The family has no expressions, or not these. Never right.
    """

    def __init__(
        self,
        job: TransferJob,
        pipelines: Pipelines,
        family: Family,
        imaging: ImagingPool,
        inputs: InputFolder,
        *,
        picture_format: PictureFormat,
    ) -> None:
        if job.scores or job.latents:
            raise InputError(
                "scores" if job.scores else "latents", "are not told of a transfer; leave it out"
            )
        self._job, self._pipelines, self._family = job, pipelines, family
        self._imaging, self._inputs = imaging, inputs
        self._order = Order(
            tuple(Target(name, job.strength) for name in transfer_expressions(job, family)),
            "crop" if job.crops else "photo",
            picture_format,
            _MOST_TRANSFER_BYTES,
        )
        self.columns = {
            "source": "string",
            "expression": "string",
            "strength": "double",
            "face_count": "int32",
            "face_score": "double",
        } | ({"face": "int32"} if job.crops else {})
        self._where = Where(job.where, ("key", "index", *self.columns))
        self.chunk_size, self.latent_size = _TRANSFER_CHUNK, 0

    def _index(self, place: int) -> int:
        return place

    def _render(self, chunk: Chunk, context: CallContext) -> Rendered:
        parts = []
        for row, data in enumerate(self._inputs.read(chunk.inputs)):
            index, name = chunk.first + row, chunk.inputs[row]
            try:
                if isinstance(data, FacegenError):
                    raise data
                parts.append(self._transfer(index, name, data, context))
            except InputError as error:
                parts.append(Rendered((), (fault_in(error, index, name),)))
        return joined(parts)

    def _transfer(self, index: int, name: str, data: bytes, context: CallContext) -> Rendered:
        # The finder names photos by their place in a request.
        upload = Upload(data, "images[0]")
        finder = FaceFinder(self._pipelines, self._imaging, self._family, context=context)
        transfer = Transfer(
            self._pipelines, self._imaging, self._family, self._order, context=context
        )
        with self._imaging.photos([upload], context=context) as photos:
            faces = finder.find(photos, detect=not self._job.cropped, max_faces=self._job.max_faces)
            (made,) = transfer.pictures(photos, faces)
        shared: dict[str, Fact] = {
            "source": name,
            "strength": self._job.strength,
            "face_count": len(faces[0]),
        }
        rows = []
        for one in made:
            assert one.target is not None
            score = faces[0][one.face].box.score if self._job.crops else faces[0][0].box.score
            facts: dict[str, Fact] = {
                **shared,
                "expression": one.target.expression,
                "face_score": None if self._job.cropped else score,
            }
            label = one.target.expression
            if self._job.crops:
                facts["face"] = one.face
                label = f"face{one.face}-{label}"
            key = f"{key_of(index, name)}-{label}"
            if self._where.keeps({"key": key, "index": index, **facts}):
                rows.append(Row(key, index, one.file, facts))
        return Rendered(tuple(rows), rejected_count=len(made) - len(rows))


def transfer_expressions(job: TransferJob, family: Family) -> Sequence[str]:
    """Name the expressions that a job gives, each once.

    Raises:
        InputError: The family has none, or not these. Never right.
    """
    if family.expressions is None:
        raise InputError(
            "family", f'"{family.name}" gives no expressions; choose a family of kind expression'
        )
    names = [name.strip() for part in job.expressions for name in part.split(",") if name.strip()]
    if not names:
        raise InputError("expressions", "are none; name some, or all")
    if "all" in names:
        return family.expressions.supported
    for name in names:
        check_choice("expressions", name, tuple(family.expressions.decoders))
    return tuple(dict.fromkeys(names))


def fault_in(error: FacegenError, index: int, name: str) -> Fault:
    """Record an error of one file, its remedy in the words of the command line."""
    fault = fault_of(error, index, name)
    message = fault.message
    for word, option in _OPTIONS.items():
        message = message.replace(word, option)
    return replace(fault, message=message)


def key_of(index: int, name: str) -> str:
    """Name what is made of an input: by its number, and for people by its file's."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(name).stem)[:_MOST_STEM_CHARACTERS]
    return f"{index:09}-{stem}" if stem else f"{index:09}"
