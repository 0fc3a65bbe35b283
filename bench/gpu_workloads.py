"""The attention workloads on which the compiler and its peers are compared.

Every workload is (batch, query heads, kv heads, length, head dim, mask rule). The mask rule is a
function of (b, h, q, k) index tensors that returns a bool tensor: True = attend.
`nnz` counts the attended (q, k) pairs exactly, so TFLOP/s are useful FLOPs only:
forward = 4*nnz*D (two products, 2 FLOPs a multiply-add), backward = 2.5 * forward.
"""
from dataclasses import dataclass
from typing import Callable, Optional
import torch


@dataclass
class Workload:
    name: str
    batch: int
    q_heads: int
    kv_heads: int
    length: int
    head_dim: int
    rule: Optional[Callable]          # None = dense
    causal: bool = False              # the rule is exactly the lower triangle
    backward: bool = True
    pattern: str = "mask all"         # the same in Harrier's language
    arrays: Optional[Callable] = None  # () -> {name: tensor}

    def text(self, direction="forward"):
        return (f"attention {self.name} {{\n  heads {self.q_heads}  kv_heads {self.kv_heads}  head_dim {self.head_dim}  dtype bf16\n"
                f"  direction {direction}\n"
                f"  {self.pattern}\n  lengths fixed({self.length})  batch {self.batch}\n}}\n")


def causal(b, h, q, k):
    return q >= k


def sliding_causal(window):
    return lambda b, h, q, k: (q >= k) & (q - k < window)


def longformer(window, n_global):
    half = window // 2
    return lambda b, h, q, k: ((q - k).abs() <= half) | (q < n_global) | (k < n_global)


def bigbird_table(length, block, n_random, seed=0):
    """Block layout [nb, nb] of BigBird: 3-block window, first and last block global, n_random per row."""
    nb = length // block
    g = torch.Generator().manual_seed(seed)
    t = torch.zeros(nb, nb, dtype=torch.bool)
    i = torch.arange(nb)
    t |= (i[:, None] - i[None, :]).abs() <= 1
    t[0, :] = t[-1, :] = True
    t[:, 0] = t[:, -1] = True
    for r in range(1, nb - 1):
        free = (~t[r]).nonzero().flatten()
        t[r, free[torch.randperm(len(free), generator=g)[:n_random]]] = True
    return t


def random_table(length, block, density, seed=0):
    nb = length // block
    g = torch.Generator().manual_seed(seed)
    t = torch.rand(nb, nb, generator=g) < density
    i = torch.arange(nb)
    t[i, i] = True
    return t


def block_rule(table, block, device="cuda"):
    t = table.to(device)
    return lambda b, h, q, k: t[q // block, k // block]


def document_ids(length, mean, seed=0):
    """The document of each token; lengths are lognormal (sigma 0.8), the sum is `length`."""
    g = torch.Generator().manual_seed(seed)
    ids, d, left = torch.empty(length, dtype=torch.int32), 0, length
    while left > 0:
        n = int(min(left, max(16, torch.exp(torch.randn(1, generator=g) * 0.8) * mean * 0.726)))
        ids[length - left: length - left + n] = d
        d, left = d + 1, left - n
    return ids


def documents(length, mean, seed=0, device="cuda"):
    """Causal inside each document."""
    ids = document_ids(length, mean, seed).to(device)
    return lambda b, h, q, k: (ids[q] == ids[k]) & (q >= k)


def all_workloads():
    return [
        Workload("dense_8k_d128", 1, 16, 16, 8192, 128, None),
        Workload("causal_8k_d128", 1, 16, 16, 8192, 128, causal, causal=True, pattern="mask causal"),
        Workload("causal_8k_d64", 1, 32, 32, 8192, 64, causal, causal=True, pattern="mask causal"),
        Workload("causal_gqa_16k_d128", 1, 32, 8, 16384, 128, causal, causal=True, pattern="mask causal"),
        Workload("sliding1k_32k_d128", 1, 16, 16, 32768, 128, sliding_causal(1024), pattern="mask window(1023, 0)"),
        Workload("longformer_4k_d64", 8, 12, 12, 4096, 64, longformer(512, 64), pattern="mask window(256, 256) | global(64)"),
        Workload("bigbird_4k_d64", 8, 12, 12, 4096, 64, block_rule(bigbird_table(4096, 64, 3), 64),
                 pattern="mask blocks(64, @table)", arrays=lambda: {"table": bigbird_table(4096, 64, 3)}),
        Workload("bigbird_16k_d64", 2, 12, 12, 16384, 64, block_rule(bigbird_table(16384, 64, 3), 64),
                 pattern="mask blocks(64, @table)", arrays=lambda: {"table": bigbird_table(16384, 64, 3)}),
        Workload("block128_10pct_32k_d128", 1, 16, 16, 32768, 128, block_rule(random_table(32768, 128, .10), 128),
                 pattern="mask blocks(128, @table)", arrays=lambda: {"table": random_table(32768, 128, .10)}),
        Workload("block64_10pct_16k_d64", 1, 16, 16, 16384, 64, block_rule(random_table(16384, 64, .10), 64),
                 pattern="mask blocks(64, @table)", arrays=lambda: {"table": random_table(16384, 64, .10)}),
        Workload("documents_32k_d128", 1, 16, 16, 32768, 128, documents(32768, 2048),
                 pattern="mask documents(@segment) & causal", arrays=lambda: {"segment": document_ids(32768, 2048)}),
    ]


def nnz(w: Workload, device="cuda"):
    """Attended pairs of one head of one batch row (the rules here ignore b and h)."""
    if w.rule is None:
        return w.length * w.length
    total, step = 0, 1024
    k = torch.arange(w.length, device=device)[None, :]
    for q0 in range(0, w.length, step):
        q = torch.arange(q0, min(q0 + step, w.length), device=device)[:, None]
        total += int(w.rule(None, None, q, k).sum())
    return total
