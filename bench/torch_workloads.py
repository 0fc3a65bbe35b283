"""The workloads of bench/workloads as PyTorch sees them: the same lengths, arrays and rules."""

import csv
import dataclasses
import pathlib
import random
from typing import Callable, Dict, Optional

import numpy
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class TorchWorkload:
    name: str
    heads: int
    length: int
    head_dim: int
    rule: Optional[Callable]  # (b, h, q, k) -> visible, for tensors of positions; None = all
    causal: bool = False  # the rule is exactly the lower triangle
    per_head: bool = False  # the rule looks at h
    block: int = 128  # block size of FlexAttention's mask that suits the pattern best
    arrays: Dict[str, numpy.ndarray] = dataclasses.field(default_factory=dict)  # what Harrier binds

    @property
    def is_sparse(self):
        return self.rule is not None and not self.causal


def causal(b, h, q, k):
    return k <= q


def window(left, right):
    return lambda b, h, q, k: (k - q >= -left) & (k - q <= right)


def longformer(one_side, globals_):
    near = window(one_side, one_side)
    return lambda b, h, q, k: near(b, h, q, k) | (q < globals_) | (k < globals_)


def random_blocks(heads, rows, count, seed=4):
    """For query blocks 1 to `rows` of each head, different blocks that the row does not see anyway."""
    generator = random.Random(seed)
    table = numpy.empty((heads, rows, count), numpy.int32)
    for head in range(heads):
        for row in range(rows):
            others = [block for block in range(1, rows + 1) if abs(block - (row + 1)) > 1]
            table[head, row] = generator.sample(others, count)
    return table


def bigbird(length, block, table):
    """The block layout of each head as a boolean table. No block is listed twice, so that counting adds nothing."""
    heads, rows, _ = table.shape
    blocks = length // block
    index = torch.arange(blocks)
    visible = ((index[:, None] - index[None, :]).abs() <= 1).repeat(heads, 1, 1)
    visible[:, :, [0, -1]] = True
    visible[:, [0, -1], :] = True
    for head in range(heads):
        for row in range(rows):
            visible[head, row + 1, torch.from_numpy(table[head, row]).long()] = True
    return lambda b, h, q, k: visible[h, q // block, k // block]


def document_segments(length):
    """Segment ids of one sequence, cut by the trace of real document lengths."""
    with open(ROOT / "tests" / "data" / "document_lengths.csv", encoding="utf-8") as file:
        words = [int(row["length"]) for row in csv.DictReader(file)]
    return numpy.repeat(numpy.arange(len(words), dtype=numpy.int32), words)[:length]


def documents(segments):
    ids = torch.from_numpy(segments)
    return lambda b, h, q, k: (ids[q] == ids[k]) & (k <= q)


def all_workloads():
    table = random_blocks(12, 62, 3)
    segments = document_segments(16384)
    return [
        TorchWorkload("dense_4k_d64", 4, 4096, 64, None),
        TorchWorkload("dense_4k_d128", 4, 4096, 128, None),
        TorchWorkload("causal_4k_d64", 4, 4096, 64, causal, causal=True),
        TorchWorkload("causal_4k_d128", 4, 4096, 128, causal, causal=True),
        TorchWorkload("window256_16k_d64", 4, 16384, 64, window(256, 0)),
        TorchWorkload(
            "bigbird_4k_d64", 12, 4096, 64, bigbird(4096, 64, table), per_head=True, block=64, arrays={"table": table}
        ),
        TorchWorkload("longformer_4k_d64", 12, 4096, 64, longformer(256, 16)),
        TorchWorkload("documents_16k_d64", 4, 16384, 64, documents(segments), arrays={"segment": segments}),
    ]


def dense_mask(workload):
    """The rule for every pair: bool [1, heads or 1, length, length]."""
    heads = torch.arange(workload.heads if workload.per_head else 1)[:, None, None]
    k = torch.arange(workload.length)[None, None, :]
    rows = []
    for begin in range(0, workload.length, 512):
        q = torch.arange(begin, min(begin + 512, workload.length))[None, :, None]
        rows.append(workload.rule(torch.zeros((), dtype=torch.long), heads, q, k))
    return torch.cat(rows, dim=1)[None]


def visible_pairs(workload, mask):
    if workload.rule is None:
        return workload.heads * workload.length**2
    pairs = int(mask.sum())
    return pairs if workload.per_head else pairs * workload.heads
