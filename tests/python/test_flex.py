"""FlexAttention's interface, against the same functions evaluated for each pair in double precision by torch.vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import harrier as hr
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: scripts/test-python --torch")

import flex_mods  # noqa: E402
from flex_mods import BATCH, HEADS, LENGTH, Mods  # noqa: E402
from flex_reference import dense, tensors  # noqa: E402

pytestmark = pytest.mark.runs
Tensor = Any


@pytest.fixture
def draw(rng: Any) -> Callable[..., Tensor]:
    torch.manual_seed(int(rng.integers(2**31)))
    return lambda *shape: torch.randn(*shape)


@pytest.mark.parametrize("make", flex_mods.WORKING, ids=lambda make: make.__name__)
def test_mods_compute_what_torch_says(draw: Any, make: Callable[..., Mods]) -> None:
    mods = make(draw)
    q, k, v = tensors(draw, mods)
    block_mask = None
    if mods.mask_mod is not None:
        block_mask = hr.create_block_mask(mods.mask_mod, BATCH, HEADS, mods.q_len, mods.k_len, device="cpu")
    out = hr.flex_attention(q, k, v, mods.score_mod, block_mask)
    expected = dense(q, k, v, mods)
    torch.testing.assert_close(out.double(), expected, atol=1e-4, rtol=1e-3)
    d_out = torch.randn_like(out)
    for got, want in zip(
        torch.autograd.grad(out, (q, k, v), d_out), torch.autograd.grad(expected, (q, k, v), d_out.double())
    ):
        torch.testing.assert_close(got.double(), want.double().nan_to_num(), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("make", flex_mods.WORKING, ids=lambda make: make.__name__)
def test_what_has_a_name_is_recognised(draw: Any, make: Callable[..., Mods]) -> None:
    from harrier.flex import pattern_of

    mods = make(draw)
    lengths = mods.q_len, mods.k_len
    block_mask = None if mods.mask_mod is None else hr.create_block_mask(mods.mask_mod, None, None, *lengths)
    text = str(pattern_of(mods.score_mod, block_mask, lengths))
    wanted = mods.text.replace(".0)", ")")
    if wanted.startswith("mask "):
        wanted = wanted.rstrip("\n")
        found = text.splitlines()[0]
        assert found == wanted if mods.text.endswith("\n") else found.startswith(wanted), text
    else:
        assert wanted in text


@pytest.mark.parametrize("mod, message", flex_mods.REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_be_traced_is_named(draw: Any, mod: Any, message: str) -> None:
    q, k, v = tensors(draw, Mods())
    with pytest.raises(hr.InvalidInput, match=message) as caught:
        hr.flex_attention(q, k, v, mod)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "mask_mod, message",
    [
        (lambda b, h, q, k: torch.ones(64)[q] > 0.5, "captured tensor of torch.float32 is a float in a condition"),
        (lambda b, h, q, k: q * 0.5 < k, "is a float in a condition"),
        (lambda b, h, q, k: None, "mask_mod returned NoneType"),
        (lambda b, h, q, k: torch.ones(64, dtype=torch.int32)[q, k] > 0, "1 dimensions has 2 indices"),
        (lambda b, h, q, k: q.cumsum(0) > k, "cumsum cannot be traced"),
    ],
)
def test_masks_that_cannot_be_traced_are_named(mask_mod: Any, message: str) -> None:
    with pytest.raises(hr.InvalidInput, match=message):
        hr.create_block_mask(mask_mod, None, None, LENGTH, LENGTH)


def test_captured_parameters_are_learned(draw: Any) -> None:
    slopes = draw(HEADS).abs().requires_grad_()
    table = draw(HEADS, 2 * LENGTH - 1).requires_grad_()
    mods = Mods(
        lambda score, b, h, q, k: score - slopes[h] * torch.abs(q - k) + table[h, q - k + LENGTH - 1], flex_mods.causal
    )
    q, k, v = tensors(draw, mods)
    block_mask = hr.create_block_mask(mods.mask_mod, None, None, LENGTH, LENGTH)
    out = hr.flex_attention(q, k, v, mods.score_mod, block_mask)
    expected = dense(q, k, v, mods)
    d_out = torch.randn_like(out)
    for got, want in zip(
        torch.autograd.grad(out, (slopes, table), d_out), torch.autograd.grad(expected, (slopes, table), d_out.double())
    ):
        torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)


def test_captured_tensors_are_read_anew_by_every_call(draw: Any) -> None:
    bias = draw(LENGTH)
    mods = Mods(lambda score, b, h, q, k: score + bias[k])
    q, k, v = tensors(draw, mods)
    for _ in range(3):
        bias.copy_(torch.randn(LENGTH))
        torch.testing.assert_close(
            hr.flex_attention(q, k, v, mods.score_mod).double(), dense(q, k, v, mods), atol=1e-4, rtol=1e-3
        )


def test_captured_numbers_may_change_between_calls(draw: Any) -> None:
    scale = 1.0

    def score_mod(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return score * scale

    q, k, v = tensors(draw, Mods())
    outs = []
    for scale in (0.5, 2.0, 0.5):
        outs.append(hr.flex_attention(q, k, v, score_mod))
        torch.testing.assert_close(outs[-1].double(), dense(q, k, v, Mods(score_mod)), atol=1e-4, rtol=1e-3)
    assert not torch.equal(outs[0], outs[1])


def test_torch_s_own_block_masks_are_traced(draw: Any) -> None:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mods = flex_mods.sinks(draw)
    q, k, v = (x.detach() for x in tensors(draw, mods))
    theirs = create_block_mask(mods.mask_mod, None, None, LENGTH, LENGTH, device="cpu")
    expected, expected_lse = flex_attention(q, k, v, block_mask=theirs, return_lse=True)
    out, lse = hr.flex_attention(q, k, v, block_mask=theirs, return_lse=True)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(lse, expected_lse, atol=1e-5, rtol=1e-4)


def test_grouped_heads_scale_and_auxiliary_outputs(draw: Any) -> None:
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    q, k, v = (x.detach() for x in tensors(draw, Mods(), kv_heads=2))
    expected, expected_aux = flex_attention(q, k, v, scale=0.7, enable_gqa=True, return_aux=AuxRequest(lse=True))
    out, aux = hr.flex_attention(q, k, v, scale=0.7, enable_gqa=True, return_aux=AuxRequest(lse=True))
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(aux.lse, expected_aux.lse, atol=1e-5, rtol=1e-4)
    with pytest.raises(hr.InvalidInput, match="enable_gqa=True"):
        hr.flex_attention(q, k, v)
    with pytest.raises(hr.InvalidInput, match="max_scores"):
        hr.flex_attention(q, k, v, enable_gqa=True, return_aux=AuxRequest(max_scores=True))


def test_block_masks_are_for_their_lengths(draw: Any) -> None:
    q, k, v = tensors(draw, Mods())
    with pytest.raises(hr.InvalidInput, match=r"block_mask is for lengths \(32, 32\), query and key have \(64, 64\)"):
        hr.flex_attention(q, k, v, block_mask=hr.create_block_mask(flex_mods.causal, None, None, 32, 32))


def test_our_compositions_are_torch_s(draw: Any) -> None:
    window = hr.and_masks(flex_mods.causal, lambda b, h, q, k: q - k < 8)
    mask_mod = hr.or_masks(window, lambda b, h, q, k: k < 2)
    mods = Mods(mask_mod=mask_mod)
    q, k, v = tensors(draw, mods)
    out = hr.flex_attention(q, k, v, block_mask=hr.create_block_mask(mask_mod, None, None, LENGTH, LENGTH))
    torch.testing.assert_close(out.double(), dense(q, k, v, mods), atol=1e-4, rtol=1e-3)


def test_patterns_of_mods_run_inside_torch_compile(draw: Any) -> None:
    mods = flex_mods.score_and_mask(draw)
    q, k, v = tensors(draw, mods)
    block_mask = hr.create_block_mask(mods.mask_mod, None, None, LENGTH, LENGTH)
    pattern = hr.flex_pattern(mods.score_mod, block_mask)
    torch._dynamo.reset()
    compiled = torch.compile(lambda q, k, v: hr.attention(q * 1, k, v, pattern), fullgraph=True, backend="aot_eager")
    out = compiled(q, k, v)
    torch.testing.assert_close(out.double(), dense(q, k, v, mods), atol=1e-4, rtol=1e-3)
    torch.autograd.grad(out.sum(), (q, k, v))
    masked = torch.compile(
        lambda q, k, v: hr.flex_attention(q * 1, k, v, block_mask=block_mask), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(masked(q, k, v), hr.flex_attention(q, k, v, block_mask=block_mask))
    with pytest.raises(Exception, match="trace them before, pattern = hr.flex_pattern"):
        torch.compile(lambda q: hr.flex_attention(q, k, v, mods.score_mod), fullgraph=True, backend="aot_eager")(q)


def test_mods_that_come_and_go_compile_nothing_new(draw: Any) -> None:
    q, k, v = (x.detach() for x in tensors(draw, Mods()))

    def run(window: int, length: int) -> None:
        block_mask = hr.create_block_mask(lambda b, h, q, k: (q >= k) & (q - k <= window), None, None, length, length)
        hr.flex_attention(q[:, :, :length], k[:, :, :length], v[:, :, :length], block_mask=block_mask)

    run(3, 40)
    before = hr.compilations()
    for i in range(20):
        run(4 + i, 41 + i)
    assert hr.compilations() == before
