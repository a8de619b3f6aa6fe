"""The light of a picture of a mesh: smooth normals, occlusion, three lamps."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cast", "openness", "shade", "vertex_normals"]

Reals = NDArray[np.float32]

Cast = Callable[[Reals, Reals], NDArray[np.bool_]]
"""Of rays from (R, 3) towards (R, 3): whether each meets the surface, (R,)."""


def _unit(vectors: Reals) -> Reals:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


# Towards the lamp in the camera's frame: right, up, towards the viewer; strength; linear RGB.
_KEY = _unit(np.array([-0.55, 0.60, 0.58], np.float32))
_FILL = _unit(np.array([0.80, 0.10, 0.60], np.float32))
_RIM = _unit(np.array([0.55, 0.45, -0.70], np.float32))
_KEY_COLOUR = np.array([0.94, 0.90, 0.85], np.float32)
_FILL_COLOUR = np.array([0.145, 0.165, 0.20], np.float32)
_RIM_COLOUR = np.array([0.33, 0.34, 0.36], np.float32)
_SKY_COLOUR = np.array([0.24, 0.25, 0.28], np.float32)
_GROUND_COLOUR = np.array([0.115, 0.10, 0.094], np.float32)
_GLOSS, _GLOSS_POWER = 0.10, 18.0
_LAMP_RADIUS = 0.12  # of the key light, in units of its distance: soft shadows
_DIRECTIONS, _LAMP_RAYS = 48, 10
_LIFT = 2e-3  # of the mesh's extent, so that a ray leaves the triangle it starts on


def vertex_normals(vertices: Reals, faces: NDArray[np.int32]) -> Reals:
    """Unit normals (V, 3), each the sum of its triangles' by area; zero where there is none."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    by_area = np.cross(b - a, c - a)
    sums = np.stack(
        [
            np.bincount(faces.reshape(-1), np.repeat(by_area[:, axis], 3), minlength=len(vertices))
            for axis in range(3)
        ],
        axis=1,
    )
    return _unit(sums.astype(np.float32))


def openness(vertices: Reals, normals: Reals, cast: Cast, *, axes: Reals) -> Reals:
    """How much of the sky and of the key light every vertex sees, outside and inside alike.

    Args:
        vertices: (V, 3) in millimetres.
        normals: (V, 3), unit.
        cast: Whether rays meet the surface.
        axes: The camera's right, up and towards the viewer, as rows.

    Returns:
        (V, 2) in [0, 1]: the share of the sky, weighted by the cosine, and of the key light.
    """
    extent = float(np.ptp(vertices, axis=0).max())
    origins = vertices + normals * np.float32(_LIFT * extent)
    sky = _visible(origins, normals, _fibonacci(_DIRECTIONS), cast)
    disc = _disc(_LAMP_RAYS) * _LAMP_RADIUS
    side = _unit(np.cross(_KEY, np.array([0, 1, 0], np.float32)))
    lamp = _unit(_KEY + disc[:, :1] * side + disc[:, 1:] * np.cross(side, _KEY))
    return np.stack([sky, _visible(origins, normals, lamp @ axes, cast)], axis=1)


def shade(normals: Reals, towards: Reals, albedo: Reals, seen: Reals) -> Reals:
    """Light from points of the surface, linear RGB (V, 3).

    Args:
        normals: Of the side that is looked at, (V, 3), unit, in the camera's frame.
        towards: From the points towards the eye, (V, 3), unit, in the same frame.
        albedo: Linear RGB, (V, 3).
        seen: `openness` of the points, (V, 2).
    """
    sky, lamp = seen[:, :1], seen[:, 1:]
    up = 0.5 + 0.5 * normals[:, 1:2]
    light = sky * (_GROUND_COLOUR + up * (_SKY_COLOUR - _GROUND_COLOUR))
    light = light + _lambert(normals, _KEY) * lamp * _KEY_COLOUR
    light = light + _lambert(normals, _FILL) * sky * _FILL_COLOUR
    edge = (1 - np.clip((normals * towards).sum(axis=1, keepdims=True), 0, 1)) ** 3
    light = light + np.clip(normals @ _RIM[:, None] + 0.25, 0, 1) * edge * sky * _RIM_COLOUR
    halfway = _unit(_KEY + towards)
    gloss = np.clip((normals * halfway).sum(axis=1, keepdims=True), 0, 1) ** _GLOSS_POWER
    return np.asarray(albedo * light + _GLOSS * gloss * lamp, np.float32)


def _lambert(normals: Reals, direction: Reals) -> Reals:
    return np.asarray(np.clip(normals @ direction, 0, 1)[:, None])


def _visible(origins: Reals, normals: Reals, directions: Reals, cast: Cast) -> Reals:
    cosines = normals @ directions.T
    vertices, rays = np.nonzero(cosines > 0.05)
    free = ~cast(origins[vertices], directions[rays])
    weights = cosines[vertices, rays]
    count = len(origins)
    total = np.bincount(vertices, weights, minlength=count)
    seen = np.bincount(vertices, weights * free, minlength=count)
    return (seen / np.maximum(total, 1e-6)).astype(np.float32)


def _fibonacci(count: int) -> Reals:
    """Directions spread evenly over the sphere."""
    steps = np.arange(count) + 0.5
    height, turn = 1 - 2 * steps / count, np.pi * (1 + 5**0.5) * steps
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], axis=1).astype(
        np.float32
    )


def _disc(count: int) -> Reals:
    """Points spread evenly over the unit disc."""
    steps = np.arange(count) + 0.5
    radius, turn = np.sqrt(steps / count), np.pi * (1 + 5**0.5) * steps
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1).astype(np.float32)
