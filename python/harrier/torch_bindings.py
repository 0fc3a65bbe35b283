"""Lengths and arrays of calls on a GPU, bound for as long as they stand.

Calls that differ in q, k and v alone share a binding: its lists and order of work are built anew where a length or an array
is another tensor than before, or was written to since, as torch counts it (`Tensor._version`). What torch does not count,
tensors of inference mode, is built anew by every call. Writes that torch does not see (a CUDA graph's replay, another
library) are not seen here either; calls inside that graph do see them, for they build anew by every replay.

A binding of the host takes more time to make, waits for the device, and gives faster launches: rows are split where they
must be, and sorted documents need no comparisons. Calls without lengths and arrays have one at once, others when the same
tensors have served many times; so do arrays that must be looked at before a kernel may read them.
"""

from __future__ import annotations

import collections
import functools
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from . import _harrier
from ._harrier import InvalidInput
from .kernels import cuda_compiler

Tensor = torch.Tensor

_MOST_BINDINGS = 256
_USES_BEFORE_LOOKING = 256  # of the same tensors, before the host waits for them: more than models have layers
_WORTH_LOOKING = {"segment ids", "block table", "block list offsets", "block list indices", "random blocks"}


@dataclass
class Inputs:
    """What a call has beside q, k and v: lengths and arrays on the device."""

    lengths: Tensor | None
    key_lengths: Tensor | None
    cu_seqlens: Tensor | None
    key_cu_seqlens: Tensor | None
    arrays: dict[str, Tensor]
    extents: tuple[int, bool, int, int, int, int]  # batch, whether packed, tokens, longest sequences; queries then keys

    def tensors(self) -> list[Tensor]:
        named = (self.lengths, self.key_lengths, self.cu_seqlens, self.key_cu_seqlens)
        return [x for x in named if x is not None] + list(self.arrays.values())


class Watch:
    """Tensors as they were."""

    __slots__ = ("_seen",)

    def __init__(self, tensors: list[Tensor]) -> None:
        self._seen = [(weakref.ref(x), _version(x)) for x in tensors]

    def stand(self, tensors: list[Tensor]) -> bool:
        """Whether these are the same ones, and nobody wrote to them."""
        for x, (seen, version) in zip(tensors, self._seen, strict=True):
            if seen() is not x or version is None or x._version != version:
                return False
        return True


def _version(x: Tensor) -> int | None:
    try:
        return x._version
    except RuntimeError:  # a tensor of inference mode
        return None


@dataclass(eq=False)
class Bound:
    """A binding, and what it was made of."""

    kernel: _harrier.CudaKernel
    held: _harrier.CudaBinding
    watch: Watch
    is_looked_at: bool  # bound by the host: there is nothing to build
    uses: int = 0
    is_refused: bool = False  # not to be looked at again

    def serves(self, tensors: list[Tensor]) -> bool:
        """Whether it serves a call of these lengths and arrays as it is; `bound_for` looks closer where it does not."""
        self.uses += 1
        return self.watch.stand(tensors) and (self.is_looked_at or self.is_refused or self.uses < _USES_BEFORE_LOOKING)


_bindings: collections.OrderedDict[Any, Bound] = collections.OrderedDict()
_refused_unseen: set[str] = set()  # workloads that the host must look at after all


def bound_for(inputs: Inputs, workload: str, ordinal: int, stream: int) -> tuple[Bound, bool]:
    """A binding of these inputs, and whether its next launch builds. Raises InvalidInput. Callers hold a lock."""
    tensors = inputs.tensors()
    if not tensors and not needs_host(workload):
        return _kept((workload, ordinal, inputs.extents), lambda: _looked_at(inputs, workload, ordinal)), False
    if needs_host(workload) or workload in _refused_unseen:
        key = (workload, ordinal, stream, inputs.extents, *(x.data_ptr() for x in tensors))
        known = _bindings.get(key)
        if known is not None and not known.watch.stand(tensors):
            del _bindings[key]
        return _kept(key, lambda: _looked_at(inputs, workload, ordinal)), False
    read = _Readable(inputs, workload, lambda *of: _kept_conversion(stream, *of))
    key = (workload, ordinal, stream, *read.place)
    known = _bindings.get(key)
    if known is not None and known.watch.stand(tensors):
        known.uses += 1
        if known.uses > _USES_BEFORE_LOOKING and not known.is_looked_at and not known.is_refused:
            _look(known, inputs, workload, ordinal)
        _bindings.move_to_end(key)
        return known, False
    if known is not None and not known.is_looked_at:
        known.watch, known.uses, known.is_refused = Watch(tensors), 0, False
        return known, True
    _bindings.pop(key, None)
    try:
        return _kept(key, lambda: _unseen(read, tensors, workload, ordinal)), True
    except InvalidInput:
        # Tables that are looked up pair by pair, among others, must be on the host, which says what else is wrong.
        _looked_at(inputs, workload, ordinal)
        _refused_unseen.add(workload)
        return bound_for(inputs, workload, ordinal, stream)


def captured_bound_for(inputs: Inputs, workload: str, ordinal: int) -> Bound:
    """A binding for a CUDA graph's own use, whose every launch builds. Raises InvalidInput."""
    if needs_host(workload):
        raise InvalidInput(
            "arrays that are indexed, lists of global tokens and seeded blocks are looked at by the host, which a CUDA graph "
            "cannot hold; use documents, blocks, bits or a bias"
        )
    known = _bindings.get((workload, ordinal, inputs.extents))
    if known is not None and not inputs.tensors():
        return known
    return _unseen(_Readable(inputs, workload, _converted), [], workload, ordinal)


def _kept(key: Any, make: Any) -> Bound:
    known = _bindings.get(key)
    if known is None:
        known = _bindings[key] = make()
        while len(_bindings) > _MOST_BINDINGS:
            _bindings.popitem(last=False)
    else:
        _bindings.move_to_end(key)
    return known


@functools.lru_cache(maxsize=4096)
def kernel_of(workload: str, ordinal: int) -> _harrier.CudaKernel:
    """A workload's kernel, compiled once. Raises InvalidInput, ToolchainError, DeviceError."""
    return cuda_compiler(ordinal).compile(_harrier.Workload(workload))


@functools.lru_cache(maxsize=4096)
def _roles(workload: str) -> dict[str, str]:
    return {name: role for name, role, _ in _harrier.Workload(workload).arrays}


@functools.lru_cache(maxsize=4096)
def needs_host(workload: str) -> bool:
    """Whether arrays must be looked at before a kernel may read them: those that are indexed, and lists of tokens."""
    is_drawn = re.search(r"\bseed\b", workload) is not None  # BigBird's random blocks
    return is_drawn or any(role in ("global tokens", "int array", "float array") for role in _roles(workload).values())


def _unseen(read: _Readable, tensors: list[Tensor], workload: str, ordinal: int) -> Bound:
    kernel = kernel_of(workload, ordinal)
    return Bound(kernel, kernel.bind_on_device(*read.place[:-1], dict(read.place[-1])), Watch(tensors), False)


def _looked_at(inputs: Inputs, workload: str, ordinal: int) -> Bound:
    """Waits for lengths and arrays, and brings them there again as kernels read them. Raises InvalidInput."""
    kernel = kernel_of(workload, ordinal)
    batch, is_packed, query_tokens, key_tokens, query_extent, key_extent = inputs.extents
    lengths, key_lengths, offsets, key_offsets = (
        [] if x is None else x.tolist()
        for x in (inputs.lengths, inputs.key_lengths, inputs.cu_seqlens, inputs.key_cu_seqlens)
    )
    if not is_packed and inputs.key_lengths is None and query_extent == key_extent:
        key_lengths = lengths
    held = kernel.bind(
        _harrier.Lengths(lengths, key_lengths, offsets, key_offsets),
        query_tokens if is_packed else batch,
        query_tokens if is_packed else query_extent,
        key_tokens if is_packed else key_extent,
        {name: x.detach().cpu().numpy() for name, x in inputs.arrays.items()},
    )
    return Bound(kernel, held, Watch(inputs.tensors()), True)


def _look(known: Bound, inputs: Inputs, workload: str, ordinal: int) -> None:
    """Binds by the host what has stood for long, where that is worth it."""
    if not set(_roles(workload).values()) <= _WORTH_LOOKING:
        known.is_refused = True
        return
    try:
        seen = _looked_at(inputs, workload, ordinal)
    except InvalidInput:  # the device passes over what the host refuses: blocks past a sequence
        known.is_refused = True
        return
    known.held, known.is_looked_at = seen.held, True


class _Readable:
    """Inputs as kernels read them, and where they lie: what bind_on_device takes."""

    def __init__(self, inputs: Inputs, workload: str, convert: Callable[[Tensor, str, int], Tensor]) -> None:
        offsets = tuple(
            None if x is None else convert(_checked(x, name), "lengths", 0)
            for x, name in ((inputs.cu_seqlens, "cu_seqlens"), (inputs.key_cu_seqlens, "key_cu_seqlens"))
        )
        lengths, key_lengths = (
            None if x is None else convert(_checked(x, name), "lengths", 0)
            for x, name in ((inputs.lengths, "lengths"), (inputs.key_lengths, "key_lengths"))
        )
        _, is_packed, _, key_tokens, longest, key_longest = inputs.extents
        if key_lengths is None and not is_packed and longest == key_longest:
            key_lengths = lengths
        roles = _roles(workload) if inputs.arrays else {}
        arrays = {name: convert(x, roles[name], key_tokens) for name, x in inputs.arrays.items()}
        self.keeps = (offsets, lengths, key_lengths, arrays)  # until the call that reads them is enqueued
        self.place = (
            *inputs.extents,
            _addresses(offsets),
            _addresses((lengths, key_lengths)),
            tuple((name, _array_place(x, roles[name])) for name, x in arrays.items()),
        )


class _Conversion(NamedTuple):
    purpose: tuple[int, str, int]  # the stream on which it was made and is read, the role, how many keys
    watch: Watch
    made: Tensor
    forget: Any  # a weak reference that takes this away with its source


_conversions: dict[int, _Conversion] = {}


def _kept_conversion(stream: int, x: Tensor, role: str, key_tokens: int) -> Tensor:
    """As `_converted`, made once while a tensor stands."""
    if not _needs_conversion(x, role, key_tokens):
        return x
    purpose = (stream, role, key_tokens)
    known = _conversions.get(id(x))
    if known is not None and known.purpose == purpose and known.watch.stand([x]):
        return known.made
    made = _converted(x, role, key_tokens)
    forget = weakref.ref(x, lambda _, key=id(x): _conversions.pop(key, None))  # type: ignore[misc]
    _conversions[id(x)] = _Conversion(purpose, Watch([x]), made, forget)
    return made


def _needs_conversion(x: Tensor, role: str, key_tokens: int) -> bool:
    is_other = x.dtype in (torch.int64, torch.int16, torch.int8) or (role == "bit mask" and x.dtype == torch.bool)
    is_of_every_row = role == "segment ids" and x.dim() == 1 and 0 < x.numel() < key_tokens
    return is_other or is_of_every_row or (role == "lengths" and not x.is_contiguous())


def _converted(x: Tensor, role: str, key_tokens: int) -> Tensor:
    """As kernels read arrays on a device: integers of 32 bits, bit masks with 8 keys a byte, ids of all tokens."""
    if role == "bit mask" and x.dtype == torch.bool:
        return pack_bits(x)
    if role == "lengths":
        return x.to(torch.int32).contiguous()
    if x.dtype in (torch.int64, torch.int16, torch.int8):
        x = x.to(torch.int32)
    is_of_every_row = role == "segment ids" and x.dim() == 1 and 0 < x.numel() < key_tokens
    return x.repeat(key_tokens // x.numel()) if is_of_every_row else x


def pack_bits(mask: Tensor) -> Tensor:
    """A bool mask [..., keys] as uint8 [..., ceil(keys / 8)], the lowest bit first."""
    padded = torch.nn.functional.pad(mask.to(torch.uint8), (0, -mask.shape[-1] % 8))
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=mask.device)
    return (padded.unflatten(-1, (-1, 8)) * weights).sum(-1, dtype=torch.uint8)


def _checked(value: Tensor, name: str) -> Tensor:
    if not value.is_cuda:
        raise InvalidInput(f"{name} lies on {value.device}; move it to the tensors' GPU")
    if value.dim() != 1 or value.dtype.is_floating_point:
        raise InvalidInput(f"{name} is {value.dtype} of shape {list(value.shape)}, expected int32 in one dimension")
    return value


def _addresses(pair: Any) -> tuple[int, int]:
    return (0 if pair[0] is None else pair[0].data_ptr(), 0 if pair[1] is None else pair[1].data_ptr())


def _array_place(x: Tensor, role: str) -> tuple[int, str, tuple[int, ...]]:
    shape = (x.numel(),) if role == "segment ids" else tuple(x.shape)
    return (x.data_ptr(), str(x.dtype).removeprefix("torch."), shape)
