"""Arrays to and from the protocol's tensors, raw and typed, of every datatype."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from facegen.serving.engine import Array
from facegen.serving.errors import InputError

__all__ = ["DATATYPES", "DTYPES", "check_size", "read_raw", "read_typed", "write_raw"]

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""The protocol's datatypes; arrays of BYTES hold `bytes`."""

DATATYPES: Mapping[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}
"""Their names."""

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_LENGTH = struct.Struct("<I")

# Values that Python converts in a few milliseconds, in which no other thread has a turn.
_AT_ONCE = 2**16


def read_raw(field: str, datatype: str, shape: Sequence[int], raw: bytes) -> Array:
    """Read raw contents: little-endian, C order; before each element of BYTES its length.

    Args:
        field: Names the tensor in errors.
        datatype: One of `DTYPES`.
        shape: No size negative.
        raw: The bytes; the array looks into them and cannot be written to, but for BOOL and BYTES.

    Raises:
        InputError: The bytes are not of this datatype and shape.
    """
    dtype = DTYPES[datatype]
    check_size(field, datatype, shape, len(raw))
    if dtype.hasobject:
        strings = _split_strings(field, raw, math.prod(shape))
        return _shaped(field, _converted(strings, dtype), shape)
    array = np.frombuffer(raw, np.uint8 if dtype.kind == "b" else dtype)
    # Any byte but 0 is true; a bool of another value than 0 and 1 would make numpy lie.
    return _shaped(field, array != 0 if dtype.kind == "b" else array, shape)


def check_size(field: str, datatype: str, shape: Sequence[int], byte_size: int) -> None:
    """Check how many bytes raw contents have, as far as datatype and shape tell.

    Raises:
        InputError: They are not so many.
    """
    needed = math.prod(shape) * DTYPES[datatype].itemsize
    if byte_size != needed and datatype != "BYTES":
        raise InputError(
            field,
            f"has {byte_size} bytes, {datatype} of shape {list(shape)} needs {needed}; "
            "give the shape of the data",
        )


def read_typed(field: str, datatype: str, shape: Sequence[int], contents: Any) -> Array:
    """Read an `InferTensorContents`.

    Args:
        field: Names the tensor in errors.
        datatype: One of `DTYPES`.
        shape: No size negative.
        contents: The message.

    Raises:
        InputError: They are not of this datatype and shape.
    """
    wanted = _CONTENTS.get(datatype)
    if wanted is None:
        raise InputError(
            f"{field}.contents", f"cannot hold {datatype}; send it in raw_input_contents"
        )
    for given, _ in contents.ListFields():
        if given.name != wanted:
            raise InputError(
                f"{field}.contents", f"has {given.name}, {datatype} goes in {wanted} alone"
            )
    given_values = getattr(contents, wanted)
    count = math.prod(shape)
    if len(given_values) != count:
        raise InputError(
            f"{field}.contents.{wanted}",
            f"has {len(given_values)} values, shape {list(shape)} needs {count}; give as many, "
            "or raw_input_contents",
        )
    try:
        return _shaped(field, _converted(given_values, DTYPES[datatype]), shape)
    except OverflowError as error:
        raise InputError(
            f"{field}.contents.{wanted}", f"has a value that is no {datatype}: {error}"
        ) from error


def write_raw(array: Array) -> bytes:
    """Write raw contents; of arrays of objects, elements are bytes."""
    if array.dtype.hasobject:
        strings = array.ravel().tolist()
        return b"".join(part for each in strings for part in (_LENGTH.pack(len(each)), each))
    return array.tobytes()


def _split_strings(field: str, raw: bytes, count: int) -> list[bytes]:
    strings: list[bytes] = []
    position = 0
    while position < len(raw):
        begin = position + _LENGTH.size
        length = _LENGTH.unpack_from(raw, position)[0] if begin <= len(raw) else 0
        position = begin + length
        if position > len(raw):
            raise InputError(
                field,
                f"ends within element {len(strings)} of BYTES; give each element its length "
                "in 4 bytes, little-endian, then its bytes",
            )
        strings.append(raw[begin:position])
        if len(strings) > count:
            break
    if len(strings) != count:
        has = f"more than {count}" if len(strings) > count else len(strings)
        raise InputError(
            field, f"has {has} elements of BYTES, its shape needs {count}; give the right shape"
        )
    return strings


def _converted(values: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    """Make values an array, some at a time: there may be millions.

    Raises:
        OverflowError: One is out of the range of its type; nothing is cut off.
    """
    array = np.empty(len(values), dtype)
    for begin in range(0, len(values), _AT_ONCE):
        array[begin : begin + _AT_ONCE] = values[begin : begin + _AT_ONCE]
    return array


def _shaped(field: str, array: Array, shape: Sequence[int]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError as error:  # empty, and more than numpy can count along other axes
        raise InputError(field, f"cannot have shape {list(shape)}: {error}") from error
