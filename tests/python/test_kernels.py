"""Kernels: layouts, types, gradients, errors, threads."""

from __future__ import annotations

import gc
import threading
import time

import harrier as hr
import numpy as np
import pytest
import reference
from reference import Grid

pytestmark = pytest.mark.runs


def causal(grid: Grid) -> np.ndarray:
    return grid.k <= grid.aligned


def tensors(rng: np.random.Generator, heads: int = 4, kv_heads: int = 2, length: int = 40) -> list[np.ndarray]:
    shapes = [(2, heads, length, 32), (2, kv_heads, length, 32), (2, kv_heads, length, 16)]
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def test_heads_share_keys_and_values_have_a_dim_of_their_own(rng: np.random.Generator) -> None:
    q, k, v = tensors(rng)
    kernel = hr.compile(hr.causal, hr.Shape(heads=4, kv_heads=2, head_dim=32, value_dim=16))
    out, lse = kernel(q, k, v, return_lse=True)
    expected, expected_lse = reference.attend(q, k, v, causal)
    np.testing.assert_allclose(out, expected, atol=2e-5)
    np.testing.assert_allclose(lse, expected_lse, atol=2e-5)
    assert out.dtype == np.float32 and lse.shape == (2, 4, 40)


def test_packed_sequences_attend_each_to_itself(rng: np.random.Generator) -> None:
    lengths = [5, 0, 17, 1]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    q, k, v = rng.standard_normal((3, offsets[-1], 2, 16), np.float32)
    out, lse = hr.attention(q, k, v, hr.causal, cu_seqlens=offsets, return_lse=True)
    assert lse.shape == (offsets[-1], 2)
    for begin, end in zip(offsets, offsets[1:]):
        one = [x[begin:end].transpose(1, 0, 2)[None] for x in (q, k, v)]
        expected, _ = reference.attend(*one, causal)
        np.testing.assert_allclose(out[begin:end].transpose(1, 0, 2), expected[0], atol=2e-5)


def test_packed_keys_may_have_lengths_of_their_own(rng: np.random.Generator) -> None:
    q = rng.standard_normal((7, 1, 16), np.float32)
    k, v = rng.standard_normal((2, 30, 1, 16), np.float32)
    out = hr.attention(q, k, v, hr.causal, cu_seqlens=[0, 3, 7], key_cu_seqlens=[0, 10, 30])
    for (q0, q1), (k0, k1) in [((0, 3), (0, 10)), ((3, 7), (10, 30))]:
        one = [x[a:b].transpose(1, 0, 2)[None] for x, a, b in ((q, q0, q1), (k, k0, k1), (v, k0, k1))]
        np.testing.assert_allclose(out[q0:q1, 0], reference.attend(*one, causal)[0][0, 0], atol=2e-5)


def test_strided_views_are_read_and_written_in_place(rng: np.random.Generator) -> None:
    fused = rng.standard_normal((2, 40, 3, 4, 32), np.float32)  # as a projection leaves q, k and v
    q, k, v = (fused[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    store = np.full((2, 40, 4, 32), np.nan, np.float32)
    out = store.transpose(0, 2, 1, 3)
    kernel = hr.compile(hr.causal, hr.Shape(heads=4, head_dim=32))
    assert kernel(q, k, v, out=out) is out
    expected, _ = reference.attend(q, k, v, causal)
    np.testing.assert_allclose(store.transpose(0, 2, 1, 3), expected, atol=2e-5)


def test_read_only_arrays_are_read_and_not_written(rng: np.random.Generator) -> None:
    q, k, v = tensors(rng, kv_heads=4)
    v = v[..., :16]
    for x in (q, k):
        x.flags.writeable = False
    out = hr.attention(q, k, v, hr.causal)
    np.testing.assert_allclose(out, reference.attend(q, k, v, causal)[0], atol=2e-5)
    out.flags.writeable = False
    kernel = hr.compile(hr.causal, hr.Shape(heads=4, head_dim=32, value_dim=16))
    with pytest.raises(TypeError):
        kernel(q, k, v, out=out)


def test_half_precision_is_stored_and_floats_are_computed(rng: np.random.Generator) -> None:
    q, k, v = (reference.rounded_to_bfloat16(x) for x in tensors(rng))
    expected, _ = reference.attend(q, k, v, causal)
    out = hr.attention(*(reference.bits_from_bfloat16(x) for x in (q, k, v)), hr.causal)
    np.testing.assert_allclose(reference.floats_from_bits(out), expected, atol=2e-2)
    half = [x.astype(np.float16) for x in (q, k, v)]
    out = hr.attention(*half, hr.causal)
    assert out.dtype == np.float16
    np.testing.assert_allclose(out, reference.attend(*half, causal)[0], atol=2e-3)


def test_bfloat16_of_ml_dtypes_is_taken(rng: np.random.Generator) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    q, k, v = (x.astype(ml_dtypes.bfloat16) for x in tensors(rng))
    out = hr.attention(q, k, v, hr.causal)
    assert out.dtype == ml_dtypes.bfloat16
    expected, _ = reference.attend(*(np.float32(x) for x in (q, k, v)), causal)
    np.testing.assert_allclose(np.float32(out), expected, atol=2e-2)


def test_gradients_are_those_of_the_output(rng: np.random.Generator) -> None:
    q, k, v = tensors(rng)
    d_out = rng.standard_normal((2, 4, 40, 16), np.float32)
    kernel = hr.compile(hr.causal, hr.Shape(heads=4, kv_heads=2, head_dim=32, value_dim=16))
    out, lse = kernel(q, k, v, return_lse=True)
    got = kernel.backward(d_out, q, k, v, out, lse)
    for name, gradient, expected in zip("qkv", (got.q, got.k, got.v), reference.gradients(q, k, v, d_out, causal)):
        np.testing.assert_allclose(gradient, expected, atol=5e-5, err_msg=name)


def test_deterministic_gradients_are_asked_for_or_written_in_the_text(rng: np.random.Generator) -> None:
    text = "attention a { heads 4 kv_heads 2 head_dim 32 value_dim 16 direction backward deterministic mask causal }"
    workload = hr.parse(text)
    assert workload.deterministic and "direction backward deterministic" in str(workload)
    assert hr.compile(workload).deterministic
    q, k, v = tensors(rng)
    d_out = rng.standard_normal((2, 4, 40, 16), np.float32)
    gradients = []
    for kernel in (hr.compile(hr.causal, workload.shape), hr.compile(hr.causal, workload.shape, deterministic=True)):
        out, lse = kernel(q, k, v, return_lse=True)
        gradients.append(kernel.backward(d_out, q, k, v, out, lse))
    np.testing.assert_array_equal(gradients[0].q, gradients[1].q)


def test_gradients_of_arrays_agree_with_differences(rng: np.random.Generator) -> None:
    q, k, v, d_out = rng.standard_normal((4, 1, 2, 12, 16), np.float32)
    bias = rng.standard_normal((12, 12), np.float32)
    sinks = rng.standard_normal(2).astype(np.float32)
    pattern = hr.Pattern(hr.causal, bias=bias, softmax=hr.sink_logit(sinks))
    kernel = hr.compile(pattern, hr.Shape(heads=2, head_dim=16))
    out, lse = kernel(q, k, v, return_lse=True)
    got = kernel.backward(d_out, q, k, v, out, lse, wanted=("bias", "sinks"))
    assert set(got.arrays) == {"bias", "sinks"}

    def objective(bias: np.ndarray, sinks: np.ndarray) -> float:
        def with_sink(s: np.ndarray, g: Grid) -> np.ndarray:
            return s + bias

        plain, plain_lse = reference.attend(q, k, v, causal, score=with_sink)
        share = 1 / (1 + np.exp(sinks[None, :, None] - plain_lse))
        return float((plain * share[..., None] * d_out).sum())

    step = 1e-5
    for place in [(3, 1), (11, 11), (2, 7)]:
        moved = np.zeros((12, 12))
        moved[place] = step
        slope = (objective(bias + moved, np.float64(sinks)) - objective(bias - moved, np.float64(sinks))) / (2 * step)
        np.testing.assert_allclose(got.arrays["bias"][place], slope, atol=1e-4)
    for head in range(2):
        moved = np.eye(2)[head] * step
        slope = (objective(bias, sinks + moved) - objective(bias, sinks - moved)) / (2 * step)
        np.testing.assert_allclose(got.arrays["sinks"][head], slope, atol=1e-4)


def test_numbers_and_lengths_compile_nothing(rng: np.random.Generator) -> None:
    shape = hr.Shape(heads=1, head_dim=48)
    hr.compile(hr.causal & hr.window(5, 0) | hr.sink(3), shape)
    before = hr.compilations()
    for i in range(20):
        x = rng.standard_normal((1, 1, 10 + i, 48), np.float32)
        hr.attention(x, x, x, hr.causal & hr.window(6 + i, 0) | hr.sink(1 + i))
    assert hr.compilations() == before


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda q, k, v: (q.astype(np.float64), k, v), "q holds float64, kernels take"),
        (lambda q, k, v: (q, k.astype(np.float16), v), "k holds fp16, the pattern expects fp32"),
        (lambda q, k, v: (q, k[:1], v), r"k has shape \[1, 2, 40, 32\], expected \[2, 2, 40, 32\]"),
        (lambda q, k, v: (q[0], k, v), "q has 3 dimensions, expected .batch, heads, length, dim.; packed arrays need"),
        (lambda q, k, v: (q, k, k[..., ::2]), "v has stride 2 in its last dimension"),
        (lambda q, k, v: (q[..., ::-1], k, v), "negative stride|stride -1"),
        (lambda q, k, v: (q, k, v[..., :7]), "value_dim is 7"),
        (lambda q, k, v: (q[:, :3], k, v), "heads"),
        (lambda q, k, v: (q, None, v), "k is NoneType, expected an array"),
        (lambda q, k, v: (q.astype(complex), k, v), "q holds complex128"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_line(rng: np.random.Generator, change: object, message: str) -> None:
    with pytest.raises(hr.InvalidInput, match=message) as caught:
        hr.attention(*change(*tensors(rng)), hr.causal)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lengths": [40, 41]}, r"lengths\[1\] is 41"),
        ({"lengths": [40]}, "lengths holds 1 numbers, the batch has 2 rows"),
        ({"lengths": [0.5, 1.0]}, "expected whole numbers"),
        ({"arrays": {"slopes": np.zeros(4, np.float32)}}, "slopes"),
        ({"key_cu_seqlens": [0, 40]}, "packed queries need cu_seqlens too"),
    ],
)
def test_lengths_and_arrays_that_do_not_fit_are_refused(rng: np.random.Generator, options: dict, message: str) -> None:
    with pytest.raises(hr.InvalidInput, match=message):
        hr.attention(*tensors(rng), hr.causal, **options)


def test_unbound_arrays_and_wrong_ones_are_named(rng: np.random.Generator) -> None:
    x = tensors(rng)
    pattern = hr.Pattern(hr.documents("segment"))
    with pytest.raises(hr.InvalidInput, match="@segment .segment ids. of the pattern is not bound"):
        hr.attention(*x, pattern)
    with pytest.raises(hr.InvalidInput, match="@segment has elements of float32; expected integers"):
        hr.attention(*x, pattern, arrays={"segment": np.zeros(40, np.float32)})
    with pytest.raises(hr.InvalidInput, match=r"@segment .segment ids. has shape \[39\]"):
        hr.attention(*x, pattern, arrays={"segment": np.zeros(39, np.int32)})


def test_integer_arrays_have_no_gradient(rng: np.random.Generator) -> None:
    q, k, v, d_out = rng.standard_normal((4, 1, 1, 8, 16), np.float32)
    kernel = hr.compile(hr.documents(np.zeros(8, np.int32)), hr.Shape(head_dim=16))
    out, lse = kernel(q, k, v, return_lse=True)
    with pytest.raises(hr.InvalidInput, match="segment"):
        kernel.backward(d_out, q, k, v, out, lse, wanted=("segment",))
    with pytest.raises(hr.InvalidInput, match="@bias is not bound"):
        kernel.backward(d_out, q, k, v, out, lse, wanted=("bias",))


def test_other_threads_of_python_go_on_while_a_kernel_runs(rng: np.random.Generator) -> None:
    kernel = hr.compile(hr.all, hr.Shape(head_dim=64), threads=1)
    x = rng.standard_normal((1, 1, 4096, 64), np.float32)
    kernel(x, x, x)
    ticks: list[float] = []
    running = threading.Event()

    def work() -> None:
        running.set()
        for _ in range(5):
            kernel(x, x, x)
        running.clear()

    worker = threading.Thread(target=work)
    worker.start()
    running.wait()
    while running.is_set():
        ticks.append(time.perf_counter())
        time.sleep(0.001)
    worker.join()
    assert len(ticks) > 20  # the interpreter's lock was free in between


def test_one_kernel_runs_in_several_threads_at_once(rng: np.random.Generator) -> None:
    kernel = hr.compile(hr.causal & hr.window(20, 0), hr.Shape(heads=2, head_dim=32))
    inputs = [rng.standard_normal((1, 2, 50 + i, 32), np.float32) for i in range(4)]
    expected = [kernel(x, x, x) for x in inputs]
    results: list[np.ndarray | None] = [None] * 4

    def work(i: int) -> None:
        for _ in range(10):
            results[i] = kernel(inputs[i], inputs[i], inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, x in zip(results, expected):
        np.testing.assert_array_equal(result, x)


def test_arrays_are_not_kept_alive(rng: np.random.Generator) -> None:
    import weakref

    class Tracked(np.ndarray):
        pass

    q, k, v = (x.view(Tracked) for x in rng.standard_normal((3, 1, 1, 8, 16), np.float32))
    segment = np.zeros(8, np.int32).view(Tracked)
    gone = [weakref.ref(x) for x in (q, segment)]
    gc.disable()  # reference counts alone must do
    try:
        hr.attention(q, k, v, hr.documents(segment) & hr.causal)
        del q, k, v, segment
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_anything_with_dlpack_is_taken(rng: np.random.Generator) -> None:
    class Other:
        """An array of a library that the package has never heard of."""

        def __init__(self, array: np.ndarray) -> None:
            self.shape, self.dtype = array.shape, array.dtype
            self._array = array

        def __dlpack__(self, **options: object) -> object:
            return self._array.__dlpack__(**options)  # type: ignore[arg-type]

        def __dlpack_device__(self) -> tuple[int, int]:
            return self._array.__dlpack_device__()

    q, k, v = tensors(rng)
    segment = np.arange(40, dtype=np.int32) // 9
    out = hr.attention(Other(q), Other(k), Other(v), hr.documents(Other(segment)) & hr.causal)
    expected, _ = reference.attend(q, k, v, lambda g: (segment[g.q] == segment[g.k]) & (g.k <= g.q))
    assert isinstance(out, np.ndarray)
    np.testing.assert_allclose(out, expected, atol=2e-5)
