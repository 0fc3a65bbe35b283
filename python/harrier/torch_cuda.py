"""Attention on tensors of a GPU: bound, prepared and enqueued on torch's current stream, with no copy and no waiting.

What is compiled, bound (torch_bindings.py) and prepared is kept for calls that are alike, down to addresses: torch's allocator
hands a loop the same memory again and again. Lengths and arrays stay on the device. What is captured in a CUDA graph is kept
for the life of the process.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from . import _harrier
from ._harrier import InvalidInput
from .torch_bindings import Bound, Inputs, bound_for, captured_bound_for, kernel_of

Tensor = torch.Tensor

_MOST_LAUNCHES = 256  # kept, each with its workspace


@dataclass(slots=True)
class Call:
    """One call's tensors. `out` and, where it is wanted, `lse` are written."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor | None
    lengths: Tensor | None
    key_lengths: Tensor | None
    cu_seqlens: Tensor | None
    key_cu_seqlens: Tensor | None
    arrays: dict[str, Tensor]
    max_seqlen: int | None
    key_max_seqlen: int | None


@dataclass(slots=True)
class GradientCall:
    """A backward call's tensors beside those of the forward call. All but `d_out` are written."""

    d_out: Tensor
    d_q: Tensor
    d_k: Tensor
    d_v: Tensor
    d_arrays: dict[str, Tensor]


@dataclass(eq=False, slots=True)
class _Kept:
    """A launch, the binding it was prepared for, and what that held then."""

    launch: _harrier.CudaLaunch
    bound: Bound
    held: _harrier.CudaBinding


_launches: collections.OrderedDict[Any, _Kept] = collections.OrderedDict()
_captured: list[_harrier.CudaLaunch] = []
_lock = threading.Lock()

# What torch.cuda's functions call, which take longer. Where tensors are on a GPU torch is initialised; a torch without CUDA has
# no such tensors.
_current_device: Callable[[], int] = getattr(torch._C, "_cuda_getDevice", torch.cuda.current_device)
_is_capturing: Callable[[], bool] = getattr(torch._C, "_cuda_isCurrentStreamCapturing", lambda: False)
_raw_stream: Callable[[int], int] = getattr(torch._C, "_cuda_getCurrentRawStream", lambda ordinal: 0)


def run(call: Call, pattern: Any, workload: Callable[[], str], gradients: GradientCall | None = None) -> None:
    """Enqueues a forward or a backward kernel on the current stream of the tensors' device. Raises InvalidInput.

    `pattern`: anything hashable that tells patterns apart. `workload`: the text to compile for these tensors, asked for
    where no call like this one was there before; it may check them.
    """
    ordinal = call.q.get_device()
    # Binding and converting enqueue work of torch's own, on the stream that is current there.
    if _current_device() != ordinal:
        with torch.cuda.device(ordinal):
            return run(call, pattern, workload, gradients)
    # A launch has a workspace of its own, so it must not run on two streams at a time.
    stream = _raw_stream(ordinal)
    if _is_capturing():
        return _capture(call, workload(), gradients, ordinal, stream)
    key, watched = _key(call, pattern, gradients, ordinal, stream)
    with _lock:
        kept = _launches.get(key)
        if kept is not None and kept.held is kept.bound.held and kept.bound.serves(watched):
            kept.launch.enqueue(stream, False)
            return
    text = workload()
    kernel_of(text, ordinal)  # may take seconds, in which other threads go on
    with _lock:
        bound, rebuild = bound_for(_inputs(call), text, ordinal, stream)
        if kept is None or kept.held is not bound.held:
            kept = _launches[key] = _Kept(_prepare(bound, call, gradients), bound, bound.held)
            while len(_launches) > _MOST_LAUNCHES:
                _launches.popitem(last=False)
        else:
            _launches.move_to_end(key)
        kept.launch.enqueue(stream, rebuild)


def _capture(call: Call, workload: str, gradients: GradientCall | None, ordinal: int, stream: int) -> None:
    """A launch of the graph's own: it builds by every replay, and its workspace is nobody else's."""
    with _lock, _allocations_while_capturing():
        bound = captured_bound_for(_inputs(call), workload, ordinal)
        launch = _prepare(bound, call, gradients)
        launch.enqueue(stream)
        _captured.append(launch)


def _key(
    call: Call, pattern: Any, gradients: GradientCall | None, ordinal: int, stream: int
) -> tuple[tuple[Any, ...], list[Tensor]]:
    """What tells launches apart, and the tensors that a binding stands on."""
    gradient_key: list[Any] = []
    if gradients is not None:
        for x in (gradients.d_out, gradients.d_q, gradients.d_k, gradients.d_v):
            gradient_key += (x.data_ptr(), x.stride())
        gradient_key += [(name, x.data_ptr()) for name, x in gradients.d_arrays.items()]
    input_key: list[Any] = []
    watched = []
    for length in (call.lengths, call.key_lengths, call.cu_seqlens, call.key_cu_seqlens):
        if length is None:
            input_key.append(None)
        else:
            input_key.append((length.data_ptr(), length.shape))
            watched.append(length)
    for array in call.arrays.values():
        input_key.append((array.data_ptr(), array.shape))
        watched.append(array)
    tensors = _tensor_key(call.q, call.k, call.v, call.out, call.lse)
    bounds = (call.max_seqlen, call.key_max_seqlen)
    return (pattern, ordinal, stream, tensors, tuple(input_key), bounds, tuple(gradient_key)), watched


def _tensor_key(q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor | None) -> tuple[Any, ...]:
    return (
        q.data_ptr(),
        q.shape,
        q.stride(),
        q.dtype,
        k.data_ptr(),
        k.shape,
        k.stride(),
        k.dtype,
        v.data_ptr(),
        v.shape,
        v.stride(),
        v.dtype,
        out.data_ptr(),
        out.stride(),
        None if lse is None else (lse.data_ptr(), lse.stride()),
    )


_NO_INPUTS = ((None, None, None, None), (None, None), ())


def run_again(pattern: Any, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor | None) -> bool:
    """Enqueues what `run` kept of a forward call without lengths and arrays. False where there was none like this one."""
    ordinal = q.get_device()
    if _current_device() != ordinal or _is_capturing():
        return False
    stream = _raw_stream(ordinal)
    kept = _launches.get((pattern, ordinal, stream, _tensor_key(q, k, v, out, lse), *_NO_INPUTS))
    if kept is None:
        return False
    with _lock:  # one launch must not be enqueued by two threads at a time
        kept.launch.enqueue(stream, False)
    return True


def _inputs(call: Call) -> Inputs:
    return Inputs(call.lengths, call.key_lengths, call.cu_seqlens, call.key_cu_seqlens, call.arrays, _extents(call))


def _prepare(bound: Bound, call: Call, gradients: GradientCall | None) -> _harrier.CudaLaunch:
    """Checks tensors, and takes their addresses. Raises InvalidInput."""
    is_packed = call.cu_seqlens is not None
    named = {"q": call.q, "k": call.k, "v": call.v}
    if gradients is not None:
        named["d_out"] = gradients.d_out
    _check_columns(named)
    _check_shapes(call, is_packed)
    q, k, v, out = (_place(x, is_packed) for x in (call.q, call.k, call.v, call.out))
    lse = None if call.lse is None else _place(call.lse, is_packed)
    if gradients is None:
        return bound.kernel.prepare(bound.held, q, k, v, out, lse)
    assert lse is not None
    d_out, d_q, d_k, d_v = (
        _place(x, is_packed) for x in (gradients.d_out, gradients.d_q, gradients.d_k, gradients.d_v)
    )
    d_arrays = {name: x.data_ptr() for name, x in gradients.d_arrays.items()}
    return bound.kernel.prepare_backward(bound.held, q, k, v, out, lse, d_out, d_q, d_k, d_v, d_arrays)


@contextlib.contextmanager
def _allocations_while_capturing() -> Iterator[None]:
    """Lets this thread take device memory while a stream is captured, as torch's own allocator does."""
    relaxed = 2  # CU_STREAM_CAPTURE_MODE_RELAXED
    driver = ctypes.CDLL(os.environ.get("HARRIER_LIBCUDA") or "libcuda.so.1")
    mode = ctypes.c_int(relaxed)
    driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
    try:
        yield
    finally:
        driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))


def _extents(call: Call) -> tuple[int, bool, int, int, int, int]:
    """Batch, whether packed, tokens of queries and keys, and the longest sequences of both."""
    q, k = call.q, call.k
    if call.cu_seqlens is None:
        return (q.shape[0], False, q.shape[0] * q.shape[2], k.shape[0] * k.shape[2], q.shape[2], k.shape[2])
    longest = q.shape[0] if call.max_seqlen is None else min(call.max_seqlen, q.shape[0])
    key_longest = call.key_max_seqlen
    if key_longest is None:
        key_longest = longest if call.key_cu_seqlens is None and call.max_seqlen is not None else k.shape[0]
    return (call.cu_seqlens.numel() - 1, True, q.shape[0], k.shape[0], longest, min(key_longest, k.shape[0]))


def _place(x: Tensor, is_packed: bool) -> tuple[int, int, int, int]:
    """Address, and strides of batch, token and head, of [batch, heads, length, ...] or packed [tokens, heads, ...]."""
    stride = x.stride()
    if is_packed:
        return (x.data_ptr(), 0, stride[0], stride[1])
    return (x.data_ptr(), stride[0], stride[2], stride[1])


def _check_shapes(call: Call, is_packed: bool) -> None:
    """The kernel sees addresses alone. k and v agree with each other and with q in their heads' dim."""
    q, k, v = call.q, call.k, call.v
    expected_k = (*k.shape[:-1], q.shape[-1]) if is_packed else (q.shape[0], *k.shape[1:-1], q.shape[-1])
    for x, name, expected in ((k, "k", expected_k), (v, "v", (*expected_k[:-1], v.shape[-1]))):
        if tuple(x.shape) != expected:
            raise InvalidInput(f"{name} has shape {list(x.shape)}, expected {list(expected)} beside q {list(q.shape)}")


def _check_columns(named: dict[str, Tensor]) -> None:
    for name, x in named.items():
        if x.stride()[-1] != 1 and x.shape[-1] > 1:
            raise InvalidInput(
                f"{name} has stride {x.stride()[-1]} in its last dimension, expected 1; make it contiguous there"
            )
