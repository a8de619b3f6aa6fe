"""Draws meshes as lit clay on the CPU: for sheets, on which each is a few centimetres wide."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from facegen.serving.meshes.mesh_file import MeshFile
from facegen.serving.meshes.topology import Topology

__all__ = ["draw_meshes"]

# Pictures are drawn so many times larger, and reduced.
_SAMPLES = 3
_MARGIN = 1.05
_YAW_DEGREES, _PITCH_DEGREES = 14.0, -2.0
_PAPER, _HOLE = (255, 255, 255), (64, 54, 50)
# Linear light: of clay, of lamps (from above the viewer's left, and from the right), from
# everywhere, and what is left of it inside.
_CLAY = np.array([0.80, 0.71, 0.62])
_LAMPS = np.array([[-0.52, 0.58, 0.63], [0.85, 0.15, 0.5]])
_STRENGTHS = np.array([0.85, 0.12])
_AMBIENT, _INSIDE = 0.18, 0.25
_GAMMA = 2.2

Floats = NDArray[np.float64]


def draw_meshes(meshes: Sequence[MeshFile], *, side_px: int) -> list[NDArray[np.uint8]]:
    """Draw meshes from the front, slightly turned, all in one frame and at one scale.

    Args:
        meshes: In millimetres: x right, y up, z towards the viewer.
        side_px: The longer side of each picture.

    Returns:
        For each (H, W, 3), on white.
    """
    axes = _axes(math.radians(_YAW_DEGREES), math.radians(_PITCH_DEGREES))
    views = [mesh.vertices.astype(np.float64) @ axes.T for mesh in meshes]
    low = np.min([view.min(axis=0) for view in views], axis=0)[:2]
    high = np.max([view.max(axis=0) for view in views], axis=0)[:2]
    extent_mm = np.maximum(high - low, 1e-6) * _MARGIN
    scale = side_px / extent_mm.max()
    width_px, height_px = (max(1, round(it)) for it in (extent_mm * scale).tolist())
    pictures = []
    for mesh, view in zip(meshes, views, strict=True):
        canvas = Image.new("RGB", (_SAMPLES * width_px, _SAMPLES * height_px), _PAPER)
        on_canvas = (view[:, :2] - (low + high) / 2) * (1, -1) * scale * _SAMPLES
        placed = on_canvas + np.array(canvas.size) / 2
        _paint(canvas, placed, view=view, faces=mesh.faces)
        pictures.append(np.asarray(canvas.reduce(_SAMPLES)))
    return pictures


def _paint(
    canvas: Image.Image, on_canvas: Floats, *, view: Floats, faces: NDArray[np.int32]
) -> None:
    """Paint triangles, the nearer over the farther.

    Args:
        canvas: What is painted on.
        on_canvas: Where the vertices are on it, (V, 2) pixels.
        view: The vertices, (V, 3): right, up, towards the viewer.
        faces: (F, 3).
    """
    draw = ImageDraw.Draw(canvas)
    for hole in _holes(on_canvas, faces):
        draw.polygon(hole.ravel().tolist(), fill=_HOLE)
    order = np.argsort(view[faces, 2].mean(axis=1))
    colours = _colours(view, faces)[order].tolist()
    triangles = on_canvas[faces[order]].reshape(-1, 6).tolist()
    for triangle, colour in zip(triangles, colours, strict=True):
        draw.polygon(triangle, fill=tuple(colour))


def _holes(on_canvas: Floats, faces: NDArray[np.int32]) -> list[Floats]:
    """Find the rims of holes, such as eyes and an open mouth: all but the largest, the mesh's own.

    Paper would shine through them, where a face is dark.
    """
    sides = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).astype(np.int64)
    count = len(on_canvas)
    alone = ~np.isin(sides @ (count, 1), sides @ (1, count))
    after = dict(sides[alone].tolist())
    rims = []
    while after:
        rim = [next(iter(after))]
        while (vertex := after.pop(rim[-1], None)) is not None:
            rim.append(vertex)
        rims.append(on_canvas[rim])
    return sorted(rims, key=lambda rim: float(np.ptp(rim, axis=0).max()))[:-1]


def _colours(view: Floats, faces: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Light triangles by Lambert's law: (F, 3), sRGB."""
    vertices = view.astype(np.float32)
    smooth = Topology(faces, vertices).normals(vertices)[faces].mean(axis=1)
    first, second, third = (view[corner] for corner in faces.T)
    outside = np.cross(second - first, third - first)[:, 2:] > 0
    normals = np.where(outside, smooth, -smooth)
    lamps = _LAMPS / np.linalg.norm(_LAMPS, axis=1, keepdims=True)
    light = _AMBIENT + np.clip(normals @ lamps.T, 0, None) @ _STRENGTHS
    linear = np.clip(light[:, None] * np.where(outside, 1, _INSIDE) * _CLAY, 0, 1)
    return np.asarray(np.rint(255 * linear ** (1 / _GAMMA)), np.uint8)


def _axes(yaw: float, pitch: float) -> Floats:
    """The viewer's right, up and nearness as rows (3, 3), gone round to the right, and up."""
    towards = [math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)]
    right = [math.cos(yaw), 0.0, -math.sin(yaw)]
    return np.array([right, np.cross(towards, right), towards])
