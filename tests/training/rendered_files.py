"""What `facegen render` writes, in each of its containers, written by hand."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

SHARD_COUNT = 2
PICTURE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _shards(pictures: Mapping[str, bytes]) -> list[dict[str, bytes]]:
    items = list(pictures.items())
    size = -(-len(items) // SHARD_COUNT)
    return [dict(items[start : start + size]) for start in range(0, len(items), size)]


def write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_parquet(path: Path, columns: Mapping[str, Any], *, row_group_size: int = 3) -> None:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)


def as_folders(root: Path, pictures: Mapping[str, bytes]) -> Path:
    for number, shard in enumerate(_shards(pictures)):
        folder = root / f"shard-{number:06d}"
        folder.mkdir(parents=True)
        for key, content in shard.items():
            (folder / f"{key}.png").write_bytes(content)
        facts = [json.dumps({"file_name": f"{key}.png", "seed": 7}) for key in shard]
        (folder / "metadata.jsonl").write_text("\n".join(facts), "utf-8")
        np.save(folder / "latents.npy", np.zeros((len(shard), 4), np.float32))
    staging = root / ".render" / "staging"
    staging.mkdir(parents=True)
    (staging / "000000099.png").write_bytes(next(iter(pictures.values())))
    (root / "manifest.json").write_text("{}", "utf-8")
    return root


def as_tars(root: Path, pictures: Mapping[str, bytes]) -> Path:
    root.mkdir(parents=True)
    for number, shard in enumerate(_shards(pictures)):
        files: dict[str, bytes] = {}
        for key, content in shard.items():
            files |= {f"{key}.json": b"{}", f"{key}.latent.npy": b"", f"{key}.png": content}
        write_tar(root / f"shard-{number:06d}.tar", files)
    return root


def as_parquet(root: Path, pictures: Mapping[str, bytes]) -> Path:
    root.mkdir(parents=True)
    for number, shard in enumerate(_shards(pictures)):
        images = [{"bytes": content, "path": f"{key}.png"} for key, content in shard.items()]
        columns = {
            "key": pa.array(list(shard)),
            "image": pa.array(images, PICTURE_TYPE),
            "face_score": pa.array([0.5] * len(shard)),
            "thumbnail": pa.array([b"other"] * len(shard)),
        }
        write_parquet(root / f"shard-{number:06d}.parquet", columns)
    return root


CONTAINERS: Mapping[str, Callable[[Path, Mapping[str, bytes]], Path]] = {
    "folders": as_folders,
    "tars": as_tars,
    "parquet": as_parquet,
}
