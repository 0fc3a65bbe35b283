"""Arrays of the host as kernels take them: NumPy, torch on the CPU, anything with DLPack. Nothing is copied that need not be."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ._harrier import InvalidInput, Lengths


def is_torch(value: Any) -> bool:
    """Whether it is a tensor of torch; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def readable(value: Any, name: str) -> Any:
    """What the extension reads: an array whose memory it can see.

    NumPy knows no bfloat16, so arrays of ml_dtypes' are handed on as their bits. Raises InvalidInput for what is no array.
    """
    if is_torch(value):
        return value.detach()
    if isinstance(value, np.ndarray):
        return value.view(np.uint16) if value.dtype.name == "bfloat16" else value
    if hasattr(value, "__dlpack__"):
        return value
    if isinstance(value, (list, tuple, int, float)):
        return np.asarray(value)
    raise InvalidInput(f"{name} is {type(value).__name__}, expected an array of NumPy, torch or DLPack; convert it")


def dense(value: Any, name: str) -> Any:
    """As `readable`, without gaps between elements: a copy where there are some."""
    value = readable(value, name)
    if is_torch(value):
        return value.contiguous()
    return np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value


def dtype_name(value: Any, name: str) -> str:
    """The language's name of an array's type. uint16 counts as the bits of bfloat16."""
    names = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "uint16": "bf16"}
    dtype = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    if dtype not in names:
        raise InvalidInput(f"{name} holds {dtype}, kernels take float32, float16 and bfloat16; convert it")
    return names[dtype]


def empty_like(model: Any, shape: tuple[int, ...]) -> Any:
    """An array of the model's library and type, for a kernel to write."""
    if is_torch(model):
        return model.new_empty(shape)
    if isinstance(model, np.ndarray):
        return np.empty(shape, model.dtype)
    return np.empty(shape, np.from_dlpack(model).dtype)


def empty_floats(model: Any, shape: tuple[int, ...]) -> Any:
    """The same, of float32."""
    if is_torch(model):
        import torch

        return model.new_empty(shape, dtype=torch.float32)
    return np.empty(shape, np.float32)


def integers(value: Any, name: str) -> list[int]:
    """Lengths or offsets from an array or a sequence; an empty list for None."""
    if value is None:
        return []
    numbers = np.asarray(value.detach().cpu() if is_torch(value) else value)
    if numbers.ndim != 1 or (numbers.size and not np.issubdtype(numbers.dtype, np.integer)):
        raise InvalidInput(
            f"{name} is an array of {numbers.dtype} with shape {list(numbers.shape)}, expected whole numbers in one dimension"
        )
    return numbers.tolist()


def lengths_of(lengths: Any, key_lengths: Any, cu_seqlens: Any, key_cu_seqlens: Any) -> Lengths:
    """The lengths of a call, from arrays or sequences of whole numbers."""
    return Lengths(
        integers(lengths, "lengths"),
        integers(key_lengths, "key_lengths"),
        integers(cu_seqlens, "cu_seqlens"),
        integers(key_cu_seqlens, "key_cu_seqlens"),
    )
