"""PLY (Turk 1994): reads text and binary files of either byte order, writes little-endian ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.serving.meshes.mesh_file import MeshFile, MeshLimits, fans
from facegen.serving.meshes.topology import Topology

__all__ = ["is_ply", "read_ply", "write_ply"]

_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_FACE_LISTS = ("vertex_indices", "vertex_index")
_MOST_HEADER_BYTES = 64 * 1024
_MOST_PROPERTIES = 64
_END = b"end_header"


@dataclass(frozen=True, slots=True)
class _Property:
    """A property of an element: a number, or with `count_type` a list of numbers."""

    name: str
    number_type: str
    count_type: str = ""


@dataclass(frozen=True, slots=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]


def is_ply(data: bytes) -> bool:
    """Tell whether a file begins as PLY does."""
    return data[:4] in (b"ply\n", b"ply\r")


def read_ply(data: bytes, limits: MeshLimits) -> MeshFile:
    """Read a file.

    Args:
        data: The file.
        limits: How much of it to read.

    Raises:
        ValueError: It is broken, or has no vertices and faces.
    """
    order, elements, body = _header(data)
    elements = _needed(elements, limits)
    rows = (_binary_elements if order else _text_elements)(body, elements, order)
    read = {element.name: (element, some) for element, some in zip(elements, rows, strict=True)}
    return MeshFile.of(_coordinates(*read["vertex"]), _triangles(*read["face"], limits))


def write_ply(
    vertices: NDArray[np.float32], topology: Topology, *, comments: Sequence[str] = ()
) -> bytes:
    """Write a mesh, binary, little-endian.

    Args:
        vertices: (V, 3).
        topology: Its triangles.
        comments: Lines to put into the header.
    """
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {comment}" for comment in comments),
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(topology.faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    head = "\n".join(lines).encode("ascii", "backslashreplace")
    return b"".join((head, np.asarray(vertices, "<f4").tobytes(), _face_block(topology)))


@lru_cache(maxsize=16)
def _face_block(topology: Topology) -> bytes:
    """Write the triangles, which are the same in every file."""
    block = np.empty(len(topology.faces), [("count", "u1"), ("corners", "<i4", 3)])
    block["count"] = 3
    block["corners"] = topology.faces
    return block.tobytes()


def _header(data: bytes) -> tuple[str, list[_Element], memoryview]:
    """Read the byte order (empty: text), the elements, and where their rows begin."""
    end = data.find(_END, 0, _MOST_HEADER_BYTES)
    start = data.find(b"\n", end) + 1
    if end < 0 or not start:
        raise ValueError("has a header without end_header")
    order: str | None = None
    elements: list[_Element] = []
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        match line.split():
            case ["format", name, "1.0"] if name in _ORDERS:
                order = _ORDERS[name]
            case ["element", name, count] if count.isascii() and count.isdecimal():
                elements.append(_Element(name, int(count[:18]), []))
            case ["property", "list", count, number, name] if elements:
                _add(elements[-1], _Property(name, _type(number), _type(count)))
            case ["property", number, name] if elements:
                _add(elements[-1], _Property(name, _type(number)))
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise ValueError(f'has a header with the line "{line[:80]}"')
    if order is None:
        raise ValueError("has a header that says no format known here")
    return order, elements, memoryview(data)[start:]


def _add(element: _Element, new: _Property) -> None:
    if any(it.name == new.name for it in element.properties):
        raise ValueError(f'has "{element.name}" with two properties "{new.name[:80]}"')
    element.properties.append(new)


def _needed(elements: Sequence[_Element], limits: MeshLimits) -> list[_Element]:
    """Give the elements up to the last that is wanted, if they can be read in little time."""
    wanted = [element for element in elements if element.name in ("vertex", "face")]
    if sorted(element.name for element in wanted) != ["face", "vertex"]:
        raise ValueError("has not one element of vertices and one of faces")
    needed = list(elements[: elements.index(wanted[-1]) + 1])
    for element in needed:
        if not 0 < len(element.properties) <= _MOST_PROPERTIES:
            raise ValueError(f'has "{element.name}" of {len(element.properties)} properties')
        if element.name == "vertex":
            limits.check(vertices=element.count)
        elif element.name == "face":
            limits.check(faces=element.count)
        elif any(it.count_type for it in element.properties):
            raise ValueError(f'has lists in "{element.name}" before its vertices or faces')
    return needed


def _type(name: str) -> str:
    if name not in _TYPES:
        raise ValueError(f'has a header with the type "{name[:80]}"')
    return _TYPES[name]


# The rows of an element by the names of its properties: numbers as (N,), lists that are all of one
# length as (N, k), others one by one.
_Rows = Mapping[str, NDArray[Any] | list[list[int]]]


def _coordinates(element: _Element, rows: _Rows) -> NDArray[np.float32]:
    columns = [rows.get(axis) for axis in "xyz"]
    scalars = [column for column in columns if isinstance(column, np.ndarray) and column.ndim == 1]
    if len(scalars) < 3:
        raise ValueError(f'has "{element.name}" without the numbers x, y and z')
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told
        return np.stack(scalars, axis=1).astype(np.float32)


def _triangles(element: _Element, rows: _Rows, limits: MeshLimits) -> NDArray[np.int32]:
    name = next((it.name for it in element.properties if it.name in _FACE_LISTS), "")
    lists = rows.get(name, np.empty(0))
    if not isinstance(lists, np.ndarray):
        return fans(lists, limits)
    if lists.ndim != 2 or lists.dtype.kind not in "iu":
        raise ValueError(f'has "{element.name}" without lists of whole numbers, vertex_indices')
    if lists.shape[1] == 3:
        wide = lists.astype(np.int64)
        return np.clip(wide, -1, np.iinfo(np.int32).max).astype(np.int32)
    return fans(lists.tolist(), limits)


def _text_elements(body: memoryview, elements: Sequence[_Element], order: str) -> Iterator[_Rows]:
    """Read elements of which every row is a line."""
    lines = bytes(body).split(b"\n")
    first = 0
    for element in elements:
        some = lines[first : first + element.count]
        first += element.count
        if len(some) < element.count:
            raise ValueError(f'ends within its element "{element.name}"')
        if any(it.count_type for it in element.properties):
            yield _text_lists(element, some)
        else:
            yield _text_numbers(element, some)


def _text_numbers(element: _Element, lines: Sequence[bytes]) -> _Rows:
    width = len(element.properties)
    words = b" ".join(lines).split()
    if len(words) != width * len(lines):
        raise ValueError(f'has {len(words)} numbers for {len(lines)} of "{element.name}"')
    columns = np.array([float(word) for word in words]).reshape(-1, width).T
    return {it.name: column for it, column in zip(element.properties, columns, strict=True)}


def _text_lists(element: _Element, lines: Sequence[bytes]) -> _Rows:
    """Read rows of which each line tells how long its lists are; numbers beside are passed over."""
    lists: dict[str, list[list[int]]] = {it.name: [] for it in element.properties if it.count_type}
    for line in lines:
        words = line.split()
        place = 0
        for it in element.properties:
            length = 1
            if it.count_type:
                length = int(words[place]) if place < len(words) else 0
                place += 1
            if length < 0 or place + length > len(words):
                raise ValueError(f'has a line of "{element.name}" that is too short')
            if it.count_type:
                lists[it.name].append([int(word) for word in words[place : place + length]])
            place += length
    return dict(lists)


def _binary_elements(body: memoryview, elements: Sequence[_Element], order: str) -> Iterator[_Rows]:
    """Read elements at once where all lists of a property are as long as the first one."""
    place = 0
    for element in elements:
        lengths, _, _ = _uneven_rows(element, body[place:], order, count=min(1, element.count))
        first = {name: len(lists[0]) if lists else 0 for name, lists in lengths.items()}
        row = _row_type(element, order, first)
        end = place + row.itemsize * element.count
        if end <= len(body):
            table = np.frombuffer(body[place:end], row)
            if all((table[f"{name} count"] == length).all() for name, length in first.items()):
                place = end
                yield {it.name: table[it.name] for it in element.properties}
                continue
        lists, numbers, size = _uneven_rows(element, body[place:], order, count=element.count)
        place += size
        yield {**lists, **{name: np.array(some) for name, some in numbers.items()}}


def _row_type(element: _Element, order: str, lengths: Mapping[str, int]) -> np.dtype[np.void]:
    """Give the type of a row whose lists are so long."""
    fields: list[Any] = []
    for it in element.properties:
        if it.count_type:
            fields.append((f"{it.name} count", order + it.count_type))
            fields.append((it.name, order + it.number_type, (lengths[it.name],)))
        else:
            fields.append((it.name, order + it.number_type))
    return np.dtype(fields)


def _uneven_rows(
    element: _Element, body: memoryview, order: str, *, count: int
) -> tuple[dict[str, list[list[int]]], dict[str, list[float]], int]:
    """Read rows one by one.

    Returns:
        Their lists and their numbers by property, and the bytes that they take.
    """
    lists: dict[str, list[list[int]]] = {it.name: [] for it in element.properties if it.count_type}
    numbers: dict[str, list[float]] = {
        it.name: [] for it in element.properties if not it.count_type
    }
    place = 0

    def take(kind: str, length: int) -> list[Any]:
        nonlocal place
        dtype = np.dtype(order + kind)
        end = place + dtype.itemsize * length
        if length < 0 or end > len(body):
            raise ValueError(f'ends within its element "{element.name}"')
        values: list[Any] = np.frombuffer(body[place:end], dtype).tolist()
        place = end
        return values

    for _ in range(count):
        for it in element.properties:
            if it.count_type:
                length = int(take(it.count_type, 1)[0])
                lists[it.name].append(list(map(int, take(it.number_type, length))))
            else:
                numbers[it.name] += take(it.number_type, 1)
    return lists, numbers, place
