"""Patterns: scores, softmax and padding, and their text."""

from __future__ import annotations

import harrier as hr
import numpy as np
import pytest
import reference
from reference import Grid

EVERYTHING = """attention everything {
  heads 8  kv_heads 2  head_dim 96  value_dim 64  dtype fp32  direction backward
  mask    (documents(@segment) & dilated(64, 0, 2) | global(@tokens, keys) | sink(8)) & ~bits(@blocked)
          | blocks(32, @offsets, @indices, counted) | where(@kind[b, k] == 3 && (q - k) % 128 < 16)
  padding additive(-10000)
  score   scale(0.1) softcap(30) alibi(@slopes) bias(@bias) score(select(k > q, s - 2.0, s) + @shift[h, min(q, 511)])
  softmax sink_logit(@sinks)
  lengths histogram(512: 0.3, 1024: 0.7)  batch 4
}"""


def test_workloads_turn_into_text_and_back() -> None:
    workload = hr.parse(EVERYTHING)
    assert str(hr.parse(str(workload))) == str(workload)
    assert workload.shape == hr.Shape(heads=8, kv_heads=2, head_dim=96, value_dim=64)
    assert workload.direction == "backward" and workload.batch == 4
    assert set(workload.pattern.learned) == {"slopes", "bias", "shift", "sinks"}
    assert len(workload.pattern.array_names) == 10


def test_operators_and_text_give_the_same_pattern() -> None:
    built = hr.Pattern(
        hr.causal & hr.window(256, 0) | hr.sink(4),
        scale=0.5,
        softcap=20.0,
        alibi="slopes",
        score=hr.select(hr.k > hr.q, hr.s - 2.0, hr.s) + hr.array("shift")[hr.h],
        softmax="pruned_as_zero",
    )
    parsed = hr.parse(
        "attention x { mask causal & window(256, 0) | sink(4)  softmax pruned_as_zero "
        "score scale(0.5) softcap(20) alibi(@slopes) score(select(k > q, s - 2.0, s) + @shift[h]) }"
    ).pattern
    assert str(built) == str(parsed)


def test_names_are_bound_once_for_all_calls() -> None:
    pattern = hr.Pattern(hr.documents("segment"), alibi="slopes")
    bound = pattern.bind(segment=np.zeros(4, np.int32))
    assert bound.unbound == ("slopes",) and pattern.unbound == ("segment", "slopes")
    with pytest.raises(hr.InvalidInput, match="its arrays are: segment, slopes"):
        pattern.bind(segments=np.zeros(4, np.int32))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": "big"}, "expected a number"),
        ({"softcap": -1.0}, "softcap"),
        ({"softmax": "hard"}, "softmax is 'hard'"),
        ({"padding": "shown"}, "padding is 'shown'"),
        ({"score": 3.0}, "expected an expression"),
        ({"score": hr.s + float("inf")}, "numbers are finite"),
        ({"alibi": 3}, "int is no array"),
        ({"mask": hr.q < 3}, "wrap conditions in hr.where"),
    ],
)
def test_mistakes_are_refused(options: dict, message: str) -> None:
    with pytest.raises(hr.InvalidInput, match=message):
        hr.Pattern(**options)


def attend_both(
    rng: np.random.Generator, pattern: hr.Pattern, score: object, counts: reference.Counts, scale: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    q, k, v = rng.standard_normal((3, 2, 2, 33, 24), np.float32)
    expected, _ = reference.attend(q, k, v, counts, scale=scale, score=score)  # type: ignore[arg-type]
    return hr.attention(q, k, v, pattern), expected


def everything(grid: Grid) -> np.ndarray:
    return np.ones_like(grid.q, bool)


@pytest.mark.runs
def test_score_steps_are_applied_in_their_order(rng: np.random.Generator) -> None:
    slopes = rng.random(2, np.float32)
    bias = rng.standard_normal((2, 33, 33), np.float32)
    shift = rng.standard_normal(2, np.float32)

    def score(s: np.ndarray, g: Grid) -> np.ndarray:
        s = 5 * np.tanh(s / 5) - slopes[g.head] * abs(g.aligned - g.k) + bias[g.head]
        return np.where(g.k > g.q, s - 2, s) * 0.5 + shift[g.head]

    expression = hr.select(hr.k > hr.q, hr.s - 2.0, hr.s) * 0.5 + hr.array(shift)[hr.h]
    pattern = hr.Pattern(hr.all, scale=0.3, softcap=5.0, alibi=slopes, bias=bias, score=expression)
    out, expected = attend_both(rng, pattern, score, everything, scale=0.3)
    np.testing.assert_allclose(out, expected, atol=2e-5)


@pytest.mark.runs
@pytest.mark.parametrize(
    "expression, numpy_form",
    [
        (hr.s**2, lambda s, g: s**2),
        (hr.exp(hr.minimum(hr.s, 1)), lambda s, g: np.exp(np.minimum(s, 1))),
        (hr.log(hr.sqrt(hr.s * hr.s + 1.0)), lambda s, g: np.log(np.sqrt(s * s + 1))),
        (hr.tanh(hr.s) / (hr.q + 1), lambda s, g: np.tanh(s) / (g.q + 1)),
        (hr.clamp(hr.s, -0.5, 0.5) - abs(hr.q - hr.k) / 7, lambda s, g: s.clip(-0.5, 0.5) - abs(g.q - g.k) / 7),
        (hr.s + (hr.q - hr.k) // 5, lambda s, g: s + (g.q - g.k) // 5),
        (hr.s + (hr.q - hr.k) % 5, lambda s, g: s + (g.q - g.k) % 5),
        (hr.select((hr.q < 3) & ~(hr.k == 1), hr.s, -hr.s), lambda s, g: np.where((g.q < 3) & (g.k != 1), s, -s)),
        (hr.s + ((hr.q & 3) ^ (hr.k | 1)), lambda s, g: s + ((g.q & 3) ^ (g.k | 1))),
        (hr.s + (~hr.q >> 1), lambda s, g: s + (~g.q >> 1)),
        (2 - hr.s, lambda s, g: 2 - s),
        (1.0 / (1.0 + hr.exp(-hr.s)), lambda s, g: 1 / (1 + np.exp(-s))),
        (np.float32(0.5) * hr.s + np.int64(1), lambda s, g: 0.5 * s + 1),
    ],
)
def test_expressions_compute_what_python_s_operators_mean(
    rng: np.random.Generator, expression: hr.Expression, numpy_form: object
) -> None:
    out, expected = attend_both(rng, hr.Pattern(score=expression), numpy_form, everything)
    np.testing.assert_allclose(out, expected, atol=3e-5)


@pytest.mark.runs
def test_softmax_modes_count_what_they_say(rng: np.random.Generator) -> None:
    q, k, v = rng.standard_normal((3, 1, 2, 20, 16), np.float32)
    sinks = rng.standard_normal(2).astype(np.float32)
    plain, plain_lse = reference.attend(q, k, v, lambda g: g.k <= g.q)
    hidden = (20 - 1 - np.arange(20)).astype(float)
    with_sink = hr.attention(q, k, v, hr.Pattern(hr.causal, softmax=hr.sink_logit(sinks)))
    expected = plain * (np.exp(plain_lse) / (np.exp(plain_lse) + np.exp(sinks)[None, :, None]))[..., None]
    np.testing.assert_allclose(with_sink, expected, atol=2e-5)
    pruned = hr.attention(q, k, v, hr.Pattern(hr.causal, softmax="pruned_as_zero"))
    expected = plain * (np.exp(plain_lse) / (np.exp(plain_lse) + hidden))[..., None]
    np.testing.assert_allclose(pruned, expected, atol=2e-5)


@pytest.mark.runs
def test_padding_is_hidden_or_added_to(rng: np.random.Generator) -> None:
    q, k, v = rng.standard_normal((3, 2, 1, 24, 16), np.float32)
    lengths = np.array([24, 11])
    rows = np.arange(24)[None, None, :, None] < lengths[:, None, None, None]
    out = hr.attention(q, k, v, hr.causal, lengths=lengths)
    expected, _ = reference.attend(q, k, v, lambda g: (g.k <= g.q) & (g.k < lengths[g.batch]))
    np.testing.assert_allclose(out, expected * rows, atol=2e-5)
    out = hr.attention(q, k, v, hr.Pattern(padding=-3.0), lengths=lengths)
    expected, _ = reference.attend(q, k, v, everything, score=lambda s, g: s - 3 * (g.k >= lengths[g.batch]))
    np.testing.assert_allclose(out, expected * rows, atol=2e-5)
