"""Random messages: of the right type with any values, and serialised ones with damage."""

import struct
from collections.abc import Sequence
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

__all__ = ["damaged", "messages_of"]

_F = FieldDescriptor
_BITS = {
    _F.TYPE_INT32: (-(2**31), 2**31), _F.TYPE_INT64: (-(2**63), 2**63),
    _F.TYPE_SINT32: (-(2**31), 2**31), _F.TYPE_SINT64: (-(2**63), 2**63),
    _F.TYPE_UINT32: (0, 2**32), _F.TYPE_UINT64: (0, 2**64),
    _F.TYPE_FIXED32: (0, 2**32), _F.TYPE_FIXED64: (0, 2**64),
    _F.TYPE_ENUM: (-(2**31), 2**31),
}  # fmt: skip
_NUMBERS = (0, 1, 2, 3, 4, 5, 7, 16, 64, 256, 257, -1)
_FLOATS = (0.0, 1.0, -0.0, 0.5, 1e-45, 3.4e38, float("inf"), float("-inf"), float("nan"))
_MOST_DEPTH = 5


def messages_of(descriptor: Descriptor, texts: Sequence[str]) -> st.SearchStrategy[Any]:
    """Draw messages of a type, their strings mostly of `texts`."""
    pool = tuple(texts)
    values = st.one_of(
        st.sampled_from(pool), st.sampled_from(pool), st.sampled_from(pool), st.text(max_size=20)
    )
    return _message(descriptor, values, 0)


def _message(descriptor: Descriptor, texts: Any, depth: int) -> st.SearchStrategy[Any]:
    make = message_factory.GetMessageClass(descriptor)
    if depth > _MOST_DEPTH or not descriptor.fields:
        return st.builds(make)

    @st.composite
    def draw_message(draw: st.DrawFn) -> Any:
        message = make()
        for field in descriptor.fields:
            if draw(st.integers(0, 2)):
                _fill(draw, message, field, texts, depth)
        return message

    return draw_message()


def _fill(draw: st.DrawFn, message: Any, field: FieldDescriptor, texts: Any, depth: int) -> None:
    """Set a field to something, perhaps several things."""
    content = getattr(message, field.name)
    if not field.is_repeated:
        _set(draw, message, field, texts, depth)
        return
    kind = field.message_type
    is_map = kind is not None and kind.GetOptions().map_entry
    for _ in range(draw(st.sampled_from((0, 1, 1, 2, 3)))):
        if not is_map:
            value = draw(_value(field, texts, depth))
            content.add().CopyFrom(value) if kind is not None else content.append(value)
            continue
        assert kind is not None
        key = draw(_value(kind.fields_by_name["key"], texts, depth))
        value_field = kind.fields_by_name["value"]
        value = draw(_value(value_field, texts, depth + 1))
        if value_field.message_type is None:
            content[key] = value
        else:
            content[key].CopyFrom(value)


def _set(draw: st.DrawFn, message: Any, field: FieldDescriptor, texts: Any, depth: int) -> None:
    value = draw(_value(field, texts, depth))
    if field.message_type is None:
        setattr(message, field.name, value)
    else:
        getattr(message, field.name).CopyFrom(value)


def _value(
    field: FieldDescriptor, texts: st.SearchStrategy[str], depth: int
) -> st.SearchStrategy[Any]:
    if field.type in _BITS:
        least, end = _BITS[field.type]
        usual = [number for number in _NUMBERS if number >= least]
        return st.one_of(st.sampled_from(usual), st.integers(least, end - 1), st.just(end - 1))
    match field.type:
        case _F.TYPE_BOOL:
            return st.booleans()
        case _F.TYPE_FLOAT | _F.TYPE_DOUBLE:
            any_float = st.floats(width=32 if field.type == _F.TYPE_FLOAT else 64)
            return st.one_of(st.sampled_from(_FLOATS), any_float)
        case _F.TYPE_STRING:
            return texts
        case _F.TYPE_BYTES:
            return st.one_of(st.binary(max_size=24), st.integers(0, 40).map(bytes))
        case _:
            assert field.message_type is not None
            return _message(field.message_type, texts, depth + 1)


_Damage = tuple[str, float, bytes]

_DAMAGE = st.tuples(
    st.sampled_from(("set", "set", "insert", "delete", "cut", "repeat")),
    st.floats(0, 1, exclude_max=True),
    st.one_of(
        st.binary(min_size=1, max_size=6),
        st.sampled_from((b"\0", b"\x7f", b"\xff", b"\xff" * 9 + b"\1", struct.pack("<Q", 2**62))),
    ),
)


def damaged(right: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Draw one of the right messages with some bytes changed, added or gone."""
    return st.builds(
        _damage, st.sampled_from(list(right)), st.lists(_DAMAGE, min_size=1, max_size=5)
    )


def _damage(message: bytes, damages: Sequence[_Damage]) -> bytes:
    for kind, place, content in damages:
        at = int(place * (len(message) + 1))
        head, tail = message[:at], message[at:]
        match kind:
            case "set":
                message = head + content + tail[len(content) :]
            case "insert":
                message = head + content + tail
            case "delete":
                message = head + tail[len(content) :]
            case "cut":
                message = head
            case "repeat":
                message = head + tail[:9] + tail
    return message
