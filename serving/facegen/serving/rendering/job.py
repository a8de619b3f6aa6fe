"""What is to be rendered: every knob of a job, its default, its limits and its one line of help.

A job decides every byte of its data set. How it is run, on which engine and how many machines, is
`RunConfig`, and decides none.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

__all__ = [
    "MESH_FORMATS",
    "PICTURE_FORMATS",
    "GenerateJob",
    "InterpolateJob",
    "Job",
    "ReconstructJob",
    "RunConfig",
    "TransferJob",
    "job_from",
]

PICTURE_FORMATS = ("png", "jpeg", "webp")
MESH_FORMATS = ("ply", "obj", "glb")

Coding = Literal["png", "jpeg", "webp", "ply", "obj", "glb"]
Format = Literal["png", "jpeg", "webp", "ply", "obj", "glb", "webdataset", "parquet"]
_UINT64 = 2**64 - 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class _Job(_Model):
    family: str = ""
    """The family to render; empty: the first VAE by name, of a transfer the first with expressions.
    Pictures or meshes, as it makes them."""
    version: str = ""
    """The family's version; empty: the newest."""
    format: Format | None = None
    """What the data set is made of: files in folders, by their coding, WebDataset's tar shards, or
    Parquet. By default png, of transfers jpeg, of meshes ply."""
    coding: Coding | None = None
    """How pictures or meshes are coded in shards of WebDataset or Parquet; by default as above."""
    quality: int = Field(default=90, ge=1, le=100)
    """The quality of JPEG and WebP."""
    shard_size: int = Field(default=0, ge=0)
    """Pictures of a shard, of a folder the photos; 0: 1,000 in folders, 10,000 in shards of one
    file, 100 photos of a transfer."""
    latents: bool = False
    """Whether latents are written too; Parquet has them always, transfers never."""
    scores: bool = False
    """Whether a face detector scores each picture, which takes longer than drawing it."""
    where: str = ""
    """Which pictures are kept, by their facts: "face_score > 0.5 and index % 2 == 0"."""


class _Drawn(_Job):
    count: int = Field(ge=1)
    """How many pictures or meshes."""
    seed: int = Field(default=0, ge=0, le=_UINT64)
    """The same seed and index give the same face."""
    first_index: int = Field(default=0, ge=0, le=_UINT64)
    """The first face's index under the seed."""
    temperature: float = Field(default=1.0, ge=0, le=10)
    """Below 1 plainer, above odder faces."""
    prior: str = ""
    """The prior that faces are drawn from; empty: the family's first."""
    expression: str = ""
    """The expression to draw, of a family that has some; empty: its first."""


class GenerateJob(_Drawn):
    """Draw faces from a prior."""

    kind: Literal["generate"] = "generate"


class InterpolateJob(_Drawn):
    """Walk from face to face of a seed, so that the pictures in their order are a film."""

    kind: Literal["interpolate"] = "interpolate"
    frames: int = Field(default=24, ge=1, le=10_000)
    """Pictures from one face to the next, which then begins the next way."""
    linear: bool = False
    """Whether ways are straight lines, not great circles."""


class ReconstructJob(_Job):
    """Encode and decode the photos, or meshes, of a folder."""

    kind: Literal["reconstruct"] = "reconstruct"
    input: str
    """The folder of photos or meshes, at any depth, or its URL."""
    crop: Literal["face", "center", "dataset"] = "center"
    """Which square of a photo: around the surest face, the central one, or the part of it that
    pictures of the family's data set were cut to."""


class TransferJob(_Job):
    """Give the faces of a folder's photos other expressions."""

    kind: Literal["transfer"] = "transfer"
    input: str
    """The folder of photos, at any depth, or its URL."""
    expressions: tuple[str, ...] = ("all",)
    """The expressions, with commas between or given several times; all: every one that is not
    experimental."""
    strength: float = Field(default=1.0, ge=0, le=1.5)
    """How much of an expression is given."""
    crops: bool = False
    """Whether aligned faces are made alone, grey, as the models see them."""
    cropped: bool = False
    """Whether no face is looked for: one fills the middle of each photo."""
    max_faces: int = Field(default=8, ge=1, le=32)
    """The most faces in a photo; one with more is recorded as an error."""


Job = GenerateJob | InterpolateJob | ReconstructJob | TransferJob

_ANY: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


class RunConfig(_Model):
    """How a job is run: nothing here changes a byte of the data set."""

    out: str
    """The data set's folder, or a URL that fsspec knows, such as s3://bucket/faces."""
    engine: str = "onnx:models"
    """What runs the models: onnx:FOLDER, a model repository, or triton://HOST:PORT, a server that
    speaks the KServe v2 protocol."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where models of a repository run; a device that is not there is an error."""
    threads: int = Field(default=0, ge=0)
    """CPUs that a process uses; 0: all there are, shared by the processes."""
    processes: int = Field(default=0, ge=0)
    """Processes on this machine; 0: one for every 8 CPUs, and one for a GPU or a server."""
    ray: str = ""
    """Run on a Ray cluster: auto, which starts one here if there is none, or ray://HOST:PORT."""
    workers: int = Field(default=0, ge=0)
    """With --ray, the most workers; 0: as many as the cluster has room for, while it grows too."""
    resume: bool = False
    """Whether to go on with the data set that is there."""
    dry_run: bool = False
    """Whether to render for two seconds alone, and tell time, size and cost of the whole."""
    price: float = Field(default=0.0, ge=0)
    """With --dry-run, what an hour of one machine costs, in your currency."""
    retry_s: float = Field(default=300.0, ge=0)
    """Seconds for which a server that is away or busy is tried again."""


def job_from(fields: dict[str, object]) -> Job:
    """Make a job of its fields, `kind` among them.

    Raises:
        pydantic.ValidationError: One is missing, unknown or out of its limits.
    """
    return _ANY.validate_python(fields)
