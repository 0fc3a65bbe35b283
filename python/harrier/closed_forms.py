"""From expressions to what has a name: conditions to masks (causal, windows, documents, ...), scores to score steps.

A condition in closed form costs nothing where its tiles are full or empty; `where` asks for each pair. What is not
recognised stays as it is, so results never depend on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from . import masks
from ._harrier import InvalidInput
from .expressions import Array, Expression, as_expression, binary, build, compare, s
from .masks import Mask


@dataclass(frozen=True)
class Extents:
    """Lengths for which a condition holds what it says. Expressions count queries from 0, atoms from `offset`."""

    q_len: int
    k_len: int

    @property
    def offset(self) -> int:
        return self.k_len - self.q_len


def mask_of(condition: Any, extents: Extents) -> Mask:
    """The mask of a condition. Raises InvalidInput for floats in it."""
    if isinstance(condition, bool):
        return masks.all if condition else masks.none
    condition = as_expression(condition)
    op, operands = condition.op, condition.operands
    if op == "literal":
        return masks.all if operands[0] else masks.none
    if condition.kind == "bool" and op in ("&&", "||"):
        left, right = (mask_of(operand, extents) for operand in operands)
        return left & right if op == "&&" else left | right
    if op == "!":
        return ~mask_of(operands[0], extents)
    if op == "select" and condition.kind == "bool":
        if_true, if_false = (mask_of(operand, extents) for operand in operands[1:])
        test = mask_of(operands[0], extents)
        return test & if_true | ~test & if_false
    known = _named_mask(condition, extents)
    if known is not None:
        return known
    _refuse_floats(condition)
    return masks.where(condition if condition.kind == "bool" else compare("!=", condition, 0))


def _refuse_floats(tree: Expression) -> None:
    if tree.kind == "float":
        what = f"the captured tensor of {tree.operands[0].value.dtype}" if tree.op == "load" else f"{tree}"
        raise InvalidInput(
            f"{what} is a float in a condition, where numbers are integers; scale both sides to integers"
        )
    for operand in tree.operands:
        if isinstance(operand, Expression):
            _refuse_floats(operand)


def _named_mask(tree: Expression, extents: Extents) -> Mask | None:
    if tree.op in ("<", "<=", ">", ">="):
        return _band(tree.op, tree.operands[0], tree.operands[1], extents)
    if tree.op in ("==", "!="):
        mask = _equality(tree.operands[0], tree.operands[1], extents)
        return mask if mask is None or tree.op == "==" else ~mask
    if tree.op == "load":
        return _table(tree, extents)
    return None


def _linear(tree: Expression) -> dict[str, int] | None:
    """Coefficients of q, k and 1, of an integer that is linear in them."""
    if tree.op == "literal":
        return {"1": int(tree.operands[0])} if tree.kind != "float" else None
    if tree.op == "variable":
        return {tree.operands[0]: 1} if tree.operands[0] in ("q", "k") else None
    if tree.op == "neg":
        return _scaled(_linear(tree.operands[0]), -1)
    if tree.op not in ("+", "-", "*") or tree.kind == "float":
        return None
    left, right = (_linear(operand) for operand in tree.operands)
    if left is None or right is None:
        return None
    if tree.op == "*":
        if set(left) <= {"1"}:
            return _scaled(right, left.get("1", 0))
        return _scaled(left, right.get("1", 0)) if set(right) <= {"1"} else None
    sign = 1 if tree.op == "+" else -1
    return {name: left.get(name, 0) + sign * right.get(name, 0) for name in {*left, *right}}


def _scaled(terms: dict[str, int] | None, factor: int) -> dict[str, int] | None:
    return None if terms is None else {name: factor * value for name, value in terms.items()}


def _coefficients(left: Expression, right: Expression) -> tuple[int, int, int] | None:
    """Of q, k and 1 in left - right."""
    terms = _linear(binary("-", left, right))
    return None if terms is None else (terms.get("q", 0), terms.get("k", 0), terms.get("1", 0))


def _band(op: str, left: Expression, right: Expression, extents: Extents) -> Mask | None:
    if op in ("<", "<="):
        return _band({"<": ">", "<=": ">="}[op], right, left, extents)
    if right.op == "abs" and left.op == "literal":  # n >= |x|
        inside = [_band(op, left, side, extents) for side in (right.operands[0], -right.operands[0])]
        return None if None in inside else inside[0] & inside[1]  # type: ignore[operator]
    if left.op == "abs" and right.op == "literal":  # |x| >= n
        inside_mask = _band({">": ">=", ">=": ">"}[op], right, left, extents)
        return None if inside_mask is None else ~inside_mask
    terms = _coefficients(left, right)
    if terms is None:
        return None
    of_q, of_k, constant = terms
    constant -= op == ">"
    # What is left is of_q * q + of_k * k + constant >= 0.
    if (of_q, of_k) == (0, -1):
        return masks.sink(constant + 1) if constant >= 0 else masks.none
    if (of_q, of_k) == (0, 1):
        return ~masks.sink(-constant) if constant < 0 else masks.all
    if of_q >= 0 and of_k >= 0 and constant >= 0:
        return masks.all  # positions are not negative
    constant -= of_q * extents.offset
    if (of_q, of_k) == (1, -1):
        if constant == 0:
            return masks.causal
        return masks.window(None, constant) if constant > 0 else ~masks.window(-constant - 1, None)
    if (of_q, of_k) == (-1, 1):
        return masks.window(constant, None) if constant >= 0 else ~masks.window(None, -constant - 1)
    return None


def _equality(left: Expression, right: Expression, extents: Extents) -> Mask | None:
    if left.op == "literal":
        left, right = right, left
    if left.op == "%" and right.op == "literal" and right.operands[0] == 0:
        number, step = left.operands
        if (
            _is_distance(number.operands[0] if number.op == "abs" else number, extents)
            and step.op == "literal"
            and step.operands[0] >= 1
        ):
            return masks.dilated(None, None, step=step.operands[0])
        return None
    if left.op == right.op == "load":
        return _same_document(left, right, extents)
    terms = _coefficients(left, right)
    if terms is None or terms[:2] not in ((1, -1), (-1, 1), (0, 1), (0, -1)):
        return None
    sides = _band(">=", left, right, extents), _band(">=", right, left, extents)
    return None if None in sides else sides[0] & sides[1]  # type: ignore[operator]


def _is_distance(tree: Expression, extents: Extents) -> bool:
    """Whether it is q' - k, or k - q'."""
    offset = extents.offset
    return _coefficients(tree, as_expression(0)) in ((1, -1, offset), (-1, 1, -offset))


def _names(indices: tuple[Any, ...]) -> tuple[str, ...]:
    """Of variables; another expression has the name ""."""
    return tuple(index.operands[0] if index.op == "variable" else "" for index in indices)


def _key_names(indices: tuple[Any, ...], extents: Extents) -> tuple[str, ...]:
    """As _names, "q" being the query's place among the keys."""
    names = [*_names(indices)]
    if _coefficients(indices[-1], as_expression(0)) == (1, 0, extents.offset):
        names[-1] = "q"
    elif names[-1] == "q":
        names[-1] = ""
    return tuple(names)


def _is_int(array: Array) -> bool:
    return array.value is not None and "int" in str(array.value.dtype)


def _same_document(left: Expression, right: Expression, extents: Extents) -> Mask | None:
    array = left.operands[0]
    if right.operands[0].value is not array.value or not _is_int(array):
        return None
    sides = {_key_names(side.operands[1:], extents) for side in (left, right)}
    is_by_token = sides in ({("q",), ("k",)}, {("b", "q"), ("b", "k")})
    return masks.documents(array.value) if is_by_token and array.value.shape[-1] == extents.k_len else None


def _table(tree: Expression, extents: Extents) -> Mask | None:
    """A tensor of pairs, or of blocks of pairs, that is looked up."""
    array, *indices = tree.operands
    if array.value is None or tree.kind == "float":
        return None
    names = _names(tuple(indices))
    shape = tuple(array.value.shape)
    if tree.kind == "bool" and names in (("q", "k"), ("h", "q", "k"), ("b", "h", "q", "k")):
        return masks.bits(array.value) if shape[-2:] == (extents.q_len, extents.k_len) else None
    if len(indices) < 2 or names[:-2] not in ((), ("h",), ("b", "h")):
        return None
    size = _block_size(indices[-2], "q")
    if size is None or size != _block_size(indices[-1], "k"):
        return None
    holds_all = shape[-2] * size >= extents.q_len and shape[-1] * size >= extents.k_len
    table = array.value if len(shape) > 2 else array.value[None]
    return masks.blocks(size, table) if holds_all else None


def _block_size(index: Expression, name: str) -> int | None:
    """n of an index that is q // n."""
    if index.op != "/" or index.kind != "int" or index.operands[1].op != "literal":
        return None
    return index.operands[1].operands[0] if _names(index.operands[:1]) == (name,) else None


@dataclass
class ScoreSteps:
    """A score in the language's steps, and the mask of what it makes minus infinity."""

    mask: Mask
    softcap: float | None = None
    alibi: Any = None
    bias: Any = None
    score: Expression | None = None


def steps_of(score: Any, extents: Extents, is_causal: bool) -> ScoreSteps:
    """What a score_mod does to `s`. `is_causal`: no query sees a later key, whatever the score."""
    tree = as_expression(score)
    mask = masks.all
    while tree.op == "select":
        condition, if_true, if_false = tree.operands
        if not (_is_minus_infinity(if_false) or _is_minus_infinity(if_true)):
            break
        is_shown = _is_minus_infinity(if_false)
        shown = mask_of(condition if is_shown else _not(condition), extents)
        tree = if_true if is_shown else if_false
        mask = shown if mask is masks.all else mask & shown
    steps = ScoreSteps(mask)
    tree = _take_softcap(tree, steps)
    is_causal = is_causal or str(mask) == "causal"
    tree = _take_addends(tree, steps, extents, is_causal)
    if not _is_score(tree):
        steps.score = tree
    return steps


def _not(condition: Expression) -> Expression:
    """The opposite, a comparison where it is one."""
    opposite = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}.get(condition.op)
    if opposite is not None:
        return compare(opposite, *condition.operands)
    return ~(condition if condition.kind == "bool" else compare("!=", condition, 0))


def _is_minus_infinity(tree: Expression) -> bool:
    if tree.op == "neg":
        inner = tree.operands[0]
        return inner.op == "literal" and inner.operands[0] == math.inf
    return tree.op == "literal" and tree.operands[0] == -math.inf


def _is_score(tree: Expression) -> bool:
    return tree.op == "variable" and tree.operands[0] == "s"


def _cap_of(tree: Expression) -> float | None:
    """c of c * tanh(s / c)."""
    if tree.op != "*":
        return None
    for cap, other in (tree.operands, tree.operands[::-1]):
        if cap.op != "literal" or other.op != "tanh" or not cap.operands[0] > 0:
            continue
        inner = other.operands[0]
        if inner.op == "/" and _is_score(inner.operands[0]) and inner.operands[1].op == "literal":
            if inner.operands[1].operands[0] == cap.operands[0]:
                return float(cap.operands[0])
    return None


def _take_softcap(tree: Expression, steps: ScoreSteps) -> Expression:
    """Without the softcap, where every score in it is capped alike."""
    caps: set[float | None] = set()

    def replaced(node: Expression) -> Expression:
        cap = _cap_of(node)
        if cap is not None or _is_score(node):
            caps.add(cap)
            return s
        if not any(isinstance(operand, Expression) for operand in node.operands):
            return node
        operands = (replaced(x) if isinstance(x, Expression) else x for x in node.operands)
        return build(node.op, tuple(operands), node.kind)

    without = replaced(tree)
    if len(caps) != 1 or None in caps:
        return tree
    steps.softcap = caps.pop()
    return without


def _take_addends(tree: Expression, steps: ScoreSteps, extents: Extents, is_causal: bool) -> Expression:
    """Without ALiBi, then a bias, that are added right to the score: (s - slopes[h] * |q - k|) + bias[q, k]."""
    if tree.op not in ("+", "-"):
        return tree
    left, right = tree.operands
    if tree.op == "+" and not _is_score(left) and (_is_score(right) or right.op in ("+", "-")):
        left, right = right, left
    left = _take_addends(left, steps, extents, is_causal)
    if not _is_score(left):
        return build(tree.op, (left, right), "float")
    if steps.bias is None and steps.alibi is None:
        steps.alibi = _slopes_of(tree.op, right, extents, is_causal)
        if steps.alibi is not None:
            return s
    if steps.bias is None and tree.op == "+" and right.op == "load":
        array, *indices = right.operands
        is_bias = array.value is not None and "float" in str(array.value.dtype)
        is_bias = is_bias and _names(tuple(indices)) in (("q", "k"), ("h", "q", "k"), ("b", "h", "q", "k"))
        if is_bias and tuple(array.value.shape[-2:]) == (extents.q_len, extents.k_len):
            steps.bias = array.value
            return s
    return build(tree.op, (left, right), "float")


def _slopes_of(op: str, term: Expression, extents: Extents, is_causal: bool) -> Any:
    """Slopes of an addend that is -slopes[h] * |q - k|, or the same without bars where no key is later than its query."""
    if term.op != "*":
        return None
    for slopes, distance in (term.operands, term.operands[::-1]):
        if slopes.op != "load" or _names(slopes.operands[1:]) != ("h",) or slopes.operands[0].value is None:
            continue
        sign = -1 if op == "-" else 1
        if distance.op == "neg":
            sign, distance = -sign, distance.operands[0]
        has_bars = distance.op == "abs"
        inner = distance.operands[0] if has_bars else distance
        if not _is_distance(inner, extents):
            return None
        falls = has_bars and sign == -1 or not has_bars and is_causal and _linear(inner)["k"] == sign  # type: ignore[index]
        return slopes.operands[0].value if falls else None
    return None
