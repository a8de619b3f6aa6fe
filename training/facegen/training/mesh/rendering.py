"""Shaded pictures of meshes, by casting rays on the CPU: no display and no OpenGL."""

import math
import platform
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from facegen.training.errors import RenderingError
from facegen.training.mesh.holes import holes
from facegen.training.mesh.lighting import Cast, openness, shade, vertex_normals

__all__ = ["BACKGROUND", "View", "render"]

BACKGROUND = (255, 255, 255)
"""The colour around a mesh."""

_CLAY = (238, 224, 210)
_PLATE = (176, 158, 147)
_INSIDE = 0.35  # how light the inside is that an open mesh shows
_SAMPLES = 3  # rays a pixel, to either side
_MARGIN = 1.05  # the eye is near enough for the front of a face to look larger
_DISTANCE = 8.0  # of the eye, in units of half the picture's height: a portrait lens

Reals = NDArray[np.float32]
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """A camera; pictures of one view can be laid side by side.

    Attributes:
        centre: The point in the picture's middle, in millimetres.
        half_mm: Half of the picture's height there, in millimetres.
        aspect: The picture's width over its height.
        yaw_degrees: How far the camera goes round to the viewer's right.
        pitch_degrees: How far it goes up.
    """

    centre: tuple[float, float, float]
    half_mm: float
    aspect: float = 1.0
    yaw_degrees: float = 0.0
    pitch_degrees: float = 0.0

    @classmethod
    def around(cls, vertices: Reals, *, yaw_degrees: float = 0, pitch_degrees: float = 0) -> Self:
        """The view in which a mesh fills the picture: that of a template, for a series.

        Args:
            vertices: (V, 3), or (N, V, 3) to hold all of N meshes.
            yaw_degrees: How far the camera goes round to the viewer's right.
            pitch_degrees: How far it goes up.
        """
        points = vertices.reshape(-1, 3)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        axes = _axes(yaw_degrees, pitch_degrees)
        flat = (points - middle) @ axes[:2].T
        low, high = flat.min(axis=0), flat.max(axis=0)
        x, y, z = (middle + (low + high) / 2 @ axes[:2]).tolist()
        width_mm, height_mm = (np.maximum(high - low, 1e-3)).tolist()
        half_mm, side_mm = _MARGIN * height_mm / 2, _MARGIN * width_mm / 2
        return cls((x, y, z), half_mm, side_mm / half_mm, yaw_degrees, pitch_degrees)

    def width_px(self, height_px: int) -> int:
        """How wide a picture of a height is."""
        return max(1, round(height_px * self.aspect))

    @property
    def axes(self) -> Reals:
        """The camera's right, up and towards the viewer, as rows (3, 3)."""
        return _axes(self.yaw_degrees, self.pitch_degrees)

    @property
    def eye(self) -> Reals:
        """Where the camera is, (3,) in millimetres."""
        away = _DISTANCE * self.half_mm * self.axes[2]
        return np.asarray(np.array(self.centre) + away, np.float32)


def render(
    vertices: Reals,
    faces: NDArray[np.int32],
    *,
    view: View | None = None,
    height_px: int = 256,
    colours: Picture | None = None,
) -> Picture:
    """Draw a mesh as lit clay, or in the colours of its vertices.

    The same mesh gives the same bytes.

    Args:
        vertices: (V, 3) float32 in millimetres: x right, y up, z towards the viewer.
        faces: Triangles, (F, 3) int32, counter-clockwise seen from outside; insides are dark.
        view: The camera; without one the mesh fills the picture.
        height_px: The picture's height; its width is the view's.
        colours: sRGB of every vertex, (V, 3) uint8.

    Returns:
        (H, W, 3) uint8, on white. Holes within the mesh, such as eyes and an open mouth, are dark.

    Raises:
        RenderingError: No ray caster on this machine.
    """
    view = view or View.around(vertices)
    if colours is None:
        colours = np.broadcast_to(np.array(_CLAY, np.uint8), vertices.shape)
    vertices, faces, colours = _filled(vertices, faces, colours)
    scene = _Scene(vertices, faces)
    both_sides = _light(vertices, faces, view, scene.meets, _linear(colours))

    size_px = height_px, view.width_px(height_px)
    directions = _directions(view, size_px[0] * _SAMPLES, size_px[1] * _SAMPLES)
    triangles, weights = scene.first_hits(view.eye, directions)
    hit = triangles >= 0
    triangles, weights = triangles[hit], weights[hit]
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    outwards = np.cross(b - a, c - a)[triangles]
    inside = np.einsum("ij,ij->i", outwards, directions[hit]) > 0
    corners = faces[triangles] + len(vertices) * inside[:, None]
    pixels = np.empty(directions.shape, np.float32)
    pixels[:] = _linear(np.array(BACKGROUND, np.uint8))
    pixels[hit] = sum(weights[:, i : i + 1] * both_sides[corners[:, i]] for i in range(3))
    samples = pixels.reshape(size_px[0], _SAMPLES, size_px[1], _SAMPLES, 3)
    return _encode(samples.mean(axis=(1, 3)))


def _filled(
    vertices: Reals, faces: NDArray[np.int32], colours: Picture
) -> tuple[Reals, NDArray[np.int32], Picture]:
    """Put a dark plate into every hole, in place of the eyeballs and the mouth behind it."""
    points, triangles, count = [vertices], [faces], len(vertices)
    for loop in holes(vertices, faces):
        edge = vertices[loop]
        points += [edge, edge.mean(axis=0, keepdims=True)]
        rim = np.arange(count, count + len(loop))
        middle = np.full(len(loop), count + len(loop))
        triangles.append(np.stack([np.roll(rim, -1), rim, middle], axis=1).astype(np.int32))
        count += len(loop) + 1
    plates = np.broadcast_to(np.array(_PLATE, np.uint8), (count - len(vertices), 3))
    return np.concatenate(points), np.concatenate(triangles), np.concatenate([colours, plates])


def _light(
    vertices: Reals, faces: NDArray[np.int32], view: View, meets: Cast, albedo: Reals
) -> Reals:
    """Light from every vertex's outside, then from its inside, linear RGB (2 V, 3)."""
    normals = vertex_normals(vertices, faces)
    axes = view.axes
    seen = openness(vertices, normals, meets, axes=axes)
    towards = view.eye - vertices
    towards = (towards / np.linalg.norm(towards, axis=1, keepdims=True)) @ axes.T
    outside = shade(normals @ axes.T, towards, albedo, seen)
    inside = shade(-normals @ axes.T, towards, _INSIDE * albedo, np.full_like(seen, 0.5))
    return np.concatenate([outside, inside])


class _Scene:
    """A mesh that rays can be cast at."""

    def __init__(self, vertices: Reals, faces: NDArray[np.int32]) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ModuleNotFoundError as error:
            raise RenderingError(f"{platform.system()} {platform.machine()}") from error

        self._scene = EmbreeScene()
        TriangleMesh(
            self._scene,
            np.ascontiguousarray(vertices, np.float32),
            np.ascontiguousarray(faces, np.int32),
        )

    def first_hits(self, eye: Reals, directions: Reals) -> tuple[NDArray[np.int32], Reals]:
        """Of rays from one point, the triangle (R,), -1 for none, and its corners' weights."""
        origins = np.broadcast_to(eye, directions.shape).astype(np.float32)
        found = self._scene.run(origins, directions, output=True)
        u, v = found["u"], found["v"]
        return found["primID"], np.stack([1 - u - v, u, v], axis=1)

    def meets(self, origins: Reals, directions: Reals) -> NDArray[np.bool_]:
        """Whether rays meet the surface, (R,)."""
        found = self._scene.run(origins, directions, query="OCCLUDED")
        return np.asarray(found == 0, np.bool_)


@lru_cache(maxsize=2)
def _directions(view: View, rows: int, columns: int) -> Reals:
    """Unit directions from the eye through a grid on the picture, row by row, (R, 3)."""
    right, up, towards = view.axes
    y, x = (
        ((np.arange(count, dtype=np.float32) + 0.5) / count * 2 - 1) * view.half_mm
        for count in (rows, columns)
    )
    lines = -y[:, None, None] * up - _DISTANCE * view.half_mm * towards
    directions = (lines + x[None, :, None] * view.aspect * right).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.asarray(directions, np.float32)


def _axes(yaw_degrees: float, pitch_degrees: float) -> Reals:
    yaw, pitch = math.radians(yaw_degrees), math.radians(pitch_degrees)
    towards = [
        math.sin(yaw) * math.cos(pitch),
        math.sin(pitch),
        math.cos(yaw) * math.cos(pitch),
    ]
    right = [math.cos(yaw), 0.0, -math.sin(yaw)]
    return np.array([right, np.cross(towards, right), towards], np.float32)


def _linear(colours: Picture) -> Reals:
    """Linear light of sRGB: IEC 61966-2-1."""
    values = colours.astype(np.float32) / 255
    curve = ((values + 0.055) / 1.055) ** 2.4
    return np.asarray(np.where(values <= 0.04045, values / 12.92, curve), np.float32)


def _encode(light: Reals) -> Picture:
    light = np.clip(light, 0, 1)
    values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(values * 255), np.uint8)
