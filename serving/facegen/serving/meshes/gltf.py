"""glTF 2.0 (ISO/IEC 12113): writes a mesh as one binary file."""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.serving.meshes.topology import Topology

__all__ = ["write_glb"]

_MAGIC, _VERSION, _JSON, _BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_UNSIGNED_SHORT, _UNSIGNED_INT, _FLOAT = 5123, 5125, 5126
_ARRAY, _ELEMENT_ARRAY = 34962, 34963
# glTF's unit is the metre.
_METRES_PER_MM = 0.001
# Matt, warm light grey; seen from both sides, for a face is an open surface.
_CLAY = {
    "name": "clay",
    "doubleSided": True,
    "pbrMetallicRoughness": {
        "baseColorFactor": [0.78, 0.72, 0.68, 1.0],
        "metallicFactor": 0.0,
        "roughnessFactor": 0.75,
    },
}
_PRIMITIVE = {"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2, "material": 0}
_SCENE = {
    "scene": 0,
    "scenes": [{"nodes": [0]}],
    "nodes": [{"mesh": 0, "name": "face", "scale": [_METRES_PER_MM] * 3}],
    "meshes": [{"primitives": [_PRIMITIVE]}],
    "materials": [_CLAY],
}


def write_glb(
    vertices: NDArray[np.float32], topology: Topology, *, extras: Mapping[str, Any] | None = None
) -> bytes:
    """Write a mesh with smooth normals.

    The vertices stay in millimetres, so that they come back bit for bit; the node scales them to
    metres.

    Args:
        vertices: (V, 3), millimetres.
        topology: Its triangles.
        extras: What to tell in `asset.extras`.
    """
    few = topology.vertex_count <= np.iinfo(np.uint16).max
    points = np.asarray(vertices, "<f4")
    corners = topology.faces.astype("<u2" if few else "<u4")
    parts = [points.tobytes(), topology.normals(points).tobytes(), corners.tobytes()]
    binary = _padded(b"".join(parts), b"\0")
    document = {
        **_SCENE,
        "asset": {"version": "2.0", "generator": "facegen", "extras": dict(extras or {})},
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": _views([len(part) for part in parts]),
        "accessors": [
            {
                **_accessor(0, _FLOAT, len(points), "VEC3"),
                "min": points.min(axis=0).tolist(),
                "max": points.max(axis=0).tolist(),
            },
            _accessor(1, _FLOAT, len(points), "VEC3"),
            _accessor(2, _UNSIGNED_SHORT if few else _UNSIGNED_INT, corners.size, "SCALAR"),
        ],
    }
    text = _padded(json.dumps(document, separators=(",", ":")).encode(), b" ")
    size = 12 + 8 + len(text) + 8 + len(binary)
    head = struct.pack("<5I", _MAGIC, _VERSION, size, len(text), _JSON)
    return b"".join((head, text, struct.pack("<2I", len(binary), _BIN), binary))


def _views(sizes: Sequence[int]) -> list[dict[str, int]]:
    """Say where vertices, normals and corners lie, one after the other."""
    return [
        {
            "buffer": 0,
            "byteOffset": sum(sizes[:index]),
            "byteLength": size,
            "target": _ELEMENT_ARRAY if index == 2 else _ARRAY,
        }
        for index, size in enumerate(sizes)
    ]


def _accessor(view: int, component: int, count: int, kind: str) -> dict[str, Any]:
    return {"bufferView": view, "componentType": component, "count": count, "type": kind}


def _padded(chunk: bytes, filling: bytes) -> bytes:
    """Fill a chunk up to a multiple of four bytes."""
    return chunk + filling * (-len(chunk) % 4)
