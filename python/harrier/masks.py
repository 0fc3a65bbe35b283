"""Masks: which keys each query sees. Atoms, joined by `&`, `|` and `~`; ir/mask.h says what each means.

    hr.causal & hr.window(1024, 0) | hr.sink(4)

`q'` below is a query's position among the keys, aligned at the end: q + (kv_len - q_len). An argument called an array is
a name, bound when a kernel is called, or the array itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Union

from . import _harrier
from ._harrier import InvalidInput
from .expressions import Array, Expression, Role, array, write

Part = Union[str, Array, Expression, "Mask"]
NameOf = Callable[[Array, Role], str]


class Mask:
    """How often each query sees each key: 0 hidden, 1 visible. Immutable; `str` gives the one spelling of the language."""

    __slots__ = ("op", "parts", "plain_pattern", "_spelling")

    def __init__(self, op: str, parts: tuple[Part, ...]) -> None:
        """Internal: `op` joins masks ("&", "|", "~"), or is "" and the parts are written one after another."""
        self.op = op
        self.parts = parts
        self.plain_pattern: Any = None  # internal: the pattern that is this mask alone, once it was asked for
        self._spelling = _harrier.print_mask(self.write(Names().name_of))

    def __and__(self, other: Mask) -> Mask:
        return _join("&", self, other)

    def __or__(self, other: Mask) -> Mask:
        return _join("|", self, other)

    def __invert__(self) -> Mask:
        return Mask("~", (self,))

    def __bool__(self) -> bool:
        raise InvalidInput("a mask has no truth value; join masks by & | ~, not by and, or, not")

    def __str__(self) -> str:
        return self._spelling

    def __repr__(self) -> str:
        return f"Mask({self._spelling})"

    def write(self, name_of: NameOf) -> str:
        """The mask as text of the language, its arrays named by `name_of`."""
        if self.op == "~":
            return f"~({_write_part(self.parts[0], name_of)})"
        if self.op:
            return f" {self.op} ".join(f"({_write_part(part, name_of)})" for part in self.parts)
        return "".join(_write_part(part, name_of) for part in self.parts)


class Names:
    """Gives every array a name of its own: those that have one keep it, arrays that patterns carry get what is free.

    An array that is used in two ways, by an atom and by an expression say, has two names, for the language wants it so.
    """

    def __init__(self) -> None:
        self.bound: dict[str, tuple[Any, Role | None]] = {}
        self._names: dict[tuple[int, str, Role], str] = {}
        self._taken: set[str] = set()

    def name_of(self, array: Array, role: Role) -> str:
        if array.value is None:
            if array.name in self.bound:
                raise InvalidInput(
                    f"@{array.name} names an array that the pattern carries, and one to be bound; rename it"
                )
            self._taken.add(array.name)
            return array.name
        key = (id(array.value), array.name, role)
        if key not in self._names:
            name, count = array.name, 1
            while name in self._taken:
                count += 1
                name = f"{array.name}_{count}"
            self._taken.add(name)
            self._names[key] = name
            self.bound[name] = (array.value, role)
        return self._names[key]


def _write_part(part: Part, name_of: NameOf) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mask):
        return part.write(name_of)
    if isinstance(part, Expression):
        return write(part, name_of, "int")
    return f"@{name_of(part, 'atom')}"


def _join(op: str, left: Mask, right: Mask) -> Mask:
    if not isinstance(right, Mask):
        raise InvalidInput(f"{op} joins a mask with {type(right).__name__}; wrap conditions in hr.where(...)")
    parts: list[Part] = []
    for side in (left, right):
        parts.extend(side.parts if side.op == op else (side,))
    return Mask(op, tuple(parts))


def _atom(*parts: Part) -> Mask:
    return Mask("", parts)


def _bound(value: int | float | None) -> str:
    return "inf" if value is None or value == float("inf") else str(_integer(value, "a bound"))


def _integer(value: Any, what: str) -> int:
    try:
        return value.__index__()
    except (AttributeError, TypeError):
        raise InvalidInput(f"{what} is {value!r}, expected a whole number; convert it with int()") from None


all = _atom("all")
none = _atom("none")
causal = _atom("causal")


def window(left: int | float | None, right: int | float | None) -> Mask:
    """-left <= k - q' <= right, both inclusive; None or infinity: no limit on that side."""
    return _atom(f"window({_bound(left)}, {_bound(right)})")


def dilated(left: int | float | None, right: int | float | None, *, step: int) -> Mask:
    """window(left, right), of which every step-th key counted from the query: (q' - k) % step == 0."""
    return _atom(f"dilated({_bound(left)}, {_bound(right)}, step={_integer(step, 'step')})")


def sink(n: int) -> Mask:
    """The first n keys of a sequence."""
    return _atom(f"sink({_integer(n, 'n')})")


def prefix(n: int) -> Mask:
    """The first n keys of a sequence; the same as `sink`."""
    return _atom(f"prefix({_integer(n, 'n')})")


def global_(tokens: Any, side: Literal["both", "queries", "keys"] = "both") -> Mask:
    """Pairs of which q' or k (or, by `side`, q' alone or k alone) is a global token.

    `tokens`: how many leading ones, or an int array of positions, [n] or [batch, n], in which -1 pads.
    """
    if side not in ("both", "queries", "keys"):
        raise InvalidInput(f"side is {side!r}, expected 'both', 'queries' or 'keys'")
    end = ")" if side == "both" else f", {side})"
    if hasattr(tokens, "__index__") and getattr(tokens, "shape", ()) == ():
        return _atom(f"global({_integer(tokens, 'tokens')}{end}")
    return _atom("global(", array(tokens, "tokens"), end)


def documents(segment: Any) -> Mask:
    """Pairs inside one document: segment[q'] == segment[k].

    `segment`: an int array, one number for each key token: [batch, length], [length], or [tokens] when packed.
    """
    return _atom("documents(", array(segment, "segment"), ")")


def blocks(size: int, table: Any = None, *, offsets: Any = None, indices: Any = None, counted: bool = False) -> Mask:
    """Pairs of listed blocks of `size` x `size`.

    `table`: integers [heads or 1, row blocks, key blocks], also with a leading [batch or 1]; nonzero is visible. Or
    `offsets` [heads or 1, row blocks + 1] into `indices` [n]. With `counted`, entries of a table and repeated indices
    say how often the block counts in the softmax.
    """
    end = ", counted)" if counted else ")"
    start = f"blocks({_integer(size, 'size')}, "
    if table is not None and offsets is None and indices is None:
        return _atom(start, array(table, "table"), end)
    if table is None and offsets is not None and indices is not None:
        return _atom(start, array(offsets, "offsets"), ", ", array(indices, "indices"), end)
    raise InvalidInput("blocks takes a table, or offsets and indices; give either")


def bigbird(block: int, random: int, table: Any = None, *, seed: int | None = None, zero: bool = False) -> Mask:
    """Hugging Face's BigBird: global first and last blocks, a window of three, and `random` blocks a row.

    The random ones are those of `table`, int [heads or 1, row blocks - 2 or more, random]; or drawn as Hugging Face
    draws them in training, from a `seed` (its layer's index); or block 0 each, as it has them in eval mode (`zero`).
    """
    if (table is not None) + (seed is not None) + zero != 1:
        raise InvalidInput("bigbird takes a table, a seed or zero=True; give one of them")
    start = f"bigbird({_integer(block, 'block')}, {_integer(random, 'random')}, "
    if table is not None:
        return _atom(start, array(table, "random"), ")")
    return _atom(start, "zero)" if zero else f"seed={_integer(seed, 'seed')})")


def bits(mask: Any) -> Mask:
    """Any mask at all: a bool array [batch or 1, heads or 1, q_len, kv_len], leading dimensions of 1 left out at will; or
    uint8 with 8 keys a byte, the lowest bit first."""
    return _atom("bits(", array(mask, "mask"), ")")


def where(condition: Any) -> Mask:
    """Pairs for which a condition in b, h, q, k and int arrays holds: `hr.where((hr.q - hr.k) % 4 == 0)`."""
    if isinstance(condition, bool):
        return all if condition else none
    if not isinstance(condition, Expression):
        raise InvalidInput(
            f"where takes an expression, found {type(condition).__name__}; build it from hr.q, hr.k, ..."
        )
    return _atom("where(", condition, ")")


def parse_mask(text: str) -> Mask:
    """A mask from its text, `"causal & window(1024, 0)"`; arrays are names."""
    return _atom(_harrier.print_mask(text))
