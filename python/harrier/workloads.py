"""Shapes and workloads: what an .attn file holds, and what kernels are compiled for."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from . import _harrier
from .patterns import Pattern, pattern_of

DType = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Shape:
    """Heads, head dims and type of a kernel. Lengths and batches are no part of it: they may differ from call to call.

    `kv_heads` divides `heads` (default: as many); query head h reads key head h // (heads // kv_heads). Head dims are
    multiples of 8 from 16 to 256; `value_dim` is by default as `head_dim`.
    """

    heads: int = 1
    head_dim: int = 64
    kv_heads: int | None = None
    value_dim: int | None = None
    dtype: DType = "fp32"

    def text(self, direction: str = "forward") -> str:
        """The clauses of a workload that say this."""
        return _shape_text(self, direction)


@functools.lru_cache(maxsize=4096)
def _shape_text(shape: Shape, direction: str) -> str:
    kv_heads = "" if shape.kv_heads is None else f"kv_heads {shape.kv_heads} "
    value_dim = "" if shape.value_dim is None else f"value_dim {shape.value_dim} "
    return f"heads {shape.heads} {kv_heads} head_dim {shape.head_dim} {value_dim} dtype {shape.dtype} direction {direction}"


@dataclass(frozen=True, eq=False)
class Workload:
    """A pattern, a shape, and how long the sequences are expected to be. `str` gives the text of an .attn file."""

    name: str
    pattern: Pattern
    shape: Shape
    lengths: str = "fixed(1024)"
    batch: int = 1
    direction: Literal["forward", "backward"] = "forward"
    deterministic: bool = False  # of gradients: see `harrier.attention`

    @property
    def clause(self) -> str:
        """Internal: the direction as a text has it."""
        return "backward deterministic" if self.deterministic and self.direction == "backward" else self.direction

    def __str__(self) -> str:
        return str(self.compiled_text())

    def compiled_text(self) -> _harrier.Workload:
        """Internal: as the compiler reads it."""
        return _harrier.Workload(
            f"attention {self.name} {{\n{self.shape.text(self.clause)}\n{self.pattern.text}\n"
            f"lengths {self.lengths} batch {self.batch}\n}}"
        )


def parse(text: str) -> Workload:
    """Reads `attention NAME { ... }`, what an .attn file holds. A trace's path starts from the current folder.

    Raises InvalidInput, whose message names line and column, says what was expected, and shows the place.
    """
    parsed = _harrier.Workload(text)
    shape = Shape(
        heads=parsed.heads,
        head_dim=parsed.head_dim,
        kv_heads=parsed.kv_heads,
        value_dim=parsed.value_dim,
        dtype=parsed.dtype,  # type: ignore[arg-type]
    )
    return Workload(
        name=parsed.name or "attention",
        pattern=pattern_of(parsed),
        shape=shape,
        lengths=parsed.lengths,
        batch=parsed.batch,
        direction="backward" if parsed.is_backward else "forward",
        deterministic=parsed.is_deterministic,
    )
