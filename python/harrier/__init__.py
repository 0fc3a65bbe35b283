"""Harrier compiles sparse attention: which keys each query sees, how scores are changed, how long the sequences are.

    import harrier as hr

    pattern = hr.causal & (hr.window(256, 0) | hr.sink(4))
    out = hr.attention(q, k, v, pattern)

Patterns are made of masks (`causal`, `window`, `documents`, ...) with `&`, `|` and `~`. `attention` takes NumPy arrays and
tensors of torch; `compile` gives a kernel to keep. Errors are one line: `InvalidInput` (a ValueError), `DeviceError` and
`ToolchainError` (RuntimeErrors).
"""

from __future__ import annotations

from ._harrier import DeviceError, InternalError, InvalidInput, ToolchainError
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
from .workloads import Shape, Workload, parse

__version__ = "0.1.0"
