"""PLY, ascii and binary: positions and faces, vertex for vertex as they stand in the file.

trimesh refuses binary files that mix triangles and quads, takes more than twice as long for ascii,
and does not say what is wrong with a broken file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from facegen.training.mesh.polygons import fan

__all__ = ["read_ply"]

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_CORNERS = ("vertex_indices", "vertex_index")

_Numbers: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    kind: str
    length_kind: str | None = None  # of a list, the type of its length


@dataclass(frozen=True, slots=True)
class _Element:
    name: str
    count: int
    properties: tuple[_Property, ...]


class _Body(Protocol):
    """The values of a file, one after the other."""

    position: int

    def rows(self, kinds: Sequence[tuple[str, int]], count: int) -> list[_Numbers]:
        """Take `count` rows of as many numbers of a type as `kinds` says: a column (N, M) each."""
        ...


def read_ply(content: bytes) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Read the positions and faces of a PLY file; its other properties are passed over.

    Args:
        content: The file.

    Returns:
        Vertices (V, 3) in the file's unit, and triangles (F, 3).

    Raises:
        ValueError: It is no PLY file, or a broken one.
    """
    encoding, elements, start = _read_header(content)
    body: _Body
    if encoding == "ascii":
        body = _Text(content[start:])
    elif encoding in _BYTE_ORDERS:
        body = _Binary(content, start, _BYTE_ORDERS[encoding])
    else:
        raise ValueError(f"format {encoding!r} is none of ascii, {', '.join(_BYTE_ORDERS)}")
    tables = {element.name: _read_element(element, body) for element in elements}
    return _positions(tables.get("vertex", {})), _triangles(tables.get("face", {}))


def _read_header(content: bytes) -> tuple[str, list[_Element], int]:
    end = content.find(b"end_header")
    if not content.startswith(b"ply") or end < 0 or (line_end := content.find(b"\n", end)) < 0:
        raise ValueError("no PLY file: it does not begin with a whole header")
    encoding, elements = "", list[_Element]()
    for line in content[:end].decode("ascii", "replace").splitlines():
        match line.split():
            case ["format", encoding, _]:
                pass
            case ["element", name, count] if count.isdecimal():
                elements.append(_Element(name, int(count), ()))
            case ["property", *words] if elements:
                last = elements[-1]
                properties = (*last.properties, _read_property(words, line))
                elements[-1] = _Element(last.name, last.count, properties)
            case ["ply"] | ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise ValueError(f"header line {line!r} is none of PLY's")
    return encoding, elements, line_end + 1


def _read_property(words: list[str], line: str) -> _Property:
    match words:
        case ["list", length, kind, name] if {length, kind} <= _TYPES.keys():
            return _Property(name, _TYPES[kind], _TYPES[length])
        case [kind, name] if kind in _TYPES:
            return _Property(name, _TYPES[kind])
    raise ValueError(f"header line {line!r} is none of PLY's")


def _read_element(element: _Element, body: _Body) -> Mapping[str, _Numbers | list[_Numbers]]:
    """By property, (N,) numbers, or a list of N arrays, or (N, M) where all lists are as long."""
    start = body.position
    if element.count == 0:
        return {}
    first = _read_row(element, body)
    body.position = start
    kinds = []
    for it, values in zip(element.properties, first, strict=True):
        kinds += [(it.kind, 1)] if it.length_kind is None else [(it.length_kind, 1)]
        kinds += [] if it.length_kind is None else [(it.kind, len(values))]
    try:
        columns = iter(body.rows(kinds, element.count))
    except ValueError:
        if all(it.length_kind is None for it in element.properties):
            raise
        return _read_rows(element, body)
    table: dict[str, _Numbers | list[_Numbers]] = {}
    for it, values in zip(element.properties, first, strict=True):
        column = next(columns)
        if it.length_kind is not None:
            if (column != len(values)).any():
                body.position = start
                return _read_rows(element, body)
            table[it.name] = next(columns)
        else:
            table[it.name] = column[:, 0]
    return table


def _read_rows(element: _Element, body: _Body) -> dict[str, _Numbers | list[_Numbers]]:
    rows = zip(*(_read_row(element, body) for _ in range(element.count)), strict=True)
    return {
        it.name: np.concatenate(values) if it.length_kind is None else list(values)
        for it, values in zip(element.properties, rows, strict=True)
    }


def _read_row(element: _Element, body: _Body) -> list[_Numbers]:
    values = []
    for it in element.properties:
        length = 1
        if it.length_kind is not None:
            length = int(body.rows([(it.length_kind, 1)], 1)[0][0, 0])
        values.append(body.rows([(it.kind, length)], 1)[0][0])
    return values


class _Binary:
    def __init__(self, content: bytes, start: int, byte_order: str) -> None:
        self.content, self.position, self.byte_order = content, start, byte_order

    def rows(self, kinds: Sequence[tuple[str, int]], count: int) -> list[_Numbers]:
        fields = [(f"f{i}", self.byte_order + it, (n,)) for i, (it, n) in enumerate(kinds)]
        row = np.dtype(fields)
        end = self.position + count * row.itemsize
        if end > len(self.content):
            raise ValueError(f"truncated: {len(self.content)} bytes, it should have {end} or more")
        table = np.frombuffer(self.content, row, count, self.position)
        self.position = end
        return [table[name] for name, *_ in fields]


class _Text:
    def __init__(self, content: bytes) -> None:
        tokens = content.split()
        self.numbers = np.fromiter(map(float, tokens), np.float64, len(tokens))
        self.position = 0

    def rows(self, kinds: Sequence[tuple[str, int]], count: int) -> list[_Numbers]:
        ends = np.cumsum([0, *(n for _, n in kinds)]).tolist()
        end = self.position + count * ends[-1]
        if end > len(self.numbers):
            raise ValueError(
                f"truncated: {len(self.numbers)} numbers, it should have {end} or more"
            )
        table = self.numbers[self.position : end].reshape(count, ends[-1])
        self.position = end
        return [table[:, a:b] for a, b in pairwise(ends)]


def _positions(table: Mapping[str, _Numbers | list[_Numbers]]) -> NDArray[np.float64]:
    if not table:
        raise ValueError("no vertices")
    if not {"x", "y", "z"} <= table.keys():
        raise ValueError(f"vertices have {', '.join(table)}, they need x, y, z")
    return np.stack([np.asarray(table[axis], np.float64) for axis in "xyz"], axis=1)


def _triangles(table: Mapping[str, _Numbers | list[_Numbers]]) -> NDArray[np.int32]:
    polygons = next((table[name] for name in _CORNERS if name in table), None)
    if polygons is None:
        raise ValueError("no faces: they are an element face with a list vertex_indices")
    if isinstance(polygons, np.ndarray) and polygons.ndim == 2:  # all have as many corners
        counts = np.full(len(polygons), polygons.shape[1])
        return fan(polygons.astype(np.int64).reshape(-1), counts)
    counts = np.array([len(it) for it in polygons], np.int64)
    return fan(np.concatenate(list(polygons)).astype(np.int64), counts)
