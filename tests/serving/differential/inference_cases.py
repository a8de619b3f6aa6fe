"""Inferences, good and bad."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.serving.differential.replay import Case, Fields

__all__ = ["inference_cases"]

_ROW = np.arange(4, dtype="<f4").tobytes()
_VALUES = [1.0, 2.0, 3.0, 4.0]

_TYPED: Mapping[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-(2**15), 2**15 - 1]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 2**16 - 1]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]),
    "FP32": ("fp32_contents", [-1.5, 2.5]),
    "FP64": ("fp64_contents", [-1.5, 2.5]),
    "BYTES": ("bytes_contents", [b"one", "zwölf".encode()]),
}
"""Of every dtype that has typed contents, its field and two values."""


def inference_cases() -> Iterator[Case]:
    """All of them."""
    for part in (_models, _inputs, _shapes, _contents, _outputs, _dtypes, _strings, _parameters):
        for name, request in part():
            yield Case(name, "ModelInfer", (request,))
    yield from _streams()


def _infer(model: str, *inputs: Fields, raw: tuple[bytes, ...] = (), **fields: Any) -> Fields:
    return {"model_name": model, "inputs": inputs, "raw_input_contents": raw, **fields}


def _tensor(
    name: str = "x", shape: tuple[int, ...] = (1, 4), dtype: str = "FP32", **contents: Any
) -> Fields:
    fields = {"name": name, "shape": shape, "datatype": dtype}
    return {**fields, "contents": contents} if contents else fields


def _good(model: str = "double", **fields: Any) -> Fields:
    """A request that is right, but for what is said of it."""
    return _infer(model, _tensor(), raw=(_ROW,), **fields)


def _wanting(*names: str) -> list[Fields]:
    return [{"name": name} for name in names]


def _models() -> Iterator[tuple[str, Fields]]:
    yield "one row", _good()
    yield "three rows", _infer("double", _tensor(shape=(3, 4)), raw=(_ROW * 3,))
    yield "id comes back", _good(id="my-id")
    yield "unknown model", _good("nothing")
    yield "empty model name", _good("")
    yield "path as model", _good("../double")
    yield "version", _good("versions", model_version="1")
    yield "no version is the newest", _good("versions")
    yield "unknown version", _good(model_version="7")
    yield "version that is no number", _good(model_version="x")
    yield "negative version", _good(model_version="-1")
    yield "version with zeros", _good(model_version="01")
    yield "empty request", {}
    index = np.array([2], "<i8").tobytes()
    yield "lookup", _infer("lookup", _tensor(shape=(1, 1), dtype="INT64"), raw=(index,))
    index = np.array([99], "<i8").tobytes()
    failing = _infer("lookup", _tensor(shape=(1, 1), dtype="INT64"), raw=(index,))
    yield "values that the graph fails on", failing


def _inputs() -> Iterator[tuple[str, Fields]]:
    x1, x2 = _tensor("x1"), _tensor("x2", (1, 8))
    yield "no inputs", _infer("double")
    yield "wrong input name", _infer("double", _tensor("z"), raw=(_ROW,))
    yield "missing input", _infer("two", x1, raw=(_ROW,))
    yield "extra input", _infer("double", _tensor(), _tensor("z"), raw=(_ROW, _ROW))
    yield "duplicate input", _infer("double", _tensor(), _tensor(), raw=(_ROW, _ROW))
    yield "two inputs", _infer("two", x1, x2, raw=(_ROW, _ROW * 2))
    yield "two inputs in another order", _infer("two", x2, x1, raw=(_ROW * 2, _ROW))
    unequal = _infer("two", x1, _tensor("x2", (2, 4)), raw=(_ROW, _ROW * 2))
    yield "inputs of different rows", unequal
    yield "optional input left out", _infer("optional", x1, raw=(_ROW,), outputs=_wanting("y1"))
    for dtype in ("INT32", "FLOAT", "", "fp32"):
        yield f'dtype "{dtype}" for FP32', _infer("double", _tensor(dtype=dtype), raw=(_ROW,))


def _shapes() -> Iterator[tuple[str, Fields]]:
    def shaped(*shape: int, raw: bytes = _ROW, model: str = "double") -> Fields:
        return _infer(model, _tensor(shape=shape), raw=(raw,))

    yield "rank too small", shaped(4)
    yield "rank too great", shaped(1, 1, 4)
    yield "empty shape", shaped()
    yield "wrong size of an axis", shaped(1, 5, raw=_ROW + b"0000")
    yield "zero rows", shaped(0, 4, raw=b"")
    yield "zero rows without contents", _infer("double", _tensor(shape=(0, 4)))
    yield "zero in a free axis", shaped(1, 0, raw=b"", model="same-fp32")
    yield "as many rows as allowed", shaped(16, 4, raw=_ROW * 16)
    yield "more rows than allowed", shaped(17, 4, raw=_ROW * 17)
    yield "negative rows", shaped(-1, 4)
    yield "negative free axis", shaped(1, -1, model="same-fp32")
    yield "two negative dimensions", shaped(-1, -4)
    yield "dimension of 2^62", shaped(2**62, 4)
    yield "free axis of 2^62", shaped(1, 2**62, model="same-fp32")
    yield "dimensions that overflow", shaped(2**33, 2**33, model="same-fp32")
    yield "no batch axis", shaped(2, 3, raw=_ROW + _ROW[:8], model="unbatched")
    yield "no batch axis, wrong shape", shaped(3, 2, raw=_ROW + _ROW[:8], model="unbatched")


def _contents() -> Iterator[tuple[str, Fields]]:
    x1, x2 = _tensor("x1"), _tensor("x2")
    typed = _tensor(fp32_contents=_VALUES)
    yield "no contents", _infer("double", _tensor())
    yield "raw contents too few", _infer("two", x1, x2, raw=(_ROW,))
    yield "raw contents too many", _infer("double", _tensor(), raw=(_ROW, _ROW))
    yield "raw contents too short", _infer("double", _tensor(), raw=(_ROW[:-1],))
    yield "raw contents too long", _infer("double", _tensor(), raw=(_ROW + b"0",))
    yield "raw contents empty", _infer("double", _tensor(), raw=(b"",))
    yield "typed contents", _infer("double", typed)
    yield "typed contents too few", _infer("double", _tensor(fp32_contents=_VALUES[:3]))
    yield "typed contents too many", _infer("double", _tensor(fp32_contents=[*_VALUES, 5.0]))
    yield "typed contents of another dtype", _infer("double", _tensor(int_contents=[1, 2, 3, 4]))
    both = _tensor(fp32_contents=_VALUES, int_contents=[1, 2, 3, 4])
    yield "typed contents of two dtypes", _infer("double", both)
    yield "typed and raw contents", _infer("double", typed, raw=(_ROW,))
    mixed = _infer("two", _tensor("x1", fp32_contents=_VALUES), x2, raw=(_ROW,))
    yield "typed and raw contents mixed", mixed
    wide = _tensor(shape=(1, 2), dtype="INT8", int_contents=[300, -300])
    yield "typed contents out of range", _infer("same-int8", wide)


def _outputs() -> Iterator[tuple[str, Fields]]:
    def pair(*wanted: str) -> Fields:
        inputs = (_tensor("x1"), _tensor("x2"))
        return _infer("two", *inputs, raw=(_ROW, _ROW), outputs=_wanting(*wanted))

    yield "requested output", pair("y2")
    yield "requested outputs in another order", pair("y2", "y1")
    yield "unknown output", _good(outputs=_wanting("z"))
    yield "empty output name", _good(outputs=_wanting(""))
    yield "output requested twice", _good(outputs=_wanting("y", "y"))
    classification = {"classification": {"int64_param": 2}}
    yield "classification", _good(outputs=[{"name": "y", "parameters": classification}])


def _dtypes() -> Iterator[tuple[str, Fields]]:
    for dtype, (field, values) in _TYPED.items():
        model = "same-string" if dtype == "BYTES" else f"same-{dtype.lower()}"
        raw, tensor = _raw(dtype, values), _tensor(shape=(1, 2), dtype=dtype)
        yield f"{dtype} typed", _infer(model, _tensor("x", (1, 2), dtype, **{field: values}))
        yield f"{dtype} raw", _infer(model, tensor, raw=(raw,))
        yield f"{dtype} raw, a byte short", _infer(model, tensor, raw=(raw[:-1],))
    half = np.array([-1.5, 65504.0], "<f2").tobytes()
    brain = np.array([-1.5, 2.5], "<f4").view("<u2")[1::2].tobytes()
    for dtype, raw in (("FP16", half), ("BF16", brain)):
        model = f"same-{dtype.lower()}"
        yield f"{dtype} raw", _infer(model, _tensor(shape=(1, 2), dtype=dtype), raw=(raw,))
        typed = _tensor(shape=(1, 2), dtype=dtype, fp32_contents=[1.0, 2.0])
        yield f"{dtype} typed as FP32", _infer(model, typed)
    special = np.array([np.nan, np.inf, -np.inf, 1], "<f4").tobytes()
    yield "FP32 that is no number", _infer("double", _tensor(), raw=(special,))


def _raw(dtype: str, values: list[Any]) -> bytes:
    if dtype == "BYTES":
        return b"".join(len(each).to_bytes(4, "little") + each for each in values)
    kinds = {"BOOL": "?", "FP32": "<f4", "FP64": "<f8"}
    kind = kinds.get(dtype) or dtype.lower().replace("uint", "u").replace("int", "i")
    if dtype not in kinds:
        kind = f"<{kind[0]}{int(kind[1:]) // 8}"
    return np.array(values, kind).tobytes()


def _strings() -> Iterator[tuple[str, Fields]]:
    for name, raw in {
        "BYTES length beyond the end": (2**31).to_bytes(4, "little") + b"abc",
        "BYTES without length": b"ab",
        "BYTES element too many": b"\1\0\0\0a\1\0\0\0b",
        "BYTES and more bytes": b"\1\0\0\0ab",
        "BYTES empty element": b"\0\0\0\0",
        "BYTES that are no UTF-8": b"\2\0\0\0\xff\xfe",
    }.items():
        yield name, _infer("same-string", _tensor(shape=(1, 1), dtype="BYTES"), raw=(raw,))


def _parameters() -> Iterator[tuple[str, Fields]]:
    def given(key: str, kind: str, value: Any, model: str = "double") -> Fields:
        return _good(model, parameters={key: {f"{kind}_param": value}})

    yield "timeout that is enough", given("timeout", "int64", 5_000_000)
    yield "timeout that is not", given("timeout", "int64", 100_000, "waiting")
    yield "timeout as text", given("timeout", "string", "1s")
    yield "timeout as double", given("timeout", "double", 1.0)
    yield "timeout as uint64", given("timeout", "uint64", 5_000_000)
    yield "negative timeout", given("timeout", "int64", -1)
    yield "priority", given("priority", "int64", 1, "priorities")
    yield "priority as uint64", given("priority", "uint64", 1, "priorities")
    yield "priority 0", given("priority", "int64", 0, "priorities")
    yield "priority beyond the levels", given("priority", "int64", 9, "priorities")
    yield "priority of a model without", given("priority", "int64", 1)
    yield "negative priority", given("priority", "int64", -1)
    yield "priority as text", given("priority", "string", "high")
    yield "unknown parameter", given("colour", "string", "red")
    yield "unknown double parameter", given("colour", "double", 0.5)
    yield "reserved parameter", given("triton_colour", "string", "red")
    yield "parameter without value", _good(parameters={"colour": {}})
    yield "sequence_id", given("sequence_id", "int64", 5)
    yield "sequence_id as text", given("sequence_id", "string", "five")
    yield "sequence_start as number", given("sequence_start", "int64", 1)
    yield "binary_data_output", given("binary_data_output", "bool", True)
    region = {
        "shared_memory_region": {"string_param": "nothing"},
        "shared_memory_byte_size": {"int64_param": 16},
    }
    yield "input in an unknown region", _infer("double", {**_tensor(), "parameters": region})
    yield "output in an unknown region", _good(outputs=[{"name": "y", "parameters": region}])
    del region["shared_memory_byte_size"]
    yield "input in a region without size", _infer("double", {**_tensor(), "parameters": region})


def _streams() -> Iterator[Case]:
    def stream(name: str, *requests: Fields, strict: bool = False) -> Case:
        metadata = (("triton_grpc_error", "true"),) if strict else ()
        return Case(f"stream {name}", "ModelStreamInfer", requests, metadata)

    a, b, unknown = _good(id="a"), _good(id="b"), _good("nothing", id="bad")
    final = {"triton_enable_empty_final_response": {"bool_param": True}}
    wrong = _infer("double", _tensor(shape=(1, 5)), raw=(_ROW,), id="bad")
    index = np.array([99], "<i8").tobytes()
    failing = _infer("lookup", _tensor(shape=(1, 1), dtype="INT64"), raw=(index,))
    yield stream("of nothing")
    yield stream("of two", a, b)
    yield stream("with an unknown model between", a, unknown, b)
    yield stream("of a wrong shape", wrong)
    yield stream("without contents", _infer("double", _tensor(), id="bad"))
    yield stream("with final markers", _good(id="a", parameters=final))
    yield stream("of values that the graph fails on", failing)
    yield stream("with triton_grpc_error", a, strict=True)
    yield stream("with triton_grpc_error and an unknown model", unknown, strict=True)
    yield stream("with triton_grpc_error and a failing graph", failing, strict=True)
