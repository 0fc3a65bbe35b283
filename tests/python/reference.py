"""Attention in double precision, dense and quadratic, sharing nothing with the package: what its results are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Grid:
    """Positions of all pairs of one sequence, and its place in the batch."""

    q_len: int
    k_len: int
    batch: int = 0
    head: int = 0

    def __post_init__(self) -> None:
        self.q = np.arange(self.q_len)[:, None] + np.zeros((1, self.k_len), int)
        self.k = np.arange(self.k_len)[None, :] + np.zeros((self.q_len, 1), int)
        self.aligned = self.q + (self.k_len - self.q_len)


Counts = Callable[[Grid], np.ndarray]  # how often each pair counts


def attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    counts: Counts,
    *,
    scale: float | None = None,
    score: Callable[[np.ndarray, Grid], np.ndarray] = lambda s, grid: s,
) -> tuple[np.ndarray, np.ndarray]:
    """Output and LSE of arrays [batch, heads, length, dim]; key heads are shared among query heads."""
    batch, heads, q_len, dim = q.shape
    kv_heads, k_len = k.shape[1:3]
    out = np.zeros((batch, heads, q_len, v.shape[-1]))
    lse = np.full((batch, heads, q_len), -np.inf)
    for i in range(batch):
        for head in range(heads):
            grid = Grid(q_len, k_len, i, head)
            kv_head = head // (heads // kv_heads)
            s = np.float64(q[i, head]) @ np.float64(k[i, kv_head]).T * (dim**-0.5 if scale is None else scale)
            weights = counts(grid) * np.exp(score(s, grid))
            total = weights.sum(1)
            seen = total > 0
            out[i, head, seen] = (weights[seen] @ np.float64(v[i, kv_head])) / total[seen, None]
            lse[i, head, seen] = np.log(total[seen])
    return out, lse


def gradients(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, d_out: np.ndarray, counts: Counts
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of sum(attend(...) * d_out) for plain scores."""
    q, k, v, d_out = (np.float64(x) for x in (q, k, v, d_out))
    group = q.shape[1] // k.shape[1]
    scale = q.shape[-1] ** -0.5
    d_q, d_k, d_v = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for i in range(q.shape[0]):
        for head in range(q.shape[1]):
            at = (i, head // group)
            weights = counts(Grid(q.shape[2], k.shape[2], i, head)) * np.exp(q[i, head] @ k[at].T * scale)
            total = weights.sum(1, keepdims=True)
            p = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
            d_p = d_out[i, head] @ v[at].T
            d_s = p * (d_p - (p * d_p).sum(1, keepdims=True)) * scale
            d_v[at] += p.T @ d_out[i, head]
            d_q[i, head] = d_s @ k[at]
            d_k[at] += d_s.T @ q[i, head]
    return d_q, d_k, d_v


def bits_from_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 numbers that bfloat16 holds, as its bits."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def rounded_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The nearest numbers below in magnitude that bfloat16 holds, as float32."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def floats_from_bits(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)
