"""The noise of generated faces: a function of the seed and the face's index alone.

Promised, on every machine: the noise of face `i` of seed `s` is what numpy's Philox4x64-10 (Salmon
et al. 2011, https://doi.org/10.1145/2063384.2063405) gives with the key `(s, i)` and the counter 0,
drawn by `numpy.random.Generator` as float32: first `latent_size` standard normals (ziggurat), then
one uniform number in [0, 1). So it depends on no batch, replica, engine or restart, and any range
of indices can be drawn alone. Another latent size shares the first normals, not the uniform number.
"""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.serving.errors import InputError

__all__ = ["latent_noise"]

_UINT64_COUNT = 2**64


class _Philox(threading.local):
    """One generator a thread, rewound for every face: 6 µs a face, where a new one takes 20."""

    def __init__(self) -> None:
        self.bits = np.random.Philox(key=np.zeros(2, np.uint64))
        self.generator = np.random.Generator(self.bits)
        self.start: Any = self.bits.state  # numpy types its arrays differently by version
        self.key: NDArray[np.uint64] = self.start["state"]["key"]


_philox = _Philox()


def latent_noise(
    seed: int, first_index: int, *, count: int, latent_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw the noise of faces `first_index` to `first_index + count - 1` of a seed.

    Args:
        seed: Any uint64.
        first_index: The first face, uint64; so must be the last.
        count: Faces, 0 or more.
        latent_size: Standard normals a face.

    Returns:
        The normals (count, latent_size) and the uniform numbers (count, 1) in [0, 1), both float32.

    Raises:
        InputError: The seed or an index is no uint64, or the count is negative. Never right.
    """
    _check_range(seed, first_index, count)
    noise = np.empty((count, latent_size), np.float32)
    uniform = np.empty((count, 1), np.float32)
    philox = _philox
    bits, generator, start, key = philox.bits, philox.generator, philox.start, philox.key
    key[0] = seed
    for row in range(count):
        key[1] = first_index + row
        bits.state = start
        generator.standard_normal(out=noise[row], dtype=np.float32)
        generator.random(out=uniform[row], dtype=np.float32)
    return noise, uniform


def _check_range(seed: int, first_index: int, count: int) -> None:
    if not 0 <= seed < _UINT64_COUNT:
        raise InputError("seed", f"{seed} is no uint64; use 0 to 2^64 - 1")
    if not 0 <= first_index < _UINT64_COUNT:
        raise InputError("first_index", f"{first_index} is no uint64; use 0 to 2^64 - 1")
    if count < 0:
        raise InputError("count", f"{count} is negative; use 0 or more")
    if first_index + count > _UINT64_COUNT:
        raise InputError(
            "first_index",
            f"{count} faces from {first_index} pass the last index 2^64 - 1; "
            f"ask for at most {_UINT64_COUNT - first_index}",
        )
