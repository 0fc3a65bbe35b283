"""FlexAttention's interface on a real GPU, against the same functions in double precision. Skipped where torch has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import harrier as hr
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: scripts/test-python --torch")

import flex_mods  # noqa: E402
from flex_mods import BATCH, HEADS, Mods  # noqa: E402
from flex_reference import dense, tensors  # noqa: E402

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no GPU here")
Tensor = Any


@pytest.fixture
def draw(rng: Any) -> Callable[..., Tensor]:
    torch.manual_seed(int(rng.integers(2**31)))
    return lambda *shape: torch.randn(*shape, device=DEVICE)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    assert torch.isfinite(actual).all()
    return float((actual.double() - expected).detach().norm() / expected.detach().norm().clamp(min=1e-9))


@pytest.mark.parametrize("make", flex_mods.WORKING, ids=lambda make: make.__name__)
def test_mods_compute_what_torch_says(draw: Any, make: Callable[..., Mods]) -> None:
    with torch.device(DEVICE):  # for what the functions capture
        mods = make(draw)
    q, k, v = (x.detach().half().requires_grad_() for x in tensors(draw, mods))
    block_mask = None
    if mods.mask_mod is not None:
        block_mask = hr.create_block_mask(mods.mask_mod, BATCH, HEADS, mods.q_len, mods.k_len)
    out = hr.flex_attention(q, k, v, mods.score_mod, block_mask)
    expected = dense(q, k, v, mods)
    assert relative_error(out, expected) < 5e-3
    d_out = torch.randn_like(out)
    wanted = torch.autograd.grad(expected, (q, k, v), d_out.double())
    for got, want in zip(torch.autograd.grad(out, (q, k, v), d_out), wanted):
        assert relative_error(got, want.double().nan_to_num()) < 1e-2
