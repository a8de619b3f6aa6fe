"""Decoded pictures on disk: one uint8 array a data set and size, so that JPEG is decoded once."""

import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from facegen.training.data.dataset import SPLITS, Dataset, Picture
from facegen.training.data.decoding import decode_picture, in_memory
from facegen.training.errors import DatasetError
from facegen.training.storage import cache_folder, write_atomically

__all__ = ["DecodedPictures", "cached_array", "decode_dataset"]

_VERSION = 2
_NAMED_COUNT = 10
_AHEAD = 4
"""Pictures a thread that are read before they are decoded."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DecodedPictures:
    """A data set's pixels.

    Attributes:
        pixels: (N, H, W, C) uint8, mapped from disk; split after split in the order of SPLITS.
        kept: For each row, the index of its picture in the data set.
        corrupt: Names of files that could not be decoded.
        dropped_count: Exact copies and flat pictures that were left out.
    """

    pixels: NDArray[np.uint8]
    kept: tuple[int, ...]
    corrupt: tuple[str, ...]
    dropped_count: int


@dataclass(frozen=True, slots=True)
class _Entry:
    kept: tuple[int, ...]
    corrupt: tuple[str, ...]
    dropped_count: int


def decode_dataset(dataset: Dataset, *, size_px: int, channels: int) -> DecodedPictures:
    """Decode a data set, or map what was decoded before.

    The cache lies in `.facegen-cache` in the data set's folder, or in $XDG_CACHE_HOME/facegen where
    that cannot be written. Files that do not decode are left out, counted and named in a warning.

    Args:
        dataset: The pictures.
        size_px: Side of the square they are reduced to.
        channels: 3 for RGB, 1 for grey.

    Returns:
        The pixels and what became of each picture.

    Raises:
        DatasetError: No picture could be decoded, or a file of many cannot be read.
    """
    stem = _stem(dataset, f"{size_px}x{size_px}x{channels}", (size_px, channels))
    array_path, entry_path = Path(f"{stem}.npy"), Path(f"{stem}.json")
    if not (array_path.is_file() and entry_path.is_file()):
        pixels, entry = _decode(dataset, size_px, channels)
        write_atomically(array_path, pixels)
        write_atomically(entry_path, json.dumps(asdict(entry)).encode())
    entry = _Entry(**json.loads(entry_path.read_text("utf-8")))
    if entry.corrupt:
        named = ", ".join(entry.corrupt[:_NAMED_COUNT])
        more = "" if len(entry.corrupt) <= _NAMED_COUNT else " …"
        _log.warning(
            "corrupt pictures skipped count=%d files=%s%s", len(entry.corrupt), named, more
        )
    # Copy-on-write, because torch wants a writable array; the file itself never changes.
    mapped = np.load(array_path, mmap_mode="c")
    return DecodedPictures(mapped, tuple(entry.kept), tuple(entry.corrupt), entry.dropped_count)


def cached_array(
    dataset: Dataset, what: str, facts: tuple[Any, ...], *, compute: Callable[[], NDArray[Any]]
) -> NDArray[Any]:
    """Compute an array that depends on a data set's decoded pictures, or map the earlier one.

    Args:
        dataset: The pictures.
        what: A word for the file's name.
        facts: Whatever else decides the array.
        compute: Computes it.

    Returns:
        The array, mapped from the folder of `decode_dataset`.
    """
    path = Path(f"{_stem(dataset, what, facts)}.npy")
    if not path.is_file():
        write_atomically(path, compute())
    array: NDArray[Any] = np.load(path, mmap_mode="c")
    return array


def _stem(dataset: Dataset, what: str, facts: tuple[Any, ...]) -> Path:
    decided = (_VERSION, dataset.fingerprint(), dataset.crop, dataset.distinct, *facts)
    key = hashlib.sha256(repr(decided).encode()).hexdigest()[:16]
    return cache_folder(dataset.root) / f"{dataset.name}-{what}-{key}"


def _decode(dataset: Dataset, size_px: int, channels: int) -> tuple[NDArray[np.uint8], _Entry]:
    pictures = dataset.pictures

    def decode(picture: Picture) -> NDArray[np.uint8] | None:
        try:
            return decode_picture(picture, size_px=size_px, channels=channels, crop=dataset.crop)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None

    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as pool:
        decoded = list(
            track(
                _map_ahead(pool, decode, in_memory(pictures), count=_AHEAD * threads),
                description=f"Decoding {dataset.name}",
                total=len(pictures),
                console=Console(stderr=True),
                transient=True,
            )
        )
    corrupt = tuple(p.name for p, d in zip(pictures, decoded, strict=True) if d is None)
    # Evaluation splits keep their copy of a picture that training has too.
    order = sorted(
        (i for i, d in enumerate(decoded) if d is not None),
        key=lambda i: -SPLITS.index(pictures[i].split),
    )
    kept = _distinct(decoded, order) if dataset.distinct else order
    kept = sorted(kept, key=lambda i: (SPLITS.index(pictures[i].split), i))
    rows = [row for i in kept if (row := decoded[i]) is not None]
    if not rows:
        raise DatasetError(
            dataset.name,
            looked_for=f"a readable picture among {len(pictures)}",
            where=dataset.root,
            remedy="Unpack or write it again.",
        )
    return np.stack(rows), _Entry(tuple(kept), corrupt, len(order) - len(kept))


def _map_ahead(
    pool: Executor,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    count: int,
) -> Iterator[_Result]:
    """As `pool.map`, but at most `count` items ahead of what is taken: they may be large."""
    waiting: deque[Future[_Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _distinct(decoded: Sequence[NDArray[np.uint8] | None], order: Sequence[int]) -> list[int]:
    seen: set[bytes] = set()
    kept = []
    for index in order:
        pixels = decoded[index]
        assert pixels is not None
        digest = hashlib.sha256(pixels.tobytes()).digest()
        if digest in seen or pixels.min() == pixels.max():
            continue
        seen.add(digest)
        kept.append(index)
    return kept
