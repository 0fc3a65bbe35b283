"""Stand-ins for tensors on the emulated GPU, which torch itself does not know: a tensor's shape, strides and type, and an
address there. Importing this module makes torch's stream and device those of the emulated GPU."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
import torch
from harrier import torch_cuda

driver = ctypes.CDLL(os.environ["HARRIER_LIBCUDA"])
_context = ctypes.c_void_p()
assert driver.cuInit(0) == 0 and driver.cuDevicePrimaryCtxRetain(ctypes.byref(_context), 0) == 0
assert driver.cuCtxPushCurrent_v2(_context) == 0
torch_cuda._raw_stream = lambda ordinal: 0
torch_cuda._is_capturing = lambda: False
torch_cuda._current_device = lambda: 0


class OnDevice:
    is_cuda, device = True, torch.device("cuda", 0)

    def __init__(self, host: torch.Tensor) -> None:
        self.host = host
        self.bytes = host.untyped_storage().nbytes()
        self.address = ctypes.c_uint64()
        self._version = 0
        assert driver.cuMemAlloc_v2(ctypes.byref(self.address), ctypes.c_size_t(self.bytes)) == 0
        self._copy()

    def _copy(self) -> None:
        start = ctypes.c_void_p(self.host.untyped_storage().data_ptr())
        assert driver.cuMemcpyHtoD_v2(self.address, start, ctypes.c_size_t(self.bytes)) == 0

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)

    def get_device(self) -> int:
        return 0

    def dim(self) -> int:
        return self.host.dim()

    def numel(self) -> int:
        return self.host.numel()

    def stride(self) -> tuple[int, ...]:
        return self.host.stride()

    def is_contiguous(self) -> bool:
        return True

    def data_ptr(self) -> int:
        return self.address.value + self.host.storage_offset() * self.host.element_size()

    def contiguous(self) -> OnDevice:
        return self

    def detach(self) -> OnDevice:
        return self

    def cpu(self) -> torch.Tensor:
        return self.host

    def tolist(self) -> list[Any]:
        return self.host.tolist()

    def to(self, dtype: Any) -> OnDevice:
        return self if dtype == self.dtype else OnDevice(self.host.to(dtype))

    def write(self, values: torch.Tensor) -> None:
        """In place, as torch counts it."""
        self.host.copy_(values)
        self._copy()
        self._version += 1

    def back(self) -> torch.Tensor:
        start = ctypes.c_void_p(self.host.untyped_storage().data_ptr())
        assert driver.cuMemcpyDtoH_v2(start, self.address, ctypes.c_size_t(self.bytes)) == 0
        return self.host


def call_of(q: Any, k: Any, v: Any, arrays: dict[str, Any], **lengths: Any) -> torch_cuda.Call:
    """A call on the device, with outputs of its own; what is no stand-in yet becomes one."""

    def on_device(x: Any) -> Any:
        return OnDevice(x) if isinstance(x, torch.Tensor) else x

    named = ("lengths", "key_lengths", "cu_seqlens", "key_cu_seqlens", "max_seqlen", "key_max_seqlen")
    tensors = {"q": q, "k": k, "v": v, "out": torch.zeros_like(q), "lse": torch.zeros(q.shape[:-1])}
    return torch_cuda.Call(
        **{name: on_device(x) for name, x in tensors.items()},
        **{name: on_device(lengths.get(name)) for name in named},
        arrays={name: on_device(x) for name, x in arrays.items()},
    )


def attend(
    pattern: Any, q: Any, k: Any, v: Any, arrays: dict[str, Any], **lengths: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Output and LSE, of a launch that is prepared, then found again."""
    call = call_of(q, k, v, arrays, **lengths)
    for _ in range(2):
        run(pattern, call)
    return call.out.back().double().numpy(), call.lse.back().numpy()


def run(pattern: Any, call: torch_cuda.Call) -> None:
    text = f"attention x {{ heads 2 kv_heads {call.k.shape[1]} head_dim 64 dtype fp16 {pattern.text} }}"
    torch_cuda.run(call, text, lambda: text)
