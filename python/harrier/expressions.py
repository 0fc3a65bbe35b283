"""Expressions over positions, scores and arrays: the bodies of `where(...)` and of a pattern's `score`.

    hr.where((hr.q - hr.k) % 4 == 0)
    hr.Pattern(hr.causal, score=hr.select(hr.k > hr.q, hr.s - 2.0, hr.s) + hr.array(shift)[hr.h])

Operators build trees; nothing is computed here. What they mean (32-bit integers, floor division, types) is said in
ir/README.md; the compiler's parser and verifier have the last word on every tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ._harrier import InvalidInput

Kind = Literal["bool", "int", "float"]

_ARITHMETIC = {"+", "-", "*", "/", "%"}
_FLOAT_FUNCTIONS = {"exp", "log", "sqrt", "tanh"}


@dataclass(frozen=True, eq=False)
class Array:
    """An array that a pattern reads: a name that is bound when a kernel is called, or the array itself.

    Indexing it, `hr.array(x)[hr.b, hr.k]`, gives an `Expression`; a zero-dimensional one is used as it is, `hr.array(x)[()]`.
    """

    name: str
    value: Any = None

    def __getitem__(self, indices: Any) -> Expression:
        indices = indices if isinstance(indices, tuple) else (indices,)
        rank = None if self.value is None else len(self.value.shape)
        if rank is not None and len(indices) != rank:
            raise InvalidInput(f"@{self.name} has {rank} dimensions, found {len(indices)} indices; give one for each")
        return load(self, indices)


def array(value: Any, name: str | None = None) -> Array:
    """An array for expressions.

    `value` is a name, for an array that is bound when a kernel is called, or an array (NumPy, torch, DLPack), which the
    pattern then carries along and reads anew at every call. `name` is what such an array is called in the pattern's text.
    In `where` and in indices arrays hold integers, elsewhere in a score floats.
    """
    if isinstance(value, Array):
        return value
    if isinstance(value, str):
        return Array(value.removeprefix("@"))
    if not hasattr(value, "shape"):
        raise InvalidInput(f"{type(value).__name__} is no array; give a name, or an array of NumPy, torch or DLPack")
    return Array(name or "array", value)


class Expression:
    """A number or a condition for each (b, h, q, k). Built by operators; immutable.

    `==` and the other comparisons build expressions too. `&`, `|`, `^` and `~` are logic on conditions and bits on
    integers; `//` and `%` round towards minus infinity, as in Python; `/` gives a float.
    """

    __slots__ = ("op", "operands", "kind", "depth")
    op: str
    operands: tuple[Any, ...]
    kind: Kind
    depth: int

    def __init__(self, op: str, operands: tuple[Any, ...], kind: Kind) -> None:
        object.__setattr__(self, "op", op)
        object.__setattr__(self, "operands", operands)
        object.__setattr__(self, "kind", kind)
        depths = (operand.depth for operand in operands if isinstance(operand, Expression))
        object.__setattr__(self, "depth", 1 + max(depths, default=0))
        if self.depth > 256:  # as the compiler has it, and so that no walk runs out of Python's stack
            raise InvalidInput("an expression has more than 256 levels; put the numbers into an array and index it")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("expressions are immutable")

    # NumPy's numbers leave operators to expressions.
    __array_ufunc__ = None

    # Comparisons build trees, so equality and hashing of the trees themselves are by identity.
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise InvalidInput(
            "an expression has no truth value while a pattern is built (if, and, or, not, in, min, max of Python ask for "
            "one); use & | ~, hr.select, hr.minimum, hr.maximum"
        )

    def __iter__(self) -> Any:
        raise InvalidInput(
            "an expression is one number for each pair, which has no elements; index an hr.array instead"
        )

    def _refuse_conversion(self, what: str) -> Any:
        raise InvalidInput(f"{what}() of an expression: its value differs from pair to pair; keep it an expression")

    def __int__(self) -> int:
        return self._refuse_conversion("int")

    def __index__(self) -> int:
        return self._refuse_conversion("index")

    def __float__(self) -> float:
        return self._refuse_conversion("float")

    def __add__(self, other: Any) -> Expression:
        return binary("+", self, other)

    def __radd__(self, other: Any) -> Expression:
        return binary("+", other, self)

    def __sub__(self, other: Any) -> Expression:
        return binary("-", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return binary("-", other, self)

    def __mul__(self, other: Any) -> Expression:
        return binary("*", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return binary("*", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return divide(self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return divide(other, self)

    def __floordiv__(self, other: Any) -> Expression:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Expression:
        return floor_divide(other, self)

    def __mod__(self, other: Any) -> Expression:
        return binary("%", self, other)

    def __rmod__(self, other: Any) -> Expression:
        return binary("%", other, self)

    def __pow__(self, exponent: Any) -> Expression:
        return power(self, exponent)

    def __lshift__(self, other: Any) -> Expression:
        return binary("<<", self, other)

    def __rlshift__(self, other: Any) -> Expression:
        return binary("<<", other, self)

    def __rshift__(self, other: Any) -> Expression:
        return binary(">>", self, other)

    def __rrshift__(self, other: Any) -> Expression:
        return binary(">>", other, self)

    def __and__(self, other: Any) -> Expression:
        return logic("&", self, other)

    def __rand__(self, other: Any) -> Expression:
        return logic("&", other, self)

    def __or__(self, other: Any) -> Expression:
        return logic("|", self, other)

    def __ror__(self, other: Any) -> Expression:
        return logic("|", other, self)

    def __xor__(self, other: Any) -> Expression:
        return logic("^", self, other)

    def __rxor__(self, other: Any) -> Expression:
        return logic("^", other, self)

    def __invert__(self) -> Expression:
        if self.kind == "bool":
            return build("!", (self,), "bool")
        return binary("-", -1, self)

    def __neg__(self) -> Expression:
        return build("neg", (self,), _number(self.kind))

    def __pos__(self) -> Expression:
        return self

    def __abs__(self) -> Expression:
        return build("abs", (self,), _number(self.kind))

    def __lt__(self, other: Any) -> Expression:
        return compare("<", self, other)

    def __le__(self, other: Any) -> Expression:
        return compare("<=", self, other)

    def __gt__(self, other: Any) -> Expression:
        return compare(">", self, other)

    def __ge__(self, other: Any) -> Expression:
        return compare(">=", self, other)

    def __eq__(self, other: Any) -> Expression:  # type: ignore[override]
        return compare("==", self, other)

    def __ne__(self, other: Any) -> Expression:  # type: ignore[override]
        return compare("!=", self, other)

    def __str__(self) -> str:
        return write(self, lambda operand, role: operand.name)

    def __repr__(self) -> str:
        return f"Expression({self})"

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        # Only torch looks for this: functions of torch, and operators of its tensors, that meet an expression.
        from . import torch_functions

        return torch_functions.call(function, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # Methods that torch's scalars have, for code that was written for them.
        from . import torch_functions

        return torch_functions.method(self, name)


def _number(kind: Kind) -> Kind:
    return "int" if kind == "bool" else kind


def _join(*kinds: Kind) -> Kind:
    return "float" if "float" in kinds else "int"


def build(op: str, operands: tuple[Any, ...], kind: Kind) -> Expression:
    """A node of a tree."""
    return Expression(op, operands, kind)


def as_expression(value: Any) -> Expression:
    """A number as a literal; an expression as it is; a zero-dimensional array as one that is read."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return build("literal", (int(value),), "bool")
    if isinstance(value, int):
        return build("literal", (value,), "int")
    if isinstance(value, float):
        return build("literal", (value,), "float")
    if isinstance(value, Array):
        return value[()]
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        if len(value.shape) == 0:
            return load(array(value, "scalar"), ())
        raise InvalidInput(
            f"an array of shape {list(value.shape)} stands where one number is meant; index it by hr.array"
        )
    raise InvalidInput(f"{value!r} is no part of an expression; use numbers, positions and arrays")


def load(array: Array, indices: tuple[Any, ...]) -> Expression:
    dtype = str(getattr(array.value, "dtype", ""))
    kind: Kind = "bool" if "bool" in dtype else "float" if "float" in dtype else "int"
    return build("load", (array, *(as_expression(index) for index in indices)), kind)


def binary(op: str, left: Any, right: Any) -> Expression:
    left, right = as_expression(left), as_expression(right)
    return build(op, (left, right), _join(left.kind, right.kind) if op in _ARITHMETIC else "int")


def compare(op: str, left: Any, right: Any) -> Expression:
    return build(op, (as_expression(left), as_expression(right)), "bool")


def logic(op: str, left: Any, right: Any) -> Expression:
    left, right = as_expression(left), as_expression(right)
    if left.kind == right.kind == "bool":
        return build({"&": "&&", "|": "||", "^": "!="}[op], (left, right), "bool")
    return build(op, (left, right), "int")


def divide(left: Any, right: Any) -> Expression:
    left, right = as_expression(left), as_expression(right)
    if _join(left.kind, right.kind) == "int":
        left = binary("*", left, 1.0)  # what the language calls / floors integers
    return build("/", (left, right), "float")


def floor_divide(left: Any, right: Any) -> Expression:
    left, right = as_expression(left), as_expression(right)
    if _join(left.kind, right.kind) == "float":
        raise InvalidInput("// of floats is not in the language; use it on integers")
    return build("/", (left, right), "int")


def power(base: Any, exponent: Any) -> Expression:
    base = as_expression(base)
    if not isinstance(exponent, (int, float)):
        raise InvalidInput("** takes a number as its exponent, found an expression; use hr.exp and hr.log")
    if exponent == 0.5:
        return function("sqrt", base)
    if exponent != int(exponent) or not 0 <= exponent <= 16:
        raise InvalidInput(f"** {exponent}: exponents are whole numbers from 0 to 16, or 0.5; use hr.exp and hr.log")
    result = as_expression(1.0 if base.kind == "float" else 1)
    for _ in range(int(exponent)):
        result = base if result.op == "literal" else binary("*", result, base)
    return result


def function(name: str, *operands: Any) -> Expression:
    trees = tuple(as_expression(operand) for operand in operands)
    if name in _FLOAT_FUNCTIONS:
        return build(name, trees, "float")
    return build(name, trees, _join(*(tree.kind for tree in trees)))


def exp(x: Any) -> Expression:
    """e to the power of x, as a float."""
    return function("exp", x)


def log(x: Any) -> Expression:
    """The natural logarithm of x, as a float."""
    return function("log", x)


def sqrt(x: Any) -> Expression:
    """The square root of x, as a float."""
    return function("sqrt", x)


def tanh(x: Any) -> Expression:
    """The hyperbolic tangent of x, as a float."""
    return function("tanh", x)


def minimum(left: Any, right: Any) -> Expression:
    """The smaller of two numbers."""
    return function("min", left, right)


def maximum(left: Any, right: Any) -> Expression:
    """The larger of two numbers."""
    return function("max", left, right)


def clamp(x: Any, low: Any, high: Any) -> Expression:
    """x, but at least low and at most high."""
    return function("clamp", x, low, high)


def select(condition: Any, if_true: Any, if_false: Any) -> Expression:
    """One number where a condition holds, another where it does not."""
    condition, if_true, if_false = (as_expression(x) for x in (condition, if_true, if_false))
    kind: Kind = "bool" if if_true.kind == if_false.kind == "bool" else _join(if_true.kind, if_false.kind)
    return build("select", (condition, if_true, if_false), kind)


def variable(name: str, kind: Kind = "int") -> Expression:
    return build("variable", (name,), kind)


b = variable("b")
h = variable("h")
q = variable("q")
k = variable("k")
s = variable("s", "float")
q_len = variable("q_len")
kv_len = variable("kv_len")
q_token = variable("q_token")
k_token = variable("k_token")

Role = Literal[
    "atom", "int", "float"
]  # what an array is to a pattern: read by an atom, or what it holds in an expression
NameOf = Callable[[Array, Role], str]


def _literal(value: int | float) -> str:
    if isinstance(value, int):
        return f"({value})" if value < 0 else str(value)
    if not math.isfinite(value):
        raise InvalidInput(
            f"{value} stands in a score, where numbers are finite; a mask hides pairs: hr.select(condition, x, -inf) can "
            "only be the outermost step of a score_mod"
        )
    text = repr(value)
    return f"({text})" if value < 0 else text


def write(tree: Expression, name_of: NameOf, role: Role = "float") -> str:
    """The tree in the language's own words. `name_of` names arrays, `role` is what they hold where the tree stands."""

    def text_of(node: Expression) -> str:
        return write(node, name_of, role)

    op, operands = tree.op, tree.operands
    if op == "literal":
        return _literal(operands[0])
    if op in ("variable", "text"):
        return operands[0]
    if op == "load":
        indices = ", ".join(write(index, name_of, "int") for index in operands[1:])
        text = f"@{name_of(operands[0], role)}" + (f"[{indices}]" if indices else "")
        return f"({text} != 0)" if tree.kind == "bool" else text
    if op == "neg":
        return f"(-({text_of(operands[0])}))"
    if op == "!":
        return f"(!{text_of(operands[0])})"
    if op[0].isalpha():
        return f"{op}({', '.join(text_of(operand) for operand in operands)})"
    return f"({text_of(operands[0])} {op} {text_of(operands[1])})"
