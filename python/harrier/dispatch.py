"""`attention`: one call, compiled on first use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import host_arrays
from ._harrier import InvalidInput
from .kernels import Kernel
from .masks import Mask
from .patterns import Pattern, as_pattern
from .workloads import Shape


def attention(
    q: Any,
    k: Any,
    v: Any,
    pattern: Pattern | Mask | str,
    *,
    lengths: Any = None,
    key_lengths: Any = None,
    cu_seqlens: Any = None,
    key_cu_seqlens: Any = None,
    max_seqlen: int | None = None,
    key_max_seqlen: int | None = None,
    arrays: Mapping[str, Any] | None = None,
    return_lse: bool = False,
    deterministic: bool | None = None,
) -> Any:
    """Attention under a pattern, on NumPy arrays or tensors of torch. The first call with a pattern compiles it.

    q: [batch, heads, length, head_dim], or packed [tokens, heads, head_dim] with `cu_seqlens`; k: the same with kv_heads,
    which divides heads; v: the same with its own last dimension. float32, float16 or bfloat16, all alike; head dims are
    multiples of 8 from 16 to 256.

    pattern: a mask (`hr.causal & hr.window(1024, 0)`), an `hr.Pattern`, or a mask's text.
    lengths, key_lengths: valid lengths of padded rows, whole numbers [batch].
    cu_seqlens, key_cu_seqlens: offsets of packed sequences, whole numbers [batch + 1] that rise from 0.
    max_seqlen, key_max_seqlen: a bound of packed lengths, which saves a GPU work where sequences are many.
    arrays: those of the pattern's arrays that it does not carry, by name.
    deterministic: whether gradients have the same bits every time; by default what
    torch.are_deterministic_algorithms_enabled() says. Outputs have them anyway, and all gradients on CPUs. On GPUs, without
    it, the last bits of q's gradient vary on sm_90, and those of the pattern's float arrays everywhere; with it, q's does
    not, and gradients of arrays are refused. It takes at most 4 bytes of memory for each 32 queries of a head and doubles
    lists of columns.

    Returns the output, [..., value dim] of q's library and type; with `return_lse` also the logarithm of each softmax's
    denominator, float32 [batch, heads, length] or [tokens, heads], -inf where a query sees no key.

    Tensors of torch may lie on the CPU or a GPU, where work goes to the current stream; gradients flow to q, k, v and the
    pattern's float arrays; torch.compile traces the call whole, with dynamic lengths. Autocast and nested jagged tensors
    [batch, heads, length, dim] are understood.

    Raises InvalidInput for what does not fit, ToolchainError where no compiler is built in, DeviceError.
    """
    pattern = as_pattern(pattern)
    if host_arrays.is_torch(q):
        from . import torch_ops

        return torch_ops.attention(
            q,
            k,
            v,
            pattern,
            lengths,
            key_lengths,
            cu_seqlens,
            key_cu_seqlens,
            max_seqlen,
            key_max_seqlen,
            arrays,
            return_lse,
            deterministic,
        )
    kernel = Kernel(pattern, shape_of(q, k, v, is_packed=cu_seqlens is not None))
    return kernel(
        q,
        k,
        v,
        lengths=lengths,
        key_lengths=key_lengths,
        cu_seqlens=cu_seqlens,
        key_cu_seqlens=key_cu_seqlens,
        arrays=arrays,
        return_lse=return_lse,
    )


def shape_of(q: Any, k: Any, v: Any, is_packed: bool) -> Shape:
    """The shape that these arrays call for. Raises InvalidInput where they have none."""
    rank, layout = (3, "[tokens, heads, dim]") if is_packed else (4, "[batch, heads, length, dim]")
    for x, name in ((q, "q"), (k, "k"), (v, "v")):
        shape = getattr(x, "shape", None)
        if shape is None:
            raise InvalidInput(f"{name} is {type(x).__name__}, expected an array of NumPy, torch or DLPack; convert it")
        if len(shape) != rank:
            hint = "packed arrays are that with cu_seqlens" if is_packed else "packed arrays need cu_seqlens"
            raise InvalidInput(f"{name} has {len(shape)} dimensions, expected {layout}; {hint}")
    return Shape(
        heads=q.shape[1],
        head_dim=q.shape[-1],
        kv_heads=k.shape[1],
        value_dim=v.shape[-1],
        dtype=host_arrays.dtype_name(q, "q"),  # type: ignore[arg-type]
    )
