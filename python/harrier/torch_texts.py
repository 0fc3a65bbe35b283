"""Calls of torch as texts: the workload that tensors call for, its arrays, and what is compiled of it for CPUs.

Texts are made once for each pattern and shape: eager calls come here every time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from . import _harrier
from .kernels import cpu_compiler
from .patterns import fill_template

Tensor = torch.Tensor
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@functools.lru_cache(maxsize=4096)
def pattern_text(template: str, numbers: tuple[int, ...]) -> str:
    return fill_template(template, numbers)


@functools.lru_cache(maxsize=4096)
def array_names(pattern: str) -> tuple[str, ...]:
    """Names of a pattern's arrays, in the order in which operators are handed them."""
    parsed = _harrier.Workload(f"attention pattern {{\n{pattern}\n}}")
    return tuple(name for name, _, _ in parsed.arrays)


def shape_text(q: Tensor, k: Tensor, v: Tensor, direction: str) -> str:
    """The clauses of a workload that these tensors call for."""
    return (
        f"heads {q.shape[1]} kv_heads {k.shape[1]} head_dim {q.shape[-1]} value_dim {v.shape[-1]} "
        f"dtype {DTYPES[q.dtype]} direction {direction}"
    )


@functools.lru_cache(maxsize=4096)
def cpu_kernel(pattern: str, shape: str) -> Any:  # its stub speaks of NumPy's arrays alone
    return cpu_compiler(0).compile(_harrier.Workload(_workload_text(pattern, shape)))


def _workload_text(pattern: str, shape: str) -> str:
    return f"attention pattern {{\n{shape}\n{pattern}\n}}"


def workload_text_of(q: Tensor, k: Tensor, v: Tensor, direction: str, template: str, numbers: Sequence[int]) -> str:
    return _workload_text(pattern_text(template, tuple(numbers)), shape_text(q, k, v, direction))


@functools.lru_cache(maxsize=4096)
def array_names_of(template: str, numbers: tuple[int, ...]) -> tuple[str, ...]:
    return array_names(pattern_text(template, numbers))
