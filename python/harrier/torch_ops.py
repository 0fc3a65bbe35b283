"""Attention on tensors of torch: operators with fake implementations and gradients, which torch.compile traces whole.

`torch.ops.harrier.attention` and `attention_backward` take a pattern as its text, the whole numbers of it apart, and its
arrays in the order in which the text names them: patterns that come and go cost no more than looking their text up, and
windows that change recompile nothing, not even in torch.compile. Eager calls on plain tensors take a shorter way to the
same functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from . import torch_cuda
from ._harrier import InvalidInput, Lengths
from .patterns import Pattern
from .torch_texts import (
    DTYPES,
    array_names,
    array_names_of,
    cpu_kernel,
    pattern_text,
    shape_text,
    workload_text_of,
)

Tensor = torch.Tensor

torch.library.define(
    "harrier::attention",
    "(Tensor q, Tensor k, Tensor v, Tensor? lengths, Tensor? key_lengths, Tensor? cu_seqlens, Tensor? key_cu_seqlens, "
    "Tensor[] arrays, str template, SymInt[] numbers, SymInt? max_seqlen, SymInt? key_max_seqlen, "
    "bool deterministic) -> (Tensor, Tensor)",
)
torch.library.define(
    "harrier::attention_backward",
    "(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor? lengths, Tensor? key_lengths, "
    "Tensor? cu_seqlens, Tensor? key_cu_seqlens, Tensor[] arrays, str template, SymInt[] numbers, SymInt? max_seqlen, "
    "SymInt? key_max_seqlen, bool deterministic, int[] wanted) -> (Tensor, Tensor, Tensor, Tensor[])",
)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    lengths: Any,
    key_lengths: Any,
    cu_seqlens: Any,
    key_cu_seqlens: Any,
    max_seqlen: int | None,
    key_max_seqlen: int | None,
    arrays: Mapping[str, Any] | None,
    return_lse: bool,
    deterministic: bool | None = None,
) -> Any:
    """`harrier.attention` where q, k and v are tensors of torch."""
    if deterministic is None:
        deterministic = torch.are_deterministic_algorithms_enabled()
    if q.is_nested:
        return _nested_attention(q, k, v, pattern, arrays, return_lse, deterministic)
    is_compiling = torch.compiler.is_compiling()
    if (is_compiling or torch._C._is_any_autocast_enabled()) and torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    call_lengths = (lengths, key_lengths, cu_seqlens, key_cu_seqlens)
    has_lengths = not (lengths is None and key_lengths is None and cu_seqlens is None and key_cu_seqlens is None)
    if has_lengths:
        call_lengths = tuple(_as_lengths(x, q) for x in call_lengths)  # type: ignore[assignment]
    bound = _arrays_in_order(pattern, arrays, q) if pattern.array_names or arrays else []
    call = (*call_lengths, bound, pattern.template, pattern.numbers, max_seqlen, key_max_seqlen)
    if is_compiling or not _is_plain(q, k, v, bound):
        out, lse = torch.ops.harrier.attention(q, k, v, *call, deterministic)
    elif torch.is_grad_enabled() and _wants_gradients(q, k, v, bound):
        out, lse = _DirectAttention.apply(q, k, v, *call[:4], *call[5:], deterministic, *bound)
    elif q.is_cuda:
        out, lse = _new_out(q, v), _new_lse(q) if return_lse else None
        has_inputs = has_lengths or bound or max_seqlen is not None or key_max_seqlen is not None
        if has_inputs or not torch_cuda.run_again(pattern.text, q, k, v, out, lse):
            _run_forward(q, k, v, out, lse, *call, pattern.text)
    else:
        out, lse = _forward_cpu(q, k, v, *call, deterministic)
    return (out, lse) if return_lse else out


def _nested_attention(
    q: Any,
    k: Any,
    v: Any,
    pattern: Pattern,
    arrays: Mapping[str, Any] | None,
    return_lse: bool,
    deterministic: bool,
) -> Tensor:
    """Jagged [batch, heads, length, dim], as scaled_dot_product_attention takes them: packed underneath."""
    if return_lse:
        raise InvalidInput("return_lse of nested tensors: not available; pass values() and offsets() as cu_seqlens")
    if any(x.layout != torch.jagged or x.dim() != 4 for x in (q, k, v)):
        raise InvalidInput(
            "nested tensors must be jagged [batch, heads, length, dim]; make them with layout=torch.jagged"
        )
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = attention(
        q.values(),
        k.values(),
        v.values(),
        pattern,
        lengths=None,
        key_lengths=None,
        cu_seqlens=q.offsets(),
        key_cu_seqlens=k.offsets(),
        max_seqlen=None,
        key_max_seqlen=None,
        arrays=arrays,
        return_lse=False,
        deterministic=deterministic,
    )
    return torch.nested.nested_tensor_from_jagged(out, q.offsets()).transpose(1, 2)


def _as_lengths(value: Any, q: Tensor) -> Tensor | None:
    return value if value is None or isinstance(value, Tensor) else torch.as_tensor(value, device=q.device)


def _arrays_in_order(pattern: Pattern, given: Mapping[str, Any] | None, q: Tensor) -> list[Tensor]:
    """The pattern's arrays, dense and on q's device. Floats stay what gradients flow through."""
    bound = pattern.arrays if given is None else {**pattern.arrays, **given}
    for name in bound:
        if name not in pattern.array_names:
            known = ", ".join(pattern.array_names) or "none"
            raise InvalidInput(f"@{name} is no array of the pattern; its arrays are: {known}")
    arrays = []
    for name in pattern.array_names:
        if name not in bound:
            raise InvalidInput(f"@{name} of the pattern is not bound; give it in arrays")
        value = bound[name]
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, device=q.device)
        if value.device != q.device:
            raise InvalidInput(f"@{name} lies on {value.device} and q on {q.device}; move it there")
        if name in pattern.learned and value.dtype in (torch.bfloat16, torch.float16, torch.float64):
            value = value.float()
        arrays.append(value.contiguous())
    return arrays


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _is_plain(q: Tensor, k: Tensor, v: Tensor, arrays: list[Tensor]) -> bool:
    """Whether nobody watches what operators do with them: no modes, no transforms, no subclasses. Such calls skip the
    dispatcher, which takes longer than a short kernel."""
    watched = torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack()
    if watched or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if type(q) not in _PLAIN or type(k) not in _PLAIN or type(v) not in _PLAIN:
        return False
    return not arrays or all(type(x) in _PLAIN for x in arrays)


def _wants_gradients(q: Tensor, k: Tensor, v: Tensor, arrays: list[Tensor]) -> bool:
    return (
        q.requires_grad or k.requires_grad or v.requires_grad or (bool(arrays) and any(x.requires_grad for x in arrays))
    )


class _DirectAttention(torch.autograd.Function):
    """The operator's gradients, for eager calls."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        inputs = (*inputs[:7], list(inputs[12:]), *inputs[7:12])
        output = _forward_of(inputs[0])(*inputs)
        _setup_context(ctx, inputs, output)
        ctx.run_backward = _backward_of(inputs[0])
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_out: Tensor | None, d_lse: Tensor | None) -> tuple[Any, ...]:
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[12:]) if needed]
        gradients = _backward_with(ctx.run_backward, ctx, wanted, d_out, d_lse)
        return (*gradients[:7], None, None, None, None, None, *gradients[7])


def _forward_of(q: Tensor) -> Any:
    return _forward_cuda if q.is_cuda else _forward_cpu


def _backward_of(q: Tensor) -> Any:
    return _backward_cuda if q.is_cuda else _backward_cpu


def _check(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor | None) -> None:
    """What must hold before there is a shape to compile for; all else is checked by the kernel. Raises InvalidInput."""
    if q.dtype not in DTYPES:
        raise InvalidInput(f"q holds {str(q.dtype)[6:]}, kernels take float32, float16 and bfloat16; convert it")
    for x, name in ((k, "k"), (v, "v")):
        if x.device != q.device:
            raise InvalidInput(f"{name} lies on {x.device} and q on {q.device}; move it there")
        if x.dtype != q.dtype:
            raise InvalidInput(f"{name} holds {str(x.dtype)[6:]} and q {str(q.dtype)[6:]}; convert one of them")
    rank, layout = (4, "[batch, heads, length, dim]") if cu_seqlens is None else (3, "[tokens, heads, dim]")
    for x, name in ((q, "q"), (k, "k"), (v, "v")):
        if x.dim() != rank:
            hint = "packed tensors need cu_seqlens" if cu_seqlens is None else "packed tensors are that with cu_seqlens"
            raise InvalidInput(f"{name} has {x.dim()} dimensions, expected {layout}; {hint}")


def _new_out(q: Tensor, v: Tensor) -> Tensor:
    """Laid out as q is, where it can be."""
    if q.shape[-1] == v.shape[-1]:
        return torch.empty_like(q)
    return q.new_empty((*q.shape[:-1], v.shape[-1]))


def _new_lse(q: Tensor) -> Tensor:
    return q.new_empty(q.shape[:-1], dtype=torch.float32)


def _host_lengths(*lengths: Tensor | None) -> Lengths:
    return Lengths(*([] if x is None else np.asarray(x.cpu()).tolist() for x in lengths))


def _forward_cpu(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    cu_seqlens: Tensor | None,
    key_cu_seqlens: Tensor | None,
    arrays: Sequence[Tensor],
    template: str,
    numbers: Sequence[int],
    max_seqlen: int | None,
    key_max_seqlen: int | None,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    _check(q, k, v, cu_seqlens)
    pattern = pattern_text(template, tuple(numbers))
    kernel = cpu_kernel(pattern, shape_text(q, k, v, "forward"))
    out, lse = _new_out(q, v), _new_lse(q)
    call_lengths = _host_lengths(lengths, key_lengths, cu_seqlens, key_cu_seqlens)
    bound = dict(zip(array_names(pattern), (x.detach() for x in arrays)))
    kernel.run(q.detach(), k.detach(), v.detach(), out, lse, call_lengths, bound)
    return out, lse


def _forward_cuda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    cu_seqlens: Tensor | None,
    key_cu_seqlens: Tensor | None,
    arrays: Sequence[Tensor],
    template: str,
    numbers: Sequence[int],
    max_seqlen: int | None,
    key_max_seqlen: int | None,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    if q.dtype not in DTYPES or q.dim() != k.dim():
        _check(q, k, v, cu_seqlens)
    out, lse = _new_out(q, v), _new_lse(q)
    rest = (lengths, key_lengths, cu_seqlens, key_cu_seqlens, arrays, template, numbers, max_seqlen, key_max_seqlen)
    _run_forward(q, k, v, out, lse, *rest, (template, *numbers))
    return out, lse


def _run_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor | None,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    cu_seqlens: Tensor | None,
    key_cu_seqlens: Tensor | None,
    arrays: Sequence[Tensor],
    template: str,
    numbers: Sequence[int],
    max_seqlen: int | None,
    key_max_seqlen: int | None,
    pattern: Any,
) -> None:
    """On a GPU; `pattern` is what tells patterns apart."""

    def workload() -> str:
        _check(q, k, v, cu_seqlens)
        return workload_text_of(q, k, v, "forward", template, numbers)

    bound = dict(zip(array_names_of(template, tuple(numbers)), arrays)) if arrays else {}
    call = torch_cuda.Call(
        q, k, v, out, lse, lengths, key_lengths, cu_seqlens, key_cu_seqlens, bound, max_seqlen, key_max_seqlen
    )
    if q.numel() > 0:
        torch_cuda.run(call, pattern, workload)


def _forward_fake(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    _check(q, k, v, rest[2])
    return _new_out(q, v), _new_lse(q)


def _backward_cpu(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    cu_seqlens: Tensor | None,
    key_cu_seqlens: Tensor | None,
    arrays: Sequence[Tensor],
    template: str,
    numbers: Sequence[int],
    max_seqlen: int | None,
    key_max_seqlen: int | None,
    deterministic: bool,
    wanted: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    pattern = pattern_text(template, tuple(numbers))
    kernel = cpu_kernel(pattern, shape_text(q, k, v, "backward"))
    names = array_names(pattern)
    d_q, d_k, d_v, d_arrays = _new_gradients(q, k, v, arrays, wanted)
    kernel.run_backward(
        q=q.detach(),
        k=k.detach(),
        v=v.detach(),
        out=out.detach(),
        lse=lse.detach(),
        d_out=d_out.detach(),
        d_q=d_q,
        d_k=d_k,
        d_v=d_v,
        d_arrays={names[i]: gradient for i, gradient in zip(wanted, d_arrays)},
        lengths=_host_lengths(lengths, key_lengths, cu_seqlens, key_cu_seqlens),
        arrays=dict(zip(names, (x.detach() for x in arrays))),
    )
    return d_q, d_k, d_v, d_arrays


def _backward_cuda(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    cu_seqlens: Tensor | None,
    key_cu_seqlens: Tensor | None,
    arrays: Sequence[Tensor],
    template: str,
    numbers: Sequence[int],
    max_seqlen: int | None,
    key_max_seqlen: int | None,
    deterministic: bool,
    wanted: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    names = array_names_of(template, tuple(numbers))
    d_q, d_k, d_v, d_arrays = _new_gradients(q, k, v, arrays, wanted)
    if q.numel() == 0:
        return d_q, d_k.zero_(), d_v.zero_(), [x.zero_() for x in d_arrays]
    call = torch_cuda.Call(
        q=q,
        k=k,
        v=v,
        out=out,
        lse=lse,
        lengths=lengths,
        key_lengths=key_lengths,
        cu_seqlens=cu_seqlens,
        key_cu_seqlens=key_cu_seqlens,
        arrays=dict(zip(names, arrays)),
        max_seqlen=max_seqlen,
        key_max_seqlen=key_max_seqlen,
    )
    gradients = torch_cuda.GradientCall(
        d_out=d_out, d_q=d_q, d_k=d_k, d_v=d_v, d_arrays={names[i]: x for i, x in zip(wanted, d_arrays)}
    )
    direction = "backward deterministic" if deterministic else "backward"
    pattern = (direction, template, *numbers)
    torch_cuda.run(call, pattern, lambda: workload_text_of(q, k, v, direction, template, numbers), gradients)
    return d_q, d_k, d_v, d_arrays


def _backward_fake(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    return _new_gradients(q, k, v, rest[4], rest[10])


def _new_gradients(
    q: Tensor, k: Tensor, v: Tensor, arrays: Sequence[Tensor], wanted: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    # Dense even where the tensor is a broadcast view, for its gradient has an element for each of its own.
    d_q, d_k, d_v = (torch.empty_like(x) for x in (q, k, v))
    return d_q, d_k, d_v, [torch.empty_like(arrays[i], memory_format=torch.contiguous_format) for i in wanted]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, lengths, key_lengths, cu_seqlens, key_cu_seqlens, arrays, *rest = inputs
    ctx.save_for_backward(q, k, v, *output, lengths, key_lengths, cu_seqlens, key_cu_seqlens, *arrays)
    ctx.rest = rest
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, d_out: Tensor | None, d_lse: Tensor | None) -> tuple[Any, ...]:
    wanted = [i for i, needed in enumerate(ctx.needs_input_grad[7]) if needed]
    gradients = _backward_with(torch.ops.harrier.attention_backward, ctx, wanted, d_out, d_lse)
    numbers = ctx.rest[1]
    return (*gradients, None, None if numbers else [], None, None, None)  # torch takes an empty list for one of tensors


def _backward_with(
    run: Any, ctx: Any, wanted: list[int], d_out: Tensor | None, d_lse: Tensor | None
) -> tuple[Any, ...]:
    """Gradients of the operator's tensors, the last being a list of those of its arrays."""
    q, k, v, out, lse, lengths, key_lengths, cu_seqlens, key_cu_seqlens, *arrays = ctx.saved_tensors
    d_arrays: list[Tensor | None] = [None] * len(arrays)
    if d_out is None and d_lse is None:
        return (None,) * 7 + (d_arrays,)
    d_out = torch.zeros_like(out) if d_out is None else d_out.to(q.dtype)
    value_dim = v.shape[-1]
    if d_lse is not None:
        v, out, d_out = _with_lse_column(v, out, lse, d_out, d_lse)
    if d_out.stride(-1) != 1:
        d_out = torch.empty_like(d_out, memory_format=torch.contiguous_format).copy_(d_out)
    d_q, d_k, d_v, d_wanted = run(
        d_out, q, k, v, out, lse, lengths, key_lengths, cu_seqlens, key_cu_seqlens, arrays, *ctx.rest, wanted
    )
    for i, gradient in zip(wanted, d_wanted):
        d_arrays[i] = gradient
    return (d_q, d_k, d_v[..., :value_dim], None, None, None, None, d_arrays)


def _with_lse_column(
    v: Tensor, out: Tensor, lse: Tensor, d_out: Tensor, d_lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """v, out and d_out with one value more, by which the gradient of lse comes in.

    Weights P move scores by P (d_out v^T - rowsum(d_out out) + d_lse). A column of zeros in v, of ones in d_out and of
    -d_lse in out adds nothing to the first term and takes d_lse from the second. Value dims are multiples of 8.
    """
    d_lse = torch.where(lse.isinf(), 0.0, d_lse)  # a query that sees no key
    pad = torch.nn.functional.pad
    column = pad(-d_lse.to(out.dtype)[..., None], (0, 7))
    ones = pad(torch.ones_like(column[..., :1]), (0, 7))
    return pad(v, (0, 8)), torch.cat([out, column], -1), torch.cat([d_out, ones], -1)


torch.library.impl("harrier::attention", "CPU", _forward_cpu)
torch.library.impl("harrier::attention", "CUDA", _forward_cuda)
torch.library.register_fake("harrier::attention", _forward_fake)
torch.library.register_autograd("harrier::attention", _backward, setup_context=_setup_context)
torch.library.impl("harrier::attention_backward", "CPU", _backward_cpu)
torch.library.impl("harrier::attention_backward", "CUDA", _backward_cuda)
torch.library.register_fake("harrier::attention_backward", _backward_fake)
