"""Attention on tensors of a GPU: bound, prepared and enqueued on torch's current stream, with no copy and no waiting.

What is compiled, bound and prepared is kept for calls that are alike, down to addresses: torch's allocator hands a loop the
same memory again and again. Lengths and arrays stay on the device, so what they hold may change between such calls. What is
captured in a CUDA graph is kept for the life of the process. Only arrays that must be looked at before a kernel may read them
(those that expressions index, lists of global tokens) are waited for and bound by the host, anew by every call.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from . import _harrier
from ._harrier import InvalidInput
from .kernels import cuda_compiler

Tensor = torch.Tensor

_MOST_LAUNCHES = 256  # kept, each with its workspace


@dataclass
class Call:
    """One call's tensors. `out` and `lse` are written."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor
    lengths: Tensor | None
    key_lengths: Tensor | None
    cu_seqlens: Tensor | None
    key_cu_seqlens: Tensor | None
    arrays: dict[str, Tensor]
    max_seqlen: int | None
    key_max_seqlen: int | None


@dataclass
class GradientCall:
    """A backward call's tensors beside those of the forward call. All but `d_out` are written."""

    d_out: Tensor
    d_q: Tensor
    d_k: Tensor
    d_v: Tensor
    d_arrays: dict[str, Tensor]


def run(call: Call, workload: str, gradients: GradientCall | None = None) -> None:
    """Enqueues a forward or a backward kernel on the current stream of the tensors' device."""
    named = {"q": call.q, "k": call.k, "v": call.v}
    if gradients is not None:
        named["d_out"] = gradients.d_out
    _check_columns(named)
    ordinal = call.q.device.index
    # A launch has a workspace of its own, so it must not run on two streams at a time.
    stream = torch.cuda.current_stream(call.q.device).cuda_stream
    placed, d_arrays = _placed(call, gradients)
    with torch.cuda.device(ordinal):
        if _needs_host(workload):
            kernel = _kernel(workload, ordinal)
            _prepare(kernel, _bind_on_host(kernel, call), placed, d_arrays, gradients is not None).enqueue(stream)
            return
        # Made on this stream, so that the memory of what is converted is not taken before the kernel has read it.
        offsets = _int32(call.cu_seqlens, "cu_seqlens"), _int32(call.key_cu_seqlens, "key_cu_seqlens")
        valid = _valid_lengths(call)
        extents = _extents(call)
        roles = _roles(workload) if call.arrays else {}
        arrays = {name: _readable(array, roles[name], extents[3]) for name, array in call.arrays.items()}
        bound = {name: _array_place(array, roles[name]) for name, array in arrays.items()}
        binding = (*extents, _addresses(offsets), _addresses(valid))
        key = (ordinal, stream, workload, binding, *bound.items(), *placed, *d_arrays.items())

        def prepare() -> _harrier.CudaLaunch:
            kernel = _kernel(workload, ordinal)
            held = kernel.bind_on_device(*binding, bound)
            return _prepare(kernel, held, placed, d_arrays, gradients is not None)

        with _launches_lock:
            launch = _launches.get(key)
            if torch.cuda.is_current_stream_capturing():
                with _allocations_while_capturing():
                    launch = launch or prepare()
                _captured.append(launch)  # a graph that is replayed needs its workspace
            elif launch is None:
                launch = _launches[key] = prepare()
                while len(_launches) > _MOST_LAUNCHES:
                    _launches.popitem(last=False)
            else:
                _launches.move_to_end(key)
            launch.enqueue(stream)


def _placed(call: Call, gradients: GradientCall | None) -> tuple[list[tuple[int, int, int, int]], dict[str, int]]:
    """Where tensors lie, in the order in which launches take them, and where gradients of arrays go."""
    tensors = [call.q, call.k, call.v, call.out, call.lse]
    if gradients is None:
        return [_place(x, call.cu_seqlens is not None) for x in tensors], {}
    tensors += [gradients.d_out, gradients.d_q, gradients.d_k, gradients.d_v]
    return (
        [_place(x, call.cu_seqlens is not None) for x in tensors],
        {name: x.data_ptr() for name, x in gradients.d_arrays.items()},
    )


def _prepare(
    kernel: _harrier.CudaKernel,
    binding: _harrier.CudaBinding,
    placed: list[Any],
    d_arrays: dict[str, int],
    is_backward: bool,
) -> _harrier.CudaLaunch:
    if not is_backward:
        return kernel.prepare(binding, *placed)
    q, k, v, out, lse, d_out, d_q, d_k, d_v = placed
    return kernel.prepare_backward(binding, q, k, v, out, lse, d_out, d_q, d_k, d_v, d_arrays)


@functools.lru_cache(maxsize=4096)
def _needs_host(workload: str) -> bool:
    """Whether arrays must be looked at before a kernel may read them: those that are indexed, and lists of tokens."""
    is_drawn = re.search(r"\bseed\b", workload) is not None  # BigBird's random blocks
    return is_drawn or any(role in ("global tokens", "int array", "float array") for role in _roles(workload).values())


def _bind_on_host(kernel: _harrier.CudaKernel, call: Call) -> _harrier.CudaBinding:
    """Waits for lengths and arrays, and brings them there again as kernels read them. Raises InvalidInput."""
    if torch.cuda.is_current_stream_capturing():
        raise InvalidInput(
            "arrays that are indexed, lists of global tokens and seeded blocks are looked at by the host, which a CUDA graph "
            "cannot hold; use documents, blocks, bits or a bias"
        )
    q, k = call.q, call.k
    is_packed = call.cu_seqlens is not None
    lengths = [] if call.lengths is None else call.lengths.tolist()
    key_lengths = [] if call.key_lengths is None else call.key_lengths.tolist()
    if not is_packed and call.key_lengths is None and q.shape[2] == k.shape[2]:
        key_lengths = lengths
    offsets = [] if call.cu_seqlens is None else call.cu_seqlens.tolist()
    key_offsets = [] if call.key_cu_seqlens is None else call.key_cu_seqlens.tolist()
    return kernel.bind(
        _harrier.Lengths(lengths, key_lengths, offsets, key_offsets),
        q.shape[0],
        q.shape[0] if is_packed else q.shape[2],
        k.shape[0] if is_packed else k.shape[2],
        {name: x.detach().cpu().numpy() for name, x in call.arrays.items()},
    )


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


_launches: collections.OrderedDict[Any, Any] = collections.OrderedDict()
_captured: list[_harrier.CudaLaunch] = []
_launches_lock = threading.Lock()


@functools.lru_cache(maxsize=4096)
def _kernel(workload: str, ordinal: int) -> _harrier.CudaKernel:
    return cuda_compiler(ordinal).compile(_harrier.Workload(workload))


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


def _addresses(pair: tuple[Tensor | None, Tensor | None]) -> tuple[int, int]:
    return (0 if pair[0] is None else pair[0].data_ptr(), 0 if pair[1] is None else pair[1].data_ptr())


def _valid_lengths(call: Call) -> tuple[Tensor | None, Tensor | None]:
    """Of queries and keys; those of the queries are the keys' too where both have one extent."""
    lengths, key_lengths = _int32(call.lengths, "lengths"), _int32(call.key_lengths, "key_lengths")
    if key_lengths is None and call.cu_seqlens is None and call.q.shape[2] == call.k.shape[2]:
        key_lengths = lengths
    return lengths, key_lengths


def _int32(value: Tensor | None, name: str) -> Tensor | None:
    if value is None:
        return None
    if not value.is_cuda:
        raise InvalidInput(f"{name} lies on {value.device}; move it to the tensors' GPU")
    if value.dim() != 1 or value.dtype.is_floating_point:
        raise InvalidInput(f"{name} is {value.dtype} of shape {list(value.shape)}, expected int32 in one dimension")
    return value.to(torch.int32).contiguous()


def _place(x: Tensor, is_packed: bool) -> tuple[int, int, int, int]:
    """Address, and strides of batch, token and head, of [batch, heads, length, ...] or packed [tokens, heads, ...]."""
    if is_packed:
        return (x.data_ptr(), 0, x.stride(0), x.stride(1))
    return (x.data_ptr(), x.stride(0), x.stride(2), x.stride(1))


@functools.lru_cache(maxsize=4096)
def _roles(workload: str) -> dict[str, str]:
    return {name: role for name, role, _ in _harrier.Workload(workload).arrays}


def _readable(x: Tensor, role: str, key_tokens: int) -> Tensor:
    """As kernels read arrays on a device: integers of 32 bits, bit masks with 8 keys a byte, ids of all tokens."""
    if role == "bit mask" and x.dtype == torch.bool:
        return pack_bits(x)
    if x.dtype in (torch.int64, torch.int16, torch.int8):
        x = x.to(torch.int32)
    is_of_every_row = role == "segment ids" and x.dim() == 1 and 0 < x.numel() < key_tokens
    return x.repeat(key_tokens // x.numel()) if is_of_every_row else x


def pack_bits(mask: Tensor) -> Tensor:
    """A bool mask [..., keys] as uint8 [..., ceil(keys / 8)], the lowest bit first."""
    padded = torch.nn.functional.pad(mask.to(torch.uint8), (0, -mask.shape[-1] % 8))
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=mask.device)
    return (padded.unflatten(-1, (-1, 8)) * weights).sum(-1, dtype=torch.uint8)


def _check_columns(named: dict[str, Tensor]) -> None:
    for name, x in named.items():
        if x.stride(-1) != 1 and x.shape[-1] > 1:
            raise InvalidInput(
                f"{name} has stride {x.stride(-1)} in its last dimension, expected 1; make it contiguous there"
            )


def _array_place(x: Tensor, role: str) -> tuple[int, str, tuple[int, ...]]:
    shape = (x.numel(),) if role == "segment ids" else tuple(x.shape)
    return (x.data_ptr(), str(x.dtype).removeprefix("torch."), shape)
