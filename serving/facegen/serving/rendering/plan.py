"""A job as it is rendered: every default settled, its models and inputs known by their hashes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from facegen.serving.engine import Engine
from facegen.serving.errors import InputError
from facegen.serving.faces.family import Family, default_family, find_family
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.meshes.family import MeshFamily, default_mesh_family
from facegen.serving.meshes.pipelines import MeshPipelines
from facegen.serving.rendering.inputs import InputFile, digest_of
from facegen.serving.rendering.job import (
    MESH_FORMATS,
    PICTURE_FORMATS,
    GenerateJob,
    InterpolateJob,
    Job,
    ReconstructJob,
    TransferJob,
    job_from,
)
from facegen.serving.rendering.output.containers import Container
from facegen.serving.rendering.output.records import ShardOrder

__all__ = ["Plan", "find", "settle"]

# Another release of these may make other bytes.
_PACKAGES = ("facegen", "numpy", "pillow", "deflate", "simplejpeg", "dlib-bin")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_FOLDER_SHARD, _FILE_SHARD, _TRANSFER_SHARD = 1_000, 10_000, 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides every byte of a data set.

    Attributes:
        job: The job, its defaults settled.
        container: How rows are kept.
        item_count: Items of the job: faces to draw, or files to read.
        graphs: The hashes of the family's graphs by model, empty where none is told.
        device: Where models run: `cpu`, `cuda`, or `triton` for a server, wherever it runs them.
        inputs: Hash of the names and sizes of all input files; empty if there are none.
        packages: Versions of the packages that shape the bytes.
    """

    job: Job
    container: Container
    item_count: int
    graphs: Mapping[str, str]
    device: str
    inputs: str
    packages: Mapping[str, str]

    @property
    def shard_count(self) -> int:
        """How many shards there are."""
        return -(-self.item_count // self.job.shard_size)

    @property
    def digest(self) -> str:
        """A hash of it all."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def orders(self, names: Sequence[str]) -> list[ShardOrder]:
        """Cut the job into shards.

        Args:
            names: Of all input files, if the job reads some.
        """
        size = self.job.shard_size
        return [
            ShardOrder(
                number,
                first,
                min(size, self.item_count - first),
                tuple(names[first : first + size]),
            )
            for number, first in enumerate(range(0, self.item_count, size))
        ]

    def as_json(self) -> dict[str, Any]:
        """Give it as an object of JSON."""
        return {
            "job": self.job.model_dump(mode="json"),
            "container": self.container,
            "item_count": self.item_count,
            "graphs": dict(self.graphs),
            "device": self.device,
            "inputs": self.inputs,
            "packages": dict(self.packages),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Plan":
        """Read what `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        return cls(**{**fields, "job": job_from(fields["job"])})

    def differences(self, earlier: "Plan") -> list[str]:
        """Say in what this plan differs from an earlier one."""
        return _differences(earlier.as_json(), self.as_json())


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    lines = []
    for key in sorted(before.keys() | now.keys()):
        name = f"{path}{key}"
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _differences(old, new, f"{name}.")
        elif old != new:
            if key == "inputs":
                lines.append("the input files are others, or have other sizes")
            else:
                lines.append(f"{name.removeprefix('job.')} was {old!r} and is {new!r}")
    return lines


def settle(job: Job, engine: Engine, *, device: str, files: Sequence[InputFile]) -> Plan:
    """Settle every default of a job.

    Args:
        job: The job.
        engine: Has the family's models.
        device: Where it runs them.
        files: Its inputs, if it reads some.

    Raises:
        ModelNotFoundError: There is no such family.
        InputError: Formats do not fit what the family makes. Never right.
    """
    family = find(job, engine)
    makes_meshes = isinstance(family, MeshFamily)
    container, coding = _formats(job, makes_meshes=makes_meshes)
    count = len(files) if isinstance(job, ReconstructJob | TransferJob) else job.count
    drawn = {}
    if isinstance(job, GenerateJob | InterpolateJob):
        drawn = {"prior": job.prior or family.default_prior}
        if isinstance(family, Family) and family.expressions:
            drawn["expression"] = job.expression or family.expressions.default
    settled = job.model_copy(
        update={
            **drawn,
            "family": family.name,
            "version": family.version,
            "format": coding if container == "folder" else container,
            "coding": coding,
            "shard_size": job.shard_size or _shard_size(job, container),
            "latents": job.latents or (container == "parquet" and not isinstance(job, TransferJob)),
        }
    )
    said = {name: engine.model(name, family.version).parameters for name in family.graphs}
    return Plan(
        settled,
        container,
        count,
        {name: it.get(f"facegen.sha256.{family.version}", "") for name, it in said.items()},
        device,
        digest_of(files) if files else "",
        _versions(device, container),
    )


def find(job: Job, engine: Engine) -> Family | MeshFamily:
    """Find the family of a job, by default the first VAE, of a transfer the first of expressions.

    Raises:
        ModelNotFoundError: There is none.
    """
    faces, meshes = Pipelines(engine).families, MeshPipelines(engine).families
    if isinstance(job, TransferJob):
        faces = tuple(family for family in faces if family.expressions or job.family)
        meshes = ()
    name = job.family or default_family(faces) or default_mesh_family(meshes)
    if any(family.name == name for family in meshes):
        return find_family(meshes, name, version=job.version)
    return find_family(faces, name, version=job.version)


def _formats(job: Job, *, makes_meshes: bool) -> tuple[Container, Any]:
    """Settle container and coding."""
    known = MESH_FORMATS if makes_meshes else PICTURE_FORMATS
    default = "ply" if makes_meshes else "png"
    if isinstance(job, TransferJob) and not job.crops:
        default = "jpeg"
    if job.format in ("webdataset", "parquet"):
        container: Container = job.format
        coding = job.coding or default
    else:
        container, coding = "folder", job.format or job.coding or default
        if job.coding not in (None, coding):
            raise InputError(
                "coding", f'is "{job.coding}" where format is "{coding}" already; give one of them'
            )
    if coding not in known:
        made = "meshes" if makes_meshes else "pictures"
        raise InputError(
            "format" if container == "folder" else "coding",
            f'"{coding}" is no format of {made}, which this family makes; use {", ".join(known)}',
        )
    return container, coding


def _versions(device: str, container: Container) -> dict[str, str]:
    """Tell the versions of the packages that shape the bytes, those that are installed."""
    names = [*_PACKAGES, *(() if device == "triton" else _RUNTIMES)]
    if container == "parquet":
        names.append("pyarrow")
    versions = {}
    for name in names:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _shard_size(job: Job, container: Container) -> int:
    if isinstance(job, TransferJob):
        return _TRANSFER_SHARD
    return _FOLDER_SHARD if container == "folder" else _FILE_SHARD
