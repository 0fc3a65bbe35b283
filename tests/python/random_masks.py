"""Random masks, each beside its meaning written down once more with NumPy."""

from __future__ import annotations

import harrier as hr
import numpy as np
from reference import Counts, Grid


def random_atom(rng: np.random.Generator, q_len: int, k_len: int) -> tuple[hr.Mask, Counts]:
    left, right, n, step = (int(x) for x in rng.integers(0, [k_len, k_len, k_len, 5]))
    step += 1
    segment = np.sort(rng.integers(0, 4, k_len)).astype(np.int32)
    tokens = rng.integers(-1, k_len, 3).astype(np.int32)
    size = int(rng.integers(3, 20))
    table = rng.random((-(-q_len // size), -(-k_len // size))) < 0.4
    bits = rng.random((q_len, k_len)) < 0.3

    def is_global(grid: Grid) -> np.ndarray:
        listed = tokens[tokens >= 0]
        return np.isin(grid.aligned, listed) | np.isin(grid.k, listed)

    def same_document(grid: Grid) -> np.ndarray:
        # A query before all keys is in no document.
        return (grid.aligned >= 0) & (segment[np.maximum(grid.aligned, 0)] == segment[grid.k])

    def in_window(grid: Grid) -> np.ndarray:
        return (grid.aligned - grid.k <= left) & (grid.k - grid.aligned <= right)

    atoms: list[tuple[hr.Mask, Counts]] = [
        (hr.all, lambda g: np.ones_like(g.q, bool)),
        (hr.none, lambda g: np.zeros_like(g.q, bool)),
        (hr.causal, lambda g: g.k <= g.aligned),
        (hr.window(left, right), in_window),
        (hr.window(None, right), lambda g: g.k - g.aligned <= right),
        (hr.dilated(left, right, step=step), lambda g: in_window(g) & ((g.aligned - g.k) % step == 0)),
        (hr.sink(n), lambda g: g.k < n),
        (hr.prefix(n), lambda g: g.k < n),
        (hr.global_(n), lambda g: ((g.aligned >= 0) & (g.aligned < n)) | (g.k < n)),
        (hr.global_(n, "keys"), lambda g: g.k < n),
        (hr.global_(tokens), is_global),
        (hr.documents(segment), same_document),
        (hr.blocks(size, table[None].astype(np.uint8)), lambda g: table[g.q // size, g.k // size]),
        (hr.bits(bits), lambda g: bits),
        (hr.where((hr.q * 3 + hr.k) % step == 0), lambda g: (g.q * 3 + g.k) % step == 0),
        (
            hr.where(hr.array(segment)[hr.k] + hr.h > step // 2),
            lambda g: segment[g.k] + g.head > step // 2,
        ),
    ]
    return atoms[rng.integers(len(atoms))]


def random_mask(rng: np.random.Generator, q_len: int, k_len: int, depth: int = 3) -> tuple[hr.Mask, Counts]:
    kind = rng.integers(4)
    if depth == 0 or kind == 0:
        return random_atom(rng, q_len, k_len)
    left, left_counts = random_mask(rng, q_len, k_len, depth - 1)
    if kind == 1:
        return ~left, lambda g: ~left_counts(g)
    right, right_counts = random_mask(rng, q_len, k_len, depth - 1)
    if kind == 2:
        return left & right, lambda g: left_counts(g) & right_counts(g)
    return left | right, lambda g: left_counts(g) | right_counts(g)
