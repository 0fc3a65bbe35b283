"""Patterns: a mask, and how scores, the softmax and padding are treated."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import _harrier, masks
from ._harrier import InvalidInput
from .expressions import Array, Expression, array, write
from .masks import Mask, Names


@dataclass(frozen=True, eq=False)
class SinkLogit:
    """A softmax whose denominator counts exp(logits[h]) beside the keys. See `sink_logit`."""

    logits: Array


def sink_logit(logits: Any) -> SinkLogit:
    """A softmax with one learned logit a head, which takes weight and gives nothing: float32 [heads]."""
    return SinkLogit(array(logits, "sinks"))


Softmax = Literal["standard", "pruned_as_zero"] | SinkLogit
Padding = Literal["excluded"] | float


class Pattern:
    """A mask with the treatment of scores, softmax and padding. Immutable.

    Scores are s = q . k, then in this order, where given: `scale` (default 1 / sqrt(head_dim)), `softcap`
    (cap * tanh(s / cap)), `alibi` (s - slopes[h] * |q' - k|; float32 [heads]), `bias` (s + bias[b, h, q, k]; float32
    [batch or 1, heads or 1, q_len, kv_len]) and `score`, an expression in `hr.s`, positions and float arrays.

    `softmax` is "standard", "pruned_as_zero" (hidden keys count exp(0) in the denominator) or `hr.sink_logit(logits)`.
    `padding` is "excluded" (keys past a valid length are hidden) or a number that is added to their scores.

    Arrays are names, which are bound when a kernel is called, or arrays, which the pattern carries along; `bind` gives
    names their arrays. `str` gives the pattern in the language of .attn files.

    Raises InvalidInput for what is out of range.
    """

    def __init__(
        self,
        mask: Mask = masks.all,
        *,
        scale: float | None = None,
        softcap: float | None = None,
        alibi: Any = None,
        bias: Any = None,
        score: Expression | None = None,
        softmax: Softmax = "standard",
        padding: Padding = "excluded",
    ) -> None:
        if not isinstance(mask, Mask):
            raise InvalidInput(f"a pattern takes a mask, found {type(mask).__name__}; wrap conditions in hr.where(...)")
        self.mask = mask
        self.scale = scale
        self.softcap = softcap
        self.alibi = None if alibi is None else array(alibi, "slopes")
        self.bias = None if bias is None else array(bias, "bias")
        self.score = score
        self.softmax = softmax
        self.padding = padding
        names = Names()
        self.text = self._write(names)
        parsed = _harrier.Workload(f"attention pattern {{\n{self.text}\n}}")
        self.array_names = tuple(name for name, _, _ in parsed.arrays)
        self.learned = tuple(parsed.learned)
        self.arrays = {name: _in_role(value, role) for name, (value, role) in names.bound.items()}
        self._spelling: str = parsed.pattern
        # Internal: the text with its whole numbers beside it, so that they can change where the text is a constant.
        *texts, last = _INTEGER.split(self.text)
        self.template = "#".join([*texts[::2], last])
        self.numbers = [int(number) for number in texts[1::2]]
        self.compiled: dict[Any, Any] = {}  # internal: what was compiled of it, by shape

    def bind(self, **arrays: Any) -> Pattern:
        """The same pattern with arrays for some of its names."""
        unknown = [name for name in arrays if name not in self.array_names]
        if unknown:
            known = ", ".join(self.array_names) or "none"
            raise InvalidInput(f"@{unknown[0]} is no array of the pattern; its arrays are: {known}")
        bound = object.__new__(Pattern)
        bound.__dict__.update(self.__dict__)
        bound.arrays = {**self.arrays, **arrays}
        return bound

    @property
    def unbound(self) -> tuple[str, ...]:
        """Names that must be bound when a kernel is called."""
        return tuple(name for name in self.array_names if name not in self.arrays)

    def __str__(self) -> str:
        return self._spelling

    def __repr__(self) -> str:
        return f"Pattern({'; '.join(self._spelling.splitlines())})"

    def _repr_svg_(self) -> str | None:
        """In a notebook: its tiles over 1024 tokens, where no array is missing to tell them."""
        from .show import show

        return None if self.array_names else show(self).svg

    def _write(self, names: Names) -> str:
        float_name = functools.partial(names.name_of, role="float")
        lines = [f"mask {self.mask.write(names.name_of)}"]
        steps = []
        if self.scale is not None:
            steps.append(f"scale({_number(self.scale, 'scale')})")
        if self.softcap is not None:
            steps.append(f"softcap({_number(self.softcap, 'softcap')})")
        if self.alibi is not None:
            steps.append(f"alibi(@{float_name(self.alibi)})")
        if self.bias is not None:
            steps.append(f"bias(@{float_name(self.bias)})")
        if self.score is not None:
            if not isinstance(self.score, Expression):
                raise InvalidInput(f"score is {type(self.score).__name__}, expected an expression; build it from hr.s")
            steps.append(f"score({write(self.score, names.name_of)})")
        if steps:
            lines.append(f"score {' '.join(steps)}")
        if isinstance(self.softmax, SinkLogit):
            lines.append(f"softmax sink_logit(@{float_name(self.softmax.logits)})")
        elif self.softmax in ("standard", "pruned_as_zero"):
            lines.append(f"softmax {self.softmax}")
        else:
            raise InvalidInput(
                f"softmax is {self.softmax!r}, expected 'standard', 'pruned_as_zero' or hr.sink_logit(logits)"
            )
        padding = self.padding
        lines.append(
            "padding excluded" if padding == "excluded" else f"padding additive({_number(padding, 'padding')})"
        )
        return "\n".join(lines)

    def workload(self, shape_text: str) -> _harrier.Workload:
        """Internal: the pattern with the clauses of a shape."""
        return _harrier.Workload(f"attention pattern {{\n{shape_text}\n{self.text}\n}}")


def as_pattern(value: Pattern | Mask | str) -> Pattern:
    """A mask is a pattern whose scores are plain; a string is a mask's text."""
    if isinstance(value, Pattern):
        return value
    if isinstance(value, Mask):
        if value.plain_pattern is None:
            # Of a copy: a cycle would keep the arrays of masks that nobody holds any more.
            value.plain_pattern = Pattern(Mask(value.op, value.parts))
        return value.plain_pattern
    if isinstance(value, str):
        return _parsed_pattern(value)
    raise InvalidInput(f"{type(value).__name__} is no pattern; give an hr.Pattern, a mask or a mask's text")


@functools.lru_cache(maxsize=1024)
def _parsed_pattern(text: str) -> Pattern:
    return Pattern(masks.parse_mask(text))


def pattern_of(workload: _harrier.Workload) -> Pattern:
    """Internal: the pattern of a parsed workload, its arrays being names."""
    softmax: Any = workload.softmax
    if workload.sink_logit is not None:
        softmax = sink_logit(workload.sink_logit)
    return Pattern(
        masks.parse_mask(workload.mask),
        scale=workload.scale,
        softcap=workload.softcap,
        alibi=workload.alibi,
        bias=workload.bias,
        score=None if workload.score is None else Expression("text", (workload.score,), "float"),
        softmax=softmax,
        padding="excluded" if workload.padding is None else workload.padding,
    )


def _number(value: Any, what: str) -> str:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"{what} is {value!r}, expected a number; convert it with float()") from None
    if not math.isfinite(number):
        raise InvalidInput(f"{what} is {number}, expected a finite number; leave it out for none")
    return repr(number)


def _in_role(value: Any, role: str | None) -> Any:
    """Integers that a score reads as numbers are floats there."""
    dtype = str(getattr(value, "dtype", ""))
    if role != "float" or "float" in dtype:
        return value
    return value.float() if hasattr(value, "float") else value.astype("float32")


_INTEGER = re.compile(r"(?<![\w.@-])(\d+)(?![\w.])")


def fill_template(template: str, numbers: Sequence[int]) -> str:
    """Internal: the text of a pattern of this template."""
    texts = template.split("#")
    return "".join(text + str(number) for text, number in zip(texts, numbers)) + texts[-1]
