"""Conditions on the facts of a row: a small part of Python's expressions."""

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from facegen.serving.errors import InputError
from facegen.serving.rendering.rows import Fact

__all__ = ["Where"]

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_EXAMPLE = 'for example "face_score > 0.5 and index % 2 == 0"'
_MOST_CHARACTERS = 1000


class Where:
    """A condition on rows; an unknown fact (None) satisfies no comparison.

    Args:
        text: Comparisons of facts, numbers and texts, with and, or, not, in, + - * / // % and
            parentheses; empty: every row satisfies it.
        columns: The facts that there are.

    Attributes:
        names: The facts that it looks at.

    Raises:
        InputError: It is no such condition, or looks at a fact that there is not. Never right.
    """

    def __init__(self, text: str, columns: Iterable[str]) -> None:
        self._text, self._columns = text, tuple(columns)
        self.names: frozenset[str] = frozenset()
        self._condition: ast.expr | None = None
        if not text.strip():
            return
        if len(text) > _MOST_CHARACTERS:
            raise InputError("where", f"has more than {_MOST_CHARACTERS} characters; shorten it")
        try:
            self._condition = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InputError("where", f"{text!r} is no condition; write {_EXAMPLE}") from error
        self._check(self._condition)
        names = {node.id for node in ast.walk(self._condition) if isinstance(node, ast.Name)}
        self.names = frozenset(names)

    def keeps(self, facts: Mapping[str, Fact]) -> bool:
        """Tell whether a row with these facts satisfies it.

        Raises:
            InputError: It compares or counts with what does not go together. Never right.
        """
        if self._condition is None:
            return True
        try:
            return bool(self._value(self._condition, facts))
        except (TypeError, ArithmeticError) as error:
            raise InputError(
                "where", f"{self._text!r} cannot be told of {dict(facts)}: {error}"
            ) from error

    def _check(self, node: ast.expr) -> None:
        """Refuse what is no condition, and names of no fact."""
        match node:
            case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
                pass
            case ast.Compare(left=left, ops=ops, comparators=rest) if all(
                type(op) in _COMPARISONS for op in ops
            ):
                parts = [left, *rest]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                parts = [left, right]
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=part):
                parts = [part]
            case ast.Constant(value=str() | int() | float()):
                parts = []
            case ast.Name(id=name):
                if name not in self._columns:
                    known = ", ".join(self._columns)
                    raise InputError(
                        "where", f'there is no fact "{name}" of this job\'s rows; use {known}'
                    )
                parts = []
            case _:
                text = ast.unparse(node)
                raise InputError("where", f"{text!r} has no place in a condition; write {_EXAMPLE}")
        for part in parts:
            self._check(part)

    def _value(self, node: ast.expr, facts: Mapping[str, Fact]) -> Any:
        match node:
            case ast.BoolOp(op=ast.And(), values=parts):
                return all(self._value(part, facts) for part in parts)
            case ast.BoolOp(values=parts):
                return any(self._value(part, facts) for part in parts)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return [self._value(part, facts) for part in parts]
            case ast.Compare(left=left, ops=ops, comparators=rest):
                values = [self._value(part, facts) for part in (left, *rest)]
                return None not in values and all(
                    _COMPARISONS[type(op)](values[place], values[place + 1])
                    for place, op in enumerate(ops)
                )
            case ast.BinOp(left=left, op=op, right=right):
                one, other = self._value(left, facts), self._value(right, facts)
                return None if None in (one, other) else _ARITHMETIC[type(op)](one, other)
            case ast.UnaryOp(op=op, operand=part):
                value = self._value(part, facts)
                if isinstance(op, ast.Not):
                    return not value
                return None if value is None else -value
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return facts.get(name)
        raise AssertionError(ast.dump(node))
