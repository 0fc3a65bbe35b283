"""Harrier compiles sparse attention: which keys each query sees, how scores are changed, how long the sequences are.

    import harrier as hr

    pattern = hr.causal & (hr.window(256, 0) | hr.sink(4))
    out = hr.attention(q, k, v, pattern)

Patterns are made of masks (`causal`, `window`, `documents`, ...) with `&`, `|` and `~`. `attention` takes NumPy arrays and
tensors of torch; `compile` gives a kernel to keep. Errors are one line: `InvalidInput` (a ValueError), `DeviceError` and
`ToolchainError` (RuntimeErrors).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._harrier import DeviceError, InternalError, InvalidInput, ToolchainError, Tuning
from .dispatch import attention
from .expressions import (
    Array,
    Expression,
    array,
    b,
    clamp,
    exp,
    h,
    k,
    k_token,
    kv_len,
    log,
    maximum,
    minimum,
    q,
    q_len,
    q_token,
    s,
    select,
    sqrt,
    tanh,
)
from .gpu_tools import Export, export, tune
from .kernels import Gradients, Kernel, compilations, compile
from .masks import (
    Mask,
    all,
    bigbird,
    bits,
    blocks,
    causal,
    dilated,
    documents,
    global_,
    none,
    parse_mask,
    prefix,
    sink,
    where,
    window,
)
from .patterns import Pattern, sink_logit
from .show import Picture, show
from .workloads import Shape, Workload, parse

if TYPE_CHECKING:
    from .flex import BlockMask, and_masks, create_block_mask, flex_attention, flex_pattern, or_masks

__version__ = "0.1.0"

# What needs torch is imported when it is asked for.
_NEED_TORCH = {
    "BlockMask": ".flex",
    "and_masks": ".flex",
    "create_block_mask": ".flex",
    "flex_attention": ".flex",
    "flex_pattern": ".flex",
    "or_masks": ".flex",
}


def __getattr__(name: str) -> Any:
    if name not in _NEED_TORCH:
        raise AttributeError(f"module 'harrier' has no attribute {name!r}")
    return getattr(importlib.import_module(_NEED_TORCH[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_NEED_TORCH])
