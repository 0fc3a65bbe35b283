"""Tensors of torch on a real GPU: streams, graphs, compiled layers. Skipped where torch has none."""

from __future__ import annotations

import threading
from typing import Any

import harrier as hr
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: scripts/test-python --torch")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no GPU here")
Tensor = Any
WINDOW = hr.Pattern(hr.causal & hr.window(100, 0) | hr.sink(4))


@pytest.fixture
def draw(rng: Any) -> Any:
    generator = torch.Generator("cuda").manual_seed(int(rng.integers(2**31)))
    return lambda *shape: torch.randn(*shape, generator=generator, device="cuda").to(torch.bfloat16)


def dense(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(group, 1) for x in (k, v))
    s = (q.double() @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~visible, float("-inf"))
    return torch.nan_to_num(s.softmax(-1)) @ v


def visible_in_window(length: int) -> Tensor:
    i = torch.arange(length, device="cuda")
    return ((i[None] <= i[:, None]) & (i[:, None] - i[None] <= 100)) | (i[None] < 4)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected, atol=2e-2, rtol=2e-2)


def test_padded_packed_and_strided(draw: Any) -> None:
    q, k, v = draw(2, 4, 300, 64), draw(2, 2, 300, 64), draw(2, 2, 300, 64)
    close(hr.attention(q, k, v, WINDOW), dense(q, k, v, visible_in_window(300)))
    fused = draw(500, 3, 4, 64)
    q, k, v = fused.unbind(1)
    offsets = torch.tensor([0, 120, 500], dtype=torch.int32, device="cuda")
    out, lse = hr.attention(q, k, v, WINDOW, cu_seqlens=offsets, return_lse=True)
    assert lse.shape == (500, 4)
    for a, b in ((0, 120), (120, 500)):
        one = [x[a:b].transpose(0, 1)[None] for x in (q, k, v)]
        close(out[a:b].transpose(0, 1)[None], dense(*one, visible_in_window(b - a)))


def test_arrays_on_the_device(draw: Any) -> None:
    q, k, v = (draw(1, 2, 256, 64) for _ in range(3))
    segment = torch.arange(256, device="cuda") // 60
    close(hr.attention(q, k, v, hr.documents(segment)), dense(q, k, v, segment[:, None] == segment[None]))
    q, k, v = (torch.cat([x, x.flip(2)]) for x in (q, k, v))
    close(hr.attention(q, k, v, hr.documents(segment)), dense(q, k, v, segment[:, None] == segment[None]))
    rows = torch.stack([segment, segment // 2])
    close(hr.attention(q, k, v, hr.documents(rows)), dense(q, k, v, (rows[:, :, None] == rows[:, None])[:, None]))
    mask = torch.rand(256, 256, device="cuda") < 0.3
    close(hr.attention(q, k, v, hr.bits(mask)), dense(q, k, v, mask))


def test_arrays_may_be_written_to_between_calls(draw: Any) -> None:
    q, k, v = (draw(1, 2, 256, 64) for _ in range(3))
    segment = torch.arange(256, device="cuda") // 60
    pattern = hr.Pattern(hr.documents(segment))
    for size in (60, 60, 33, 100):
        segment.copy_(torch.arange(256, device="cuda") // size)
        for _ in range(2):
            close(hr.attention(q, k, v, pattern), dense(q, k, v, segment[:, None] == segment[None]))
    for _ in range(300):  # so long that the host looks at them
        out = hr.attention(q, k, v, pattern)
    close(out, dense(q, k, v, segment[:, None] == segment[None]))
    segment.copy_(segment.flip(0))
    close(hr.attention(q, k, v, pattern), dense(q, k, v, segment[:, None] == segment[None]))


def test_arrays_of_inference_mode_are_read_anew(draw: Any) -> None:
    q, k, v = (draw(1, 2, 256, 64) for _ in range(3))
    with torch.inference_mode():
        segment = torch.arange(256, device="cuda", dtype=torch.int32) // 60
        for size in (60, 33):
            segment.copy_(torch.arange(256, device="cuda") // size)
            close(hr.attention(q, k, v, hr.documents(segment)), dense(q, k, v, segment[:, None] == segment[None]))


def test_replays_of_a_graph_see_what_was_written(draw: Any) -> None:
    x = draw(1, 2, 256, 64)
    segment = torch.arange(256, device="cuda") // 60
    pattern = hr.Pattern(hr.documents(segment))
    hr.attention(x, x, x, pattern)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = hr.attention(x, x, x, pattern)
    for size in (60, 33, 100):
        segment.copy_(torch.arange(256, device="cuda") // size)
        graph.replay()
        close(out, dense(x, x, x, segment[:, None] == segment[None]))


def test_several_threads_and_streams_at_once(draw: Any) -> None:
    inputs = [draw(1, 2, 200 + 40 * i, 64).requires_grad_() for i in range(4)]
    failures: list[BaseException] = []
    torch.cuda.synchronize()

    def work(x: Tensor) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for _ in range(5):
                    out = hr.attention(x, x, x, WINDOW)
                    (gradient,) = torch.autograd.grad(out.float().sum(), x)
                    close(out, dense(x, x, x, visible_in_window(x.shape[2])))
                    assert torch.isfinite(gradient).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_arrays_that_the_host_looks_at(draw: Any) -> None:
    q, k, v = (draw(2, 2, 200, 64) for _ in range(3))
    prefix = torch.tensor([30, 90], device="cuda")
    block_mask = hr.create_block_mask(lambda b, h, q, k: (q >= k) | (k < prefix[b]), None, None, 200, 200)
    i = torch.arange(200, device="cuda")
    visible = (i[None] <= i[:, None]) | (i < prefix[:, None, None])
    close(hr.flex_attention(q, k, v, block_mask=block_mask), dense(q, k, v, visible[:, None]))


def test_work_goes_to_the_current_stream(draw: Any) -> None:
    x = draw(1, 2, 512, 64)
    expected = dense(x * 2, x, x, visible_in_window(512))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        out = hr.attention(x * 2, x, x, WINDOW)  # must wait for the product, which waits for the sleep
    torch.cuda.current_stream().wait_stream(stream)
    close(out, expected)


def test_captured_in_a_graph(draw: Any) -> None:
    x = draw(1, 2, 512, 64)
    hr.attention(x, x, x, WINDOW)  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = hr.attention(x, x, x, WINDOW)
    for _ in range(3):
        x.copy_(draw(1, 2, 512, 64))
        graph.replay()
        close(out, dense(x, x, x, visible_in_window(512)))


def test_compiled_whole_with_lengths_and_windows_that_change(draw: Any) -> None:
    compiled = torch.compile(lambda x, p: hr.attention(x * 2, x, x, p), fullgraph=True, dynamic=True)
    for length, left in ((200, 10), (333, 50), (512, 99)):
        x = draw(1, 2, length, 64)
        pattern = hr.Pattern(hr.causal & hr.window(left, 0))
        close(compiled(x, pattern), hr.attention(x * 2, x, x, pattern).double())


def test_flex_functions(draw: Any) -> None:
    slopes = torch.rand(2, device="cuda")
    q, k, v = (draw(1, 2, 256, 64) for _ in range(3))
    block_mask = hr.create_block_mask(lambda b, h, q, k: q >= k, None, None, 256, 256)
    out = hr.flex_attention(q, k, v, lambda s, b, h, q, k: s - slopes[h] * torch.abs(q - k), block_mask)
    close(out, hr.attention(q, k, v, hr.Pattern(hr.causal, alibi=slopes)).double())


def test_bad_input_leaves_the_gpu_usable(draw: Any) -> None:
    x = draw(1, 2, 128, 64)
    for bad in (
        lambda: hr.attention(x.float(), x.float(), x.float(), WINDOW),
        lambda: hr.attention(x, x.cpu(), x, WINDOW),
        lambda: hr.attention(x, x[..., :7], x, WINDOW),
        lambda: hr.attention(x, x, x[:, :, :100], WINDOW),
        lambda: hr.attention(x, x[:, :1], x, WINDOW),
        lambda: hr.attention(x[0], x[0], x[0], WINDOW),
        lambda: hr.attention(x.transpose(2, 3), x, x, WINDOW),
        lambda: hr.attention(x, x, x, WINDOW, lengths=torch.tensor([3])),
        lambda: hr.attention(x, x, x, hr.documents(torch.zeros(128))),
    ):
        with pytest.raises(hr.InvalidInput):
            bad()
    close(hr.attention(x, x, x, WINDOW), dense(x, x, x, visible_in_window(128)))


def test_gradients_are_torch_s(draw: Any) -> None:
    q, k, v = (x.requires_grad_() for x in (draw(2, 4, 300, 64), draw(2, 2, 300, 64), draw(2, 2, 300, 64)))
    slopes = torch.rand(4, device="cuda").requires_grad_()
    d_out = draw(2, 4, 300, 64)
    out, lse = hr.attention(q, k, v, hr.Pattern(hr.causal & hr.window(100, 0), alibi=slopes), return_lse=True)
    i = torch.arange(300, device="cuda")
    apart = i[:, None] - i[None]
    keys, values = (x.double().repeat_interleave(2, 1) for x in (k, v))
    s = q.double() @ keys.transpose(-1, -2) / 8 - slopes.double()[:, None, None] * apart.abs()
    s = s.masked_fill((apart < 0) | (apart > 100), float("-inf"))
    wanted = (q, k, v, slopes)
    got = torch.autograd.grad((out * d_out).sum() + lse.sum(), wanted)
    expected = torch.autograd.grad((s.softmax(-1) @ values * d_out).sum() + s.logsumexp(-1).sum(), wanted)
    for x, y in zip(got, expected):
        assert (x.double() - y.double()).norm() < 2e-2 * y.double().norm()
