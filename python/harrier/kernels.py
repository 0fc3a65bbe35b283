"""Compiling patterns, and calling what comes out on arrays of the host."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from . import _harrier, host_arrays
from ._harrier import InvalidInput
from .masks import Mask
from .patterns import Pattern, as_pattern
from .workloads import Shape, Workload

Backend = Literal["cpu", "cuda"]


@dataclass
class Gradients:
    """Gradients of q, k and v, and by name those of the pattern's float arrays that were asked for."""

    q: Any
    k: Any
    v: Any
    arrays: dict[str, Any] = field(default_factory=dict)


@functools.cache
def cpu_compiler(threads: int) -> _harrier.CpuCompiler:
    """One for the process, so that patterns that differ in numbers alone share their code."""
    return _harrier.CpuCompiler(threads)


@functools.cache
def gpu(ordinal: int) -> _harrier.Gpu:
    """A GPU of this machine, opened once. Raises DeviceError."""
    return _harrier.Gpu(ordinal)


@functools.cache
def cuda_compiler(ordinal: int) -> _harrier.CudaCompiler:
    """One for each GPU of the process, with the cache on disk behind it."""
    return _harrier.CudaCompiler(gpu(ordinal))


class Kernel:
    """A compiled pattern. Call it on arrays; it may be called from several threads at once.

        out = kernel(q, k, v)
        out, lse = kernel(q, k, v, return_lse=True)
        gradients = kernel.backward(d_out, q, k, v, out, lse)

    Padded arrays are [batch, heads, length, dim], packed ones [tokens, heads, dim] with `cu_seqlens`. Any strides will
    do as long as the last dimension is contiguous; nothing is copied.
    """

    def __init__(
        self, pattern: Pattern, shape: Shape, backend: Backend = "cpu", threads: int = 0, deterministic: bool = False
    ) -> None:
        if backend not in ("cpu", "cuda"):
            raise InvalidInput(f"backend is {backend!r}, expected 'cpu' or 'cuda'")
        self.pattern = pattern
        self.shape = shape
        self.backend = backend
        self.threads = threads
        self.deterministic = deterministic
        self._forward = self._compiled("forward")

    def __call__(
        self,
        q: Any,
        k: Any,
        v: Any,
        *,
        lengths: Any = None,
        key_lengths: Any = None,
        cu_seqlens: Any = None,
        key_cu_seqlens: Any = None,
        arrays: Mapping[str, Any] | None = None,
        out: Any = None,
        return_lse: bool = False,
    ) -> Any:
        """Attention: softmax(score(q k^T)) v under the mask, for every sequence and head.

        q: [batch, heads, length, head_dim], or packed [tokens, heads, head_dim] with `cu_seqlens`; k and v likewise with
        kv_heads; all of the kernel's type. `lengths` and `key_lengths`: valid lengths of padded rows, [batch].
        `cu_seqlens` and `key_cu_seqlens`: offsets of packed sequences, [batch + 1], from 0. `arrays`: those of the
        pattern's arrays that it does not carry, by name. `out`: where to write, instead of a new array.

        Returns the output, of q's library and type; with `return_lse` also the logarithm of each softmax's denominator,
        float32 [batch, heads, length] or [tokens, heads], -inf where a query sees no key.

        Raises InvalidInput, before anything is written, for shapes, types, strides, lengths and arrays that do not fit.
        """
        out_shape = (*q.shape[:-1], v.shape[-1])
        out = host_arrays.empty_like(q, out_shape) if out is None else out
        lse = host_arrays.empty_floats(q, out_shape[:-1]) if return_lse else None
        q, k, v = (host_arrays.readable(x, name) for x, name in ((q, "q"), (k, "k"), (v, "v")))
        call_lengths = host_arrays.lengths_of(lengths, key_lengths, cu_seqlens, key_cu_seqlens)
        self._forward.run(q, k, v, host_arrays.readable(out, "out"), lse, call_lengths, self._arrays(arrays))
        return (out, lse) if return_lse else out

    def backward(
        self,
        d_out: Any,
        q: Any,
        k: Any,
        v: Any,
        out: Any,
        lse: Any,
        *,
        lengths: Any = None,
        key_lengths: Any = None,
        cu_seqlens: Any = None,
        key_cu_seqlens: Any = None,
        arrays: Mapping[str, Any] | None = None,
        wanted: tuple[str, ...] = (),
    ) -> Gradients:
        """Gradients of sum(out * d_out). `out` and `lse` are what the call wrote, all else as in the call; `wanted` names
        float arrays of the pattern (see `Pattern.learned`) whose gradients, float32, are asked for too.

        Raises InvalidInput as the call does, and for arrays that have no gradient.
        """
        kernel = self._compiled("backward deterministic" if self.deterministic else "backward")
        bound = self._arrays(arrays)
        for name in wanted:
            if name not in bound:
                raise InvalidInput(
                    f"@{name} is not bound; name arrays of the pattern in wanted: {', '.join(bound) or 'none'}"
                )
        gradients = Gradients(*(host_arrays.empty_like(x, tuple(x.shape)) for x in (q, k, v)))
        gradients.arrays = {name: host_arrays.empty_floats(q, tuple(bound[name].shape)) for name in wanted}
        read = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "d_out": d_out}
        written = {"d_q": gradients.q, "d_k": gradients.k, "d_v": gradients.v}
        kernel.run_backward(
            **{name: host_arrays.readable(x, name) for name, x in (read | written).items()},
            d_arrays=gradients.arrays,
            lengths=host_arrays.lengths_of(lengths, key_lengths, cu_seqlens, key_cu_seqlens),
            arrays=bound,
        )
        return gradients

    @property
    def plan(self) -> str:
        """The numbers that were chosen: tiles, register blocks."""
        return self._forward.plan

    def code(self) -> str:
        """What was compiled: LLVM IR, or CUDA."""
        return self._forward.code()

    def __repr__(self) -> str:
        return f"Kernel({self.pattern!r}, {self.shape!r}, backend={self.backend!r})"

    def _compiled(self, direction: str) -> Any:
        """Kept with the pattern, which many kernels may be made of."""
        key = (self.shape, direction, self.backend, self.threads)
        compiled = self.pattern.compiled.get(key)
        if compiled is None:
            compiler = cpu_compiler(self.threads) if self.backend == "cpu" else cuda_compiler(0)
            compiled = compiler.compile(self.pattern.workload(self.shape.text(direction)))
            self.pattern.compiled[key] = compiled
        return compiled

    def _arrays(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        arrays = {**self.pattern.arrays, **given} if given else self.pattern.arrays
        return {name: host_arrays.dense(value, f"@{name}") for name, value in arrays.items()}


def compile(
    pattern: Pattern | Mask | Workload | str,
    shape: Shape | None = None,
    *,
    backend: Backend = "cpu",
    threads: int = 0,
    deterministic: bool = False,
) -> Kernel:
    """Compiles a pattern for a shape.

    `pattern`: an `hr.Pattern`, a mask, a mask's text, or a workload, which has its own shape. `backend`: "cpu", or "cuda"
    for a GPU that arrays of the host are copied to (`hr.attention` takes tensors that lie on one). `threads`: at most so
    many; 0 takes every core. `deterministic`: gradients with the same bits every time, as `hr.attention` has it; a workload
    may ask for that itself.

    Patterns that differ in numbers alone (windows, scales) share one compiled function, whatever the lengths.

    Raises InvalidInput, ToolchainError (LLVM is not built in, NVRTC is missing), DeviceError (no GPU).
    """
    if isinstance(pattern, Workload):
        if shape is not None:
            raise InvalidInput("a workload has a shape; give a pattern to compile it for another")
        return Kernel(pattern.pattern, pattern.shape, backend, threads, deterministic or pattern.deterministic)
    if shape is None:
        raise InvalidInput("shape is missing; give hr.Shape(heads=..., head_dim=...)")
    return Kernel(as_pattern(pattern), shape, backend, threads, deterministic)


def compilations(backend: Backend = "cpu", ordinal: int = 0) -> int:
    """How many functions this process has compiled for its CPU with the default number of threads, or with "cuda" how many
    kernels for a GPU."""
    return cpu_compiler(0).compilations if backend == "cpu" else cuda_compiler(ordinal).compilations
