"""Masks by operators: their text, what they refuse, and what they mean."""

from __future__ import annotations

import harrier as hr
import numpy as np
import pytest
import reference
from random_masks import random_mask


def test_operators_build_what_the_text_says() -> None:
    mask = hr.causal & hr.window(1024, 0) | hr.sink(4)
    assert str(mask) == "causal & window(1024, 0) | sink(4)"
    assert str(~(hr.causal | hr.none)) == "~(causal | none)"
    assert str(hr.causal & (hr.sink(1) & hr.sink(2))) == "causal & sink(1) & sink(2)"


@pytest.mark.parametrize(
    "mask, text",
    [
        (hr.window(None, 3), "window(inf, 3)"),
        (hr.window(np.int64(2), 0), "window(2, 0)"),
        (hr.dilated(64, 0, step=2), "dilated(64, 0, 2)"),
        (hr.global_(3), "global(3)"),
        (hr.global_("tokens", "keys"), "global(@tokens, keys)"),
        (hr.documents("segment"), "documents(@segment)"),
        (hr.blocks(32, "table", counted=True), "blocks(32, @table, counted)"),
        (hr.blocks(32, offsets="offsets", indices="indices"), "blocks(32, @offsets, @indices)"),
        (hr.bigbird(64, 3, "table"), "bigbird(64, 3, @table)"),
        (hr.bigbird(64, 3, seed=7), "bigbird(64, 3, seed=7)"),
        (hr.bigbird(64, 3, zero=True), "bigbird(64, 3, zero)"),
        (hr.bits("mask"), "bits(@mask)"),
        (hr.where(hr.array("kind")[hr.b, hr.k] == 3), "where(@kind[b, k] == 3)"),
        (hr.where(True), "all"),
    ],
)
def test_every_atom_has_the_language_s_own_text(mask: hr.Mask, text: str) -> None:
    assert str(mask) == str(hr.parse_mask(text))


def test_text_and_masks_turn_into_each_other(rng: np.random.Generator) -> None:
    for _ in range(100):
        mask, _ = random_mask(rng, 40, 50)
        assert str(hr.parse_mask(str(mask))) == str(mask)


def test_long_chains_stay_flat() -> None:
    mask = hr.sink(0)
    for n in range(1, 600):
        mask = mask | hr.sink(n)
    assert str(mask).count("|") == 599


def test_arrays_that_masks_carry_get_names_of_their_own() -> None:
    first, second = np.zeros(8, np.int32), np.ones(8, np.int32)
    pattern = hr.Pattern(hr.documents(first) & hr.documents(second) | hr.documents(first) | hr.documents("mine"))
    assert pattern.array_names == ("segment", "segment_2", "mine")
    assert pattern.arrays["segment"] is first and pattern.arrays["segment_2"] is second
    assert pattern.unbound == ("mine",)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: hr.window(-1, 0), "left of window is -1"),
        (lambda: hr.window(0.5, 0), "a bound is 0.5, expected a whole number"),
        (lambda: hr.dilated(4, 0, step=0), "step"),
        (lambda: hr.global_(3, "rows"), "side is 'rows'"),  # type: ignore[arg-type]
        (lambda: hr.blocks(32), "give either"),
        (lambda: hr.bigbird(64, 3), "a table, a seed or zero=True"),
        (lambda: hr.causal & (hr.q < 3), "wrap conditions in hr.where"),
        (lambda: hr.causal and hr.sink(1), "a mask has no truth value"),
        (lambda: hr.where(hr.q * 0.5 < hr.k), "integers only"),
        (lambda: hr.where(hr.s > 0.0), "the score s"),
        (lambda: hr.parse_mask("windw(3, 0)"), "did you mean 'window'"),
    ],
)
def test_mistakes_are_refused_where_they_are_made(build: object, message: str) -> None:
    with pytest.raises(hr.InvalidInput, match=message) as caught:
        build()  # type: ignore[operator]
    assert isinstance(caught.value, ValueError)


@pytest.mark.runs
def test_random_masks_see_what_numpy_says(rng: np.random.Generator) -> None:
    for _ in range(25):
        q_len = int(rng.integers(1, 70))
        k_len = q_len + int(rng.integers(0, 40))
        mask, counts = random_mask(rng, q_len, k_len)
        q = rng.standard_normal((2, 2, q_len, 16), np.float32)
        k, v = rng.standard_normal((2, 2, 2, k_len, 16), np.float32)
        out, lse = hr.attention(q, k, v, mask, return_lse=True)
        expected, expected_lse = reference.attend(q, k, v, counts)
        np.testing.assert_allclose(out, expected, atol=2e-5, err_msg=str(mask))
        np.testing.assert_allclose(lse, expected_lse, atol=2e-5, err_msg=str(mask))


@pytest.mark.runs
def test_blocks_that_are_listed_twice_count_twice(rng: np.random.Generator) -> None:
    offsets = np.array([[0, 2, 3]], np.int32)
    indices = np.array([0, 0, 1], np.int32)
    q, k, v = rng.standard_normal((3, 1, 1, 16, 16), np.float32)
    out = hr.attention(q, k, v, hr.blocks(8, offsets=offsets, indices=indices, counted=True) | hr.sink(12))
    table = np.array([[2, 0], [0, 1]])
    expected, _ = reference.attend(q, k, v, lambda g: np.maximum(table[g.q // 8, g.k // 8], g.k < 12))
    np.testing.assert_allclose(out, expected, atol=2e-5)
