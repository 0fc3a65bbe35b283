"""What FlexAttention's functions mean: each is evaluated for every pair by torch.vmap, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from flex_mods import BATCH, DIM, HEADS, Mods

Tensor = Any


def for_each_pair(mod: Callable[..., Any], first: tuple[Tensor, ...], q_len: int, k_len: int, device: Any) -> Tensor:
    """mod(*first, b, h, q, k) for all pairs."""
    indices = [torch.arange(n, device=device) for n in (BATCH, HEADS, q_len, k_len)]
    for level in (3, 2, 1, 0):
        in_dims = (0,) * len(first) + tuple(0 if i == level else None for i in range(4))
        mod = torch.vmap(mod, in_dims=in_dims)
    return mod(*first, *indices)


def dense(q: Tensor, k: Tensor, v: Tensor, mods: Mods) -> Tensor:
    """Attention in double precision, under a function's values for all pairs."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(group, 1) for x in (k, v))
    s = q.double() @ k.transpose(-1, -2) / DIM**0.5
    if mods.score_mod is not None:
        s = for_each_pair(mods.score_mod, (s,), mods.q_len, mods.k_len, q.device).double()
    if mods.mask_mod is not None:
        visible = for_each_pair(mods.mask_mod, (), mods.q_len, mods.k_len, q.device)
        s = s.masked_fill(~visible.expand(BATCH, HEADS, mods.q_len, mods.k_len), float("-inf"))
    return torch.nan_to_num(s.softmax(-1)) @ v


def tensors(draw: Any, mods: Mods, kv_heads: int = HEADS) -> list[Tensor]:
    shapes = [(BATCH, HEADS, mods.q_len, DIM), *[(BATCH, kv_heads, mods.k_len, DIM)] * 2]
    return [draw(*shape).requires_grad_() for shape in shapes]
