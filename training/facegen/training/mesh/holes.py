"""The holes of an open mesh, such as the eyes and the mouth of a face without its insides."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["holes"]


def holes(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> tuple[NDArray[np.intp], ...]:
    """The boundaries of a mesh, without the longest one, which is its rim.

    Args:
        vertices: (V, 3).
        faces: Triangles, (F, 3), all wound alike.

    Returns:
        Each hole's vertices in their order round it, (N,).
    """
    loops = _boundaries(np.ascontiguousarray(faces, np.int32).tobytes())
    lengths = [
        float(np.linalg.norm(vertices[it] - vertices[np.roll(it, 1)], axis=1).sum()) for it in loops
    ]
    rim = int(np.argmax(lengths)) if lengths else -1
    return tuple(it for index, it in enumerate(loops) if index != rim)


@lru_cache(maxsize=8)  # a topology has many meshes
def _boundaries(content: bytes) -> tuple[NDArray[np.intp], ...]:
    faces = np.frombuffer(content, np.int32).reshape(-1, 3).astype(np.int64)
    starts, ends = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    base = int(faces.max()) + 1 if len(faces) else 1
    # An edge that no neighbour runs along the other way.
    free = ~np.isin(starts * base + ends, ends * base + starts)
    following = dict(zip(starts[free].tolist(), ends[free].tolist(), strict=True))
    loops = []
    while following:
        start, vertex = following.popitem()
        loop = [start]
        while vertex != start and vertex in following:
            loop.append(vertex)
            vertex = following.pop(vertex)
        if vertex == start and len(loop) > 2:
            loops.append(np.array(loop, np.intp))
    return tuple(loops)
