"""Tensors of torch: eager, compiled, with gradients, autocast, checkpointing, nested tensors, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import harrier as hr
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: scripts/test-python --torch")

pytestmark = pytest.mark.runs
Tensor = Any


@pytest.fixture
def draw(rng: Any) -> Callable[..., Tensor]:
    """Normal numbers of a shape; a leaf that wants its gradient where asked."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))

    def draw(*shape: int, grad: bool = False, dtype: Any = None) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype or torch.float32).requires_grad_(grad)

    return draw


def dense(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, score: Any = lambda s: s) -> Tensor:
    """Attention in double precision, by torch's own operators and autograd."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(group, 1) for x in (k, v))
    s = score(q.double() @ k.transpose(-1, -2) / q.shape[-1] ** 0.5)
    s = s.masked_fill(~visible, float("-inf"))
    return torch.nan_to_num(s.softmax(-1)) @ v


def visible_in_window(length: int, left: int) -> Tensor:
    i = torch.arange(length)
    return (i[None] <= i[:, None]) & (i[:, None] - i[None] <= left)


WINDOW = hr.Pattern(hr.causal & hr.window(9, 0))


def close(actual: Tensor, expected: Tensor, atol: float = 5e-5) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), atol=atol, rtol=1e-4)


def test_outputs_and_gradients_are_torch_s(draw: Any) -> None:
    q, k, v = draw(2, 4, 50, 32, grad=True), draw(2, 2, 50, 32, grad=True), draw(2, 2, 50, 16, grad=True)
    d_out = draw(2, 4, 50, 16)
    out = hr.attention(q, k, v, WINDOW)
    expected = dense(q, k, v, visible_in_window(50, 9))
    close(out, expected)
    for got, want in zip(
        torch.autograd.grad(out, (q, k, v), d_out), torch.autograd.grad(expected, (q, k, v), d_out.double())
    ):
        close(got, want)


def test_gradients_flow_through_expanded_and_summed_outputs(draw: Any) -> None:
    q = draw(1, 2, 20, 16, grad=True)
    hr.attention(q, q, q, WINDOW).sum().backward()
    other = q.detach().clone().requires_grad_()
    dense(other, other, other, visible_in_window(20, 9)).sum().backward()
    close(q.grad, other.grad)


def test_learned_arrays_have_gradients_and_integers_have_none(draw: Any) -> None:
    q, k, v = (draw(2, 2, 24, 16) for _ in range(3))
    slopes, table = draw(2, grad=True), draw(47, grad=True)
    sorted_ids = torch.arange(24) // 7
    expression = hr.s + hr.array(table, "table")[hr.q - hr.k + 23]
    pattern = hr.Pattern(hr.documents(sorted_ids), alibi=slopes, score=expression)
    out = hr.attention(q, k, v, pattern)
    i = torch.arange(24)
    apart = i[:, None] - i[None]

    def score(s: Tensor) -> Tensor:
        return s - slopes.double()[:, None, None] * apart.abs() + table.double()[apart + 23]

    expected = dense(q, k, v, sorted_ids[:, None] == sorted_ids[None], score)
    close(out, expected)
    d_out = draw(2, 2, 24, 16)
    for got, want in zip(
        torch.autograd.grad(out, (slopes, table), d_out), torch.autograd.grad(expected, (slopes, table), d_out.double())
    ):
        close(got, want, atol=2e-4)


def test_a_bfloat16_parameter_gets_a_bfloat16_gradient(draw: Any) -> None:
    q, k, v = (draw(1, 2, 16, 16) for _ in range(3))
    slopes = draw(2, grad=True, dtype=torch.bfloat16)
    hr.attention(q, k, v, hr.Pattern(hr.causal, alibi=slopes)).sum().backward()
    assert slopes.grad.dtype == torch.bfloat16 and slopes.grad.abs().sum() > 0


def test_packed_sequences(draw: Any) -> None:
    offsets = torch.tensor([0, 5, 5, 22])
    q, k, v = (draw(22, 2, 16, grad=True) for _ in range(3))
    out, lse = hr.attention(q, k, v, WINDOW, cu_seqlens=offsets, return_lse=True)
    assert lse.shape == (22, 2) and lse.dtype == torch.float32
    expected = torch.cat(
        [
            dense(*(x[a:b].transpose(0, 1)[None] for x in (q, k, v)), visible_in_window(b - a, 9))[0].transpose(0, 1)
            for a, b in zip(offsets.tolist(), offsets.tolist()[1:])
        ]
    )
    close(out, expected)
    d_out = draw(22, 2, 16)
    for got, want in zip(
        torch.autograd.grad(out, (q, k, v), d_out), torch.autograd.grad(expected, (q, k, v), d_out.double())
    ):
        close(got, want)


def test_nested_jagged_tensors(draw: Any) -> None:
    parts = [[draw(n, 2, 16) for n in (3, 11, 7)] for _ in range(3)]
    q, k, v = (torch.nested.nested_tensor(x, layout=torch.jagged).transpose(1, 2) for x in parts)
    out = hr.attention(q, k, v, WINDOW)
    assert out.is_nested and out.shape[0] == 3
    for i, row in enumerate(out.transpose(1, 2).unbind()):
        one = [x[i].transpose(0, 1)[None] for x in parts]
        close(row.transpose(0, 1)[None], dense(*one, visible_in_window(len(row), 9)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(draw: Any, dtype: Any) -> None:
    q, k, v = (draw(1, 2, 40, 32, dtype=dtype, grad=True) for _ in range(3))
    out = hr.attention(q, k, v, WINDOW)
    assert out.dtype == dtype
    close(out, dense(q, k, v, visible_in_window(40, 9)), atol=3e-2)
    out.sum().backward()
    assert q.grad.dtype == dtype


def test_autocast_lowers_tensors_and_leaves_arrays(draw: Any) -> None:
    q, k, v = (draw(1, 2, 16, 16, grad=True) for _ in range(3))
    slopes = draw(2, grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = hr.attention(q, k, v, hr.Pattern(hr.causal, alibi=slopes))
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert q.grad.dtype == torch.float32 and slopes.grad.dtype == torch.float32


def test_checkpointed_layers_have_the_same_gradients(draw: Any) -> None:
    from torch.utils.checkpoint import checkpoint

    q = draw(1, 2, 16, 16, grad=True)
    hr.attention(q, q, q, WINDOW).square().sum().backward()
    expected, q.grad = q.grad, None
    checkpoint(lambda x: hr.attention(x, x, x, WINDOW).square(), q, use_reentrant=False).sum().backward()
    torch.testing.assert_close(q.grad, expected)


def test_gradients_of_gradients_are_an_error(draw: Any) -> None:
    q = draw(1, 2, 16, 16, grad=True)
    (gradient,) = torch.autograd.grad(hr.attention(q, q, q, WINDOW).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_nothing_is_attended_in_empty_batches(draw: Any) -> None:
    for shape in ((0, 2, 5, 16), (2, 2, 0, 16)):
        q = draw(*shape, grad=True)
        out = hr.attention(q, q, q, WINDOW)
        out.sum().backward()
        assert out.shape == shape and q.grad.shape == shape
    q = draw(0, 2, 16, grad=True)
    hr.attention(q, q, q, WINDOW, cu_seqlens=torch.tensor([0, 0, 0])).sum().backward()
    assert q.grad.shape == (0, 2, 16)


def test_torch_checks_the_operators(draw: Any) -> None:
    slopes = draw(2, grad=True)
    pattern = hr.Pattern(hr.causal, alibi=slopes)
    q, k, v = (draw(2, 2, 16, 16, grad=True) for _ in range(3))
    arguments = (q, k, v, None, None, None, None, [slopes], pattern.template, pattern.numbers, None, None, False)
    torch.library.opcheck(torch.ops.harrier.attention.default, arguments)
    q, k, v = (draw(9, 2, 16, grad=True) for _ in range(3))
    offsets = torch.tensor([0, 4, 9])
    arguments = (q, k, v, None, None, offsets, None, [slopes], pattern.template, pattern.numbers, None, None, True)
    torch.library.opcheck(torch.ops.harrier.attention.default, arguments)


def test_determinism_is_what_torch_is_told_where_the_call_says_nothing(
    draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harrier import torch_ops

    asked: list[bool] = []
    original = torch_ops._backward_cpu

    def backward(*arguments: Any) -> Any:
        asked.append(arguments[-2])
        return original(*arguments)

    monkeypatch.setattr(torch_ops, "_backward_cpu", backward)
    x = draw(1, 2, 16, 16, grad=True)
    gradients = []
    try:
        for enabled, said in ((False, None), (True, None), (True, False), (False, True)):
            torch.use_deterministic_algorithms(enabled)
            gradients += torch.autograd.grad(hr.attention(x, x, x, WINDOW, deterministic=said).sum(), x)
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [False, True, False, True]
    assert all(torch.equal(each, gradients[0]) for each in gradients)


def test_compiled_whole_with_lengths_that_change(draw: Any) -> None:
    import torch._dynamo.testing as dynamo_testing

    torch._dynamo.reset()
    counter = dynamo_testing.CompileCounterWithBackend("aot_eager")
    slopes = draw(2, grad=True)
    pattern = hr.Pattern(hr.causal & hr.window(9, 0), alibi=slopes)

    def layer(x: Tensor, offsets: Tensor) -> Tensor:
        q, k, v = (x * 1.5).unbind(1)
        return hr.attention(q, k, v, pattern, cu_seqlens=offsets) + 1

    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    before = hr.compilations()
    for n in range(10, 60):
        x = draw(n, 3, 2, 16, grad=True)
        offsets = torch.tensor([0, n // 3, n])
        out = compiled(x, offsets)
        expected = layer(x, offsets)
        torch.testing.assert_close(out, expected)
        if n % 10 == 0:
            torch.testing.assert_close(
                torch.autograd.grad(out.sum(), (x, slopes)), torch.autograd.grad(expected.sum(), (x, slopes))
            )
    assert counter.frame_count == 1
    assert hr.compilations() <= before + 2  # forward and backward


def test_compiled_whole_with_windows_that_change(draw: Any) -> None:
    import torch._dynamo.testing as dynamo_testing

    torch._dynamo.reset()
    counter = dynamo_testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x, p: hr.attention(x * 2, x, x, p), fullgraph=True, dynamic=True, backend=counter)
    x = draw(1, 2, 30, 16)
    for left in range(4, 24):
        pattern = hr.Pattern(hr.causal & hr.window(left, 0) | hr.sink(left // 2))
        torch.testing.assert_close(compiled(x, pattern), hr.attention(x * 2, x, x, pattern))
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    "mask", ["causal & window(12, 0) | sink(3)", "none", "where(@a1[3 * k, 2] % 10 == -1) | blocks(8, @b2)"]
)
def test_templates_are_their_patterns(mask: str) -> None:
    from harrier.patterns import fill_template

    pattern = hr.Pattern(hr.parse_mask(mask), scale=1e-05, softcap=30.0, padding=-10000.0)
    assert fill_template(pattern.template, pattern.numbers) == pattern.text
    assert len(pattern.numbers) == {"c": 3, "n": 0, "w": 4}[mask[0]]


def test_watched_tensors_go_through_the_operator(draw: Any) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    x = draw(1, 2, 16, 16, grad=True)
    with Watch():
        hr.attention(x, x, x, WINDOW).sum().backward()
    assert {"harrier.attention.default", "harrier.attention_backward.default"} <= set(seen)


def test_windows_that_change_compile_nothing(draw: Any) -> None:
    x = draw(1, 2, 30, 24)
    before = hr.compilations()
    hr.attention(x, x, x, hr.causal & hr.window(3, 0))
    assert hr.compilations() <= before + 1
    hr.attention(*(draw(1, 2, 30, 56) for _ in range(3)), hr.causal & hr.window(3, 0) | hr.sink(1))
    assert hr.compilations() > before  # of this pattern and head dim for the first time
    before = hr.compilations()
    for left in range(4, 24):
        close(hr.attention(x, x, x, hr.causal & hr.window(left, 0)), dense(x, x, x, visible_in_window(30, left)))
    assert hr.compilations() == before


def test_several_threads_at_once(draw: Any) -> None:
    inputs = [draw(1, 2, 30 + i, 16, grad=True) for i in range(4)]
    expected = [torch.autograd.grad(hr.attention(x, x, x, WINDOW).sum(), x)[0] for x in inputs]
    failures: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for _ in range(5):
                got = torch.autograd.grad(hr.attention(inputs[i], inputs[i], inputs[i], WINDOW).sum(), inputs[i])[0]
                torch.testing.assert_close(got, expected[i])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_kernels_take_tensors_too(draw: Any) -> None:
    q, k, v = (draw(1, 2, 20, 16, grad=True) for _ in range(3))
    out, lse = hr.compile(WINDOW, hr.Shape(heads=2, head_dim=16))(q, k, v, return_lse=True)
    assert isinstance(out, torch.Tensor) and not out.requires_grad
    close(out, dense(q, k, v, visible_in_window(20, 9)))


@pytest.mark.parametrize(
    "change, options, message",
    [
        (lambda q, k, v: (q.double(), k.double(), v.double()), {}, "q holds float64, kernels take"),
        (lambda q, k, v: (q, k.half(), v), {}, "k holds float16 and q float32"),
        (lambda q, k, v: (q[0], k, v), {}, "q has 3 dimensions, expected .batch, heads, length, dim."),
        (lambda q, k, v: (q.transpose(2, 3), k, v), {}, "head_dim|stride"),
        (lambda q, k, v: (q, k[:, :, :5], v), {}, "v has shape"),
        (lambda q, k, v: (q, k.to("meta"), v), {}, "k lies on meta and q on cpu"),
        (lambda q, k, v: (q, k, v), {"arrays": {"slope": torch.ones(2)}}, "@slope is no array of the pattern"),
        (lambda q, k, v: (q, k, v), {"lengths": torch.tensor([99])}, r"lengths\[0\] is 99"),
    ],
)
def test_what_does_not_fit_is_refused(draw: Any, change: Any, options: dict, message: str) -> None:
    q, k, v = change(*(draw(1, 2, 16, 32) for _ in range(3)))
    with pytest.raises(hr.InvalidInput, match=message):
        hr.attention(q, k, v, WINDOW, **options)


def test_unbound_arrays_are_named(draw: Any) -> None:
    x = draw(1, 1, 16, 16)
    with pytest.raises(hr.InvalidInput, match="@segment of the pattern is not bound"):
        hr.attention(x, x, x, hr.documents("segment"))


def test_lse_has_a_gradient_too(draw: Any) -> None:
    q, k, v = (draw(1, 2, 20, 16, grad=True) for _ in range(3))
    sinks = draw(2, grad=True)
    pattern = hr.Pattern(hr.causal & hr.window(9, 0) & ~hr.sink(1), softmax=hr.sink_logit(sinks))
    weight, d_out = draw(1, 2, 20), draw(1, 2, 20, 16)
    visible = visible_in_window(20, 9) & (torch.arange(20) >= 1)
    scores = (q.double() @ k.double().transpose(-1, -2) / 4).masked_fill(~visible, float("-inf"))
    scores = torch.cat([scores, sinks.double()[None, :, None, None].expand(1, 2, 20, 1)], -1)
    out, lse = hr.attention(q, k, v, pattern, return_lse=True)
    seen = visible.any(-1)
    close(lse[..., seen], scores.logsumexp(-1)[..., seen])
    weight = weight * seen
    expected = (scores.softmax(-1)[..., :-1] @ v.double() * d_out * seen[:, None]).sum()
    expected = expected + (scores.logsumexp(-1) * weight).sum()
    objective = (out * d_out).sum() + (torch.where(seen, lse, 0.0) * weight).sum()
    for got, want in zip(
        torch.autograd.grad(objective, (q, k, v, sinks)), torch.autograd.grad(expected, (q, k, v, sinks))
    ):
        close(got, want)


@pytest.mark.parametrize("keys", [1, 8, 21])
def test_bit_masks_are_packed_for_gpus(rng: Any, keys: int) -> None:
    import numpy as np
    from harrier.torch_bindings import pack_bits

    mask = rng.random((2, 5, keys)) < 0.5
    packed = pack_bits(torch.as_tensor(mask))
    np.testing.assert_array_equal(packed.numpy(), np.packbits(mask, axis=-1, bitorder="little"))
