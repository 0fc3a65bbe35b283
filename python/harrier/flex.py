"""FlexAttention's interface: mask_mod and score_mod functions, traced once into patterns.

    block_mask = hr.create_block_mask(lambda b, h, q, k: q >= k, None, None, 4096, 4096)
    out = hr.flex_attention(q, k, v, score_mod=lambda score, b, h, q, k: score + bias[q - k + 4095], block_mask=block_mask)

Functions are called once, with expressions for their arguments. Tensors that they capture become arrays of the pattern, read
anew by every call, and learned where they require a gradient. Whatever cannot be traced is an InvalidInput that names it.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from . import expressions, masks
from ._harrier import InvalidInput
from .closed_forms import Extents, mask_of, steps_of
from .dispatch import attention
from .masks import Mask
from .patterns import Pattern
from .torch_functions import Tracing

_MOST_PATTERNS = 64  # kept with a block mask or a score_mod

Tensor = torch.Tensor
MaskMod = Callable[[Any, Any, Any, Any], Any]
ScoreMod = Callable[[Any, Any, Any, Any, Any], Any]


class AuxOutput(NamedTuple):
    """What `return_aux` asked for."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


@dataclass(eq=False)
class BlockMask:
    """A traced mask_mod, for lengths of `seq_lengths`. It holds no blocks: kernels find those themselves."""

    mask: Mask
    seq_lengths: tuple[int, int]
    mask_mod: MaskMod
    B: int | None = None
    H: int | None = None
    # Internal: patterns with scores, as they were asked for; `plain` is made now, so that torch.compile finds it.
    patterns: dict[Any, Pattern] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.plain = Pattern(self.mask)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.B or 1, self.H or 1, *self.seq_lengths)

    def __str__(self) -> str:
        return f"BlockMask({self.mask}, seq_lengths={self.seq_lengths})"

    def to(self, device: Any) -> BlockMask:
        """Itself: captured tensors lie where they lie."""
        return self


def create_block_mask(
    mask_mod: MaskMod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: Any = None,
    BLOCK_SIZE: int | tuple[int, int] = 128,
    _compile: bool = False,
) -> BlockMask:
    """As torch.nn.attention.flex_attention.create_block_mask, in the time of one call of `mask_mod`.

    `mask_mod(b, h, q_idx, kv_idx)` returns a condition of integers. Tensors that it captures lie where those of the
    attention call will. `device`, `BLOCK_SIZE` and `_compile` are taken and not needed.

    Raises InvalidInput for what cannot be traced: control flow that depends on positions, functions without a spelling.
    """
    mask = _trace_mask(mask_mod, Extents(Q_LEN, KV_LEN))
    return BlockMask(mask, (Q_LEN, KV_LEN), mask_mod, B, H)


def and_masks(*mask_mods: MaskMod) -> MaskMod:
    """The mask_mod of pairs that all of these show."""

    def and_mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        result: Any = True
        for mask_mod in mask_mods:
            result = mask_mod(b, h, q_idx, kv_idx) & result
        return result

    return and_mask


def or_masks(*mask_mods: MaskMod) -> MaskMod:
    """The mask_mod of pairs that any of these shows."""

    def or_mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        result: Any = False
        for mask_mod in mask_mods:
            result = mask_mod(b, h, q_idx, kv_idx) | result
        return result

    return or_mask


def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Any = None,
    *,
    return_aux: Any = None,
) -> Any:
    """As torch.nn.attention.flex_attention.flex_attention, forward and backward.

    query: [batch, heads, q_len, dim]; key and value: [batch, kv_heads, kv_len, ...], with fewer heads only under
    `enable_gqa`. `score_mod(score, b, h, q_idx, kv_idx)` returns a number; where it is minus infinity outermost
    (`torch.where(condition, score, -inf)`) the pair is hidden. `block_mask` is of `create_block_mask`, or torch's own, whose
    mask_mod is traced. `kernel_options` are taken and not needed.

    Returns the output; with `return_lse` also the logarithm of the softmax's denominator, of natural base; with `return_aux`
    an AuxOutput. A query that sees no key gives zeros.

    Raises InvalidInput.
    """
    if query.dim() != 4 or key.dim() != 4:
        raise InvalidInput("query, key and value have four dimensions: [batch, heads, length, dim]")
    if query.shape[1] != key.shape[1] and not enable_gqa:
        raise InvalidInput(
            f"query has {query.shape[1]} heads and key {key.shape[1]}; pass enable_gqa=True to let query heads share keys"
        )
    if key.shape[0] == 1 and query.shape[0] > 1:
        key, value = (x.expand(query.shape[0], -1, -1, -1) for x in (key, value))
    if getattr(return_aux, "max_scores", False):
        raise InvalidInput("return_aux asks for max_scores, which kernels do not keep; ask for lse alone")
    wants_lse = return_lse or bool(getattr(return_aux, "lse", False))
    lengths = query.shape[2], key.shape[2]
    own_block_mask = _own_block_mask(block_mask, lengths)
    scale = None if scale == query.shape[-1] ** -0.5 else scale
    if score_mod is None and scale is None:
        pattern = _DENSE if own_block_mask is None else own_block_mask.plain
    elif torch.compiler.is_compiling():
        raise InvalidInput(
            "score_mod and scale cannot be traced inside torch.compile; trace them before, pattern = hr.flex_pattern("
            "score_mod, block_mask, scale=scale), and call hr.attention(query, key, value, pattern)"
        )
    else:
        pattern = pattern_of(score_mod, own_block_mask, lengths, scale)
    result = attention(query, key, value, pattern, return_lse=wants_lse)
    if return_aux is not None:
        out, lse = result if wants_lse else (result, None)
        return out, AuxOutput(lse=lse)
    return result


def flex_pattern(
    score_mod: ScoreMod | None = None,
    block_mask: Any = None,
    *,
    lengths: tuple[int, int] | None = None,
    scale: float | None = None,
) -> Pattern:
    """The pattern of a score_mod and a block mask, to look at, to keep, or for `hr.attention` inside torch.compile.

    `lengths`: those of queries and keys; by default the block mask's. Without either the functions are traced as for any
    length at which queries and keys are as many. Raises InvalidInput.
    """
    if lengths is None:
        lengths = (0, 0) if block_mask is None else block_mask.seq_lengths
    return pattern_of(score_mod, _own_block_mask(block_mask, lengths), lengths, scale)


def pattern_of(
    score_mod: ScoreMod | None, block_mask: BlockMask | None, lengths: tuple[int, int], scale: float | None = None
) -> Pattern:
    """What `flex_attention` passes to `harrier.attention`; kept with the block mask, or else with the score_mod."""
    mask = masks.all if block_mask is None else block_mask.mask
    extents = Extents(*lengths)
    if score_mod is None:
        traced: TracedScore | None = None
        kept = {} if block_mask is None else block_mask.patterns
    else:
        traced = _trace_score(score_mod)
        kept = traced.patterns if block_mask is None else block_mask.patterns
    key = (traced, scale, lengths)
    pattern = kept.get(key)
    if pattern is None:
        if traced is None:
            pattern = Pattern(mask, scale=scale)
        else:
            is_causal = "causal" in str(mask).split(" & ") and "|" not in str(mask)
            steps = steps_of(traced.score, extents, is_causal)
            pattern = Pattern(
                _both(mask, steps.mask),
                scale=scale,
                softcap=steps.softcap,
                alibi=steps.alibi,
                bias=steps.bias,
                score=steps.score,
            )
        if len(kept) >= _MOST_PATTERNS:
            kept.clear()
        kept[key] = pattern
    return pattern


def _both(left: Mask, right: Mask) -> Mask:
    """left & right, where neither may be there to say something."""
    if left is masks.all:
        return right
    return left if right is masks.all else left & right


@dataclass(eq=False)
class TracedScore:
    """What a score_mod returned, and what it was made of when it did."""

    score: Any
    made_of: Any
    patterns: dict[Any, Pattern] = field(default_factory=dict)


_DENSE = Pattern()
_scores: weakref.WeakKeyDictionary[Any, TracedScore] = weakref.WeakKeyDictionary()
_block_masks: weakref.WeakKeyDictionary[Any, BlockMask] = weakref.WeakKeyDictionary()


def _own_block_mask(block_mask: Any, lengths: tuple[int, int]) -> BlockMask | None:
    """Ours as it is; torch's traced, once."""
    if block_mask is None:
        return None
    if not isinstance(block_mask, BlockMask):
        if not hasattr(block_mask, "mask_mod"):
            raise InvalidInput(f"block_mask is {type(block_mask).__name__}; make it with harrier.create_block_mask")
        known = _block_masks.get(block_mask)
        if known is None:
            known = create_block_mask(block_mask.mask_mod, None, None, *block_mask.seq_lengths)
            _block_masks[block_mask] = known
        block_mask = known
    if block_mask.seq_lengths != lengths:
        raise InvalidInput(
            f"block_mask is for lengths {block_mask.seq_lengths}, query and key have {lengths}; make one for these"
        )
    return block_mask


def _trace_mask(mask_mod: MaskMod, extents: Extents) -> Mask:
    with Tracing():
        condition = mask_mod(expressions.b, expressions.h, expressions.q, expressions.k)
    if isinstance(condition, Tensor) and condition.dim() == 0:
        condition = bool(condition)
    if not isinstance(condition, (bool, expressions.Expression)):
        raise InvalidInput(f"mask_mod returned {type(condition).__name__}, expected a condition in its arguments")
    return mask_of(condition, extents)


def _trace_score(score_mod: ScoreMod) -> TracedScore:
    made_of = _ingredients(score_mod)
    known = _scores.get(score_mod) if made_of is not None else None
    if known is not None and made_of is not None and _are_same(known.made_of, made_of):
        return known
    with Tracing() as tracing:
        score = score_mod(expressions.s, expressions.b, expressions.h, expressions.q, expressions.k)
    if not isinstance(score, (int, float, expressions.Expression)):
        raise InvalidInput(f"score_mod returned {type(score).__name__}, expected a number made of its arguments")
    traced = TracedScore(score, made_of)
    # What torch computed on captured tensors while tracing may be another thing the next time.
    if made_of is not None and not tracing.has_computed:
        _scores[score_mod] = traced
    return traced


def _ingredients(function: Any, depth: int = 0) -> list[Any] | None:
    """All that a plain function's result may depend on; None where that cannot be told."""
    if not isinstance(function, types.FunctionType) or depth > 8:
        return None
    code = function.__code__
    try:
        values = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell that is still empty
        return None
    values += list(function.__defaults__ or ())
    values += [function.__globals__[name] for name in code.co_names if name in function.__globals__]
    found: list[Any] = [code]
    for value in values:
        if isinstance(value, types.FunctionType):
            inner = _ingredients(value, depth + 1)
            if inner is None:
                return None
            found += inner
        elif isinstance(
            value, (int, float, str, type(None), Tensor, types.ModuleType, types.BuiltinFunctionType, type)
        ):
            found.append(value)
        else:
            return None
    return found


def _are_same(left: list[Any], right: list[Any]) -> bool:
    """Tensors must be the same ones, numbers alike."""
    if len(left) != len(right):
        return False
    return all(
        x is y or (type(x) is type(y) and not isinstance(x, Tensor) and isinstance(x, (int, float, str)) and x == y)
        for x, y in zip(left, right)
    )
