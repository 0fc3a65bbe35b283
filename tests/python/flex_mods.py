"""Mask and score functions as people write them for FlexAttention, by what PyTorch's tests and attention-gym's examples do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

BATCH, HEADS, LENGTH, DIM = 2, 4, 64, 16


@dataclass
class Mods:
    score_mod: Callable[..., Any] | None = None
    mask_mod: Callable[..., Any] | None = None
    q_len: int = LENGTH
    k_len: int = LENGTH
    text: str = ""  # what must stand in the pattern where a closed form is expected


Draw = Callable[..., Any]


def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q >= k


def no_mods(draw: Draw) -> Mods:
    return Mods()


def identity(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: score)


def times_two(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: score * 2)


def squared(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: score * score)


def causal_score(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: torch.where(q >= k, score, float("-inf")), text="mask causal\n")


def inverse_causal_score(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: torch.where(q <= k, score, float("-inf")), text="mask window(0, inf)\n")


def masked_fill_score(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: score.masked_fill(q < k, -float("inf")), text="mask causal\n")


def relative_bias(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: score + (q - k))


def relative_causal(draw: Draw) -> Mods:
    def score_mod(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return torch.where(q >= k, score + (q - k), float("-inf"))

    return Mods(score_mod, text="mask causal\n")


def computed_alibi(draw: Draw) -> Mods:
    def score_mod(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return score + (k - q) * torch.exp2(-((h + 1) * 8.0 / HEADS))

    return Mods(score_mod, causal)


def table_alibi(draw: Draw) -> Mods:
    slopes = draw(HEADS).abs()
    return Mods(lambda score, b, h, q, k: score + slopes[h] * (k - q), causal, text="alibi(@slopes)")


def two_sided_alibi(draw: Draw) -> Mods:
    slopes = draw(HEADS).abs()
    return Mods(lambda score, b, h, q, k: score - slopes[h] * (q - k).abs(), text="alibi(@slopes)")


def acausal_alibi(draw: Draw) -> Mods:
    """Rises towards later keys, so it is no closed form."""
    slopes = draw(HEADS).abs()
    return Mods(lambda score, b, h, q, k: score + slopes[h] * (k - q), text="score(")


def softcap(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: 20 * torch.tanh(score / 20), text="softcap(20.0)")


def softcap_with_alibi(draw: Draw) -> Mods:
    slopes = draw(HEADS).abs()

    def score_mod(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        score = score / 15.0
        return torch.tanh(score) * 15.0 - slopes[h] * torch.abs(q - k)

    return Mods(score_mod, text="softcap(15.0) alibi(@slopes)")


def softcap_beside_the_score(draw: Draw) -> Mods:
    """Uses the score once more, so it is no closed form."""
    return Mods(lambda score, b, h, q, k: 5 * torch.tanh(score / 5) + 0.1 * score, text="score(")


def checkerboard(draw: Draw) -> Mods:
    def score_mod(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        score = torch.where(torch.abs(k - q) % 2 == 1, score * 0.5, score)
        return torch.where(torch.abs(k - q) % 2 == 0, score * 2.0, score)

    return Mods(score_mod)


def full_bias(draw: Draw) -> Mods:
    bias = draw(BATCH, HEADS, LENGTH, LENGTH)
    return Mods(lambda score, b, h, q, k: score + bias[b, h, q, k], text="bias(@bias)")


def head_bias_in_parts(draw: Draw) -> Mods:
    bias = draw(HEADS, LENGTH, LENGTH)
    return Mods(lambda score, b, h, q, k: score + bias[h][q][k], text="bias(@bias)")


def pair_bias(draw: Draw) -> Mods:
    bias = draw(LENGTH, LENGTH)
    return Mods(lambda score, b, h, q, k: bias[q, k] + score, text="bias(@bias)")


def batch_head_bias(draw: Draw) -> Mods:
    bias = draw(BATCH, HEADS)
    return Mods(lambda score, b, h, q, k: score + bias[b, h])


def query_bias(draw: Draw) -> Mods:
    bias = draw(LENGTH)
    return Mods(lambda score, b, h, q, k: score + bias[q])


def key_scale(draw: Draw) -> Mods:
    scale = draw(LENGTH)
    return Mods(lambda score, b, h, q, k: score * scale[k])


def learned_relative_table(draw: Draw) -> Mods:
    table = draw(HEADS, 2 * LENGTH - 1)
    return Mods(lambda score, b, h, q, k: score + table[h, q - k + LENGTH - 1])


def clamped_relative_table(draw: Draw) -> Mods:
    table = draw(17)
    return Mods(lambda score, b, h, q, k: score + table[torch.clamp(q - k, -8, 8) + 8])


def several_scales(draw: Draw) -> Mods:
    token, batch, head = draw(LENGTH), draw(BATCH), draw(HEADS)
    return Mods(lambda score, b, h, q, k: score * token[q] + batch[b] * head[h])


def captured_scalar(draw: Draw) -> Mods:
    scale = draw(1).abs()[0]
    return Mods(lambda score, b, h, q, k: score * scale + scale)


def captured_number(draw: Draw) -> Mods:
    scale = 0.25
    return Mods(lambda score, b, h, q, k: scale * score)


def activation(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: torch.nn.functional.silu(score) + torch.sigmoid(score))


def square_root_of_distance(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: score - torch.sqrt(torch.abs(q - k).float() + 1) / (h + 1))


def composed_scores(draw: Draw) -> Mods:
    def first(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return torch.where(q >= k, score, -float("inf"))

    def second(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return score + (q - k) * 0.1

    return Mods(lambda score, b, h, q, k: first(second(score, b, h, q, k), b, h, q, k), text="mask causal\n")


def padded_causal_score(draw: Draw) -> Mods:
    valid = torch.tensor([40, 64])

    def score_mod(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return torch.where((q >= k) & (k < valid[b]), score, -float("inf"))

    return Mods(score_mod)


def score_of_documents(draw: Draw) -> Mods:
    document = torch.arange(LENGTH) // 11

    def score_mod(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return torch.where(document[q] == document[k], score, -float("inf"))

    return Mods(score_mod, text="documents(@segment)")


def softer_across_documents(draw: Draw) -> Mods:
    """Integers that are read by a score."""
    document = torch.arange(LENGTH) // 11
    return Mods(lambda score, b, h, q, k: torch.where(document[q] == document[k], score, score - 2.0))


def two_dimensional_distance(draw: Draw) -> Mods:
    def score_mod(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return score - torch.abs(q // 8 - k // 8) - torch.abs(q % 8 - k % 8)

    return Mods(score_mod)


def converted_score(draw: Draw) -> Mods:
    return Mods(lambda score, b, h, q, k: score.to(torch.float32) * 2.0)


def causal_mask(draw: Draw) -> Mods:
    return Mods(mask_mod=causal, text="mask causal\n")


def sliding_window(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: (q >= k) & (q - k <= 9), text="mask causal & window(9, inf)\n")


def two_sided_window(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: torch.abs(q - k) <= 7, text="window(7, inf) & window(inf, 7)")


def strict_window(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: (k < q) & (q - 9 < k), text="mask ~window(0, inf) & window(8, inf)\n")


def far_keys(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: ~((q - k).abs() < 5), text="mask ~(")


def dilated_window(draw: Draw) -> Mods:
    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> Any:
        distance = torch.abs(q - k)
        return (distance <= 12) & (distance % 3 == 0)

    return Mods(mask_mod=mask_mod, text="dilated(inf, inf, 3)")


def prefix_lm(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: (k < 12) | (q >= k), text="mask sink(12) | causal\n")


def ragged_prefix_lm(draw: Draw) -> Mods:
    prefix = torch.tensor([5, 20])
    return Mods(mask_mod=lambda b, h, q, k: (k < prefix[b]) | (q >= k))


def sinks(draw: Draw) -> Mods:
    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q >= k) & ((q - k < 10) | (k <= 3))

    return Mods(mask_mod=mask_mod, text="mask causal & (window(9, inf) | sink(4))\n")


def documents(draw: Draw) -> Mods:
    document = torch.arange(LENGTH) // 13
    return Mods(
        mask_mod=lambda b, h, q, k: (document[q] == document[k]) & (q >= k), text="documents(@segment) & causal"
    )


def documents_of_rows(draw: Draw) -> Mods:
    document = torch.stack([torch.arange(LENGTH) // 13, torch.arange(LENGTH) // 9])
    return Mods(mask_mod=lambda b, h, q, k: document[b, q] == document[b, k], text="documents(@segment)")


def documents_with_own_positions(draw: Draw) -> Mods:
    """attention-gym's generate_doc_mask_mod: a mask inside documents, by positions that begin anew in each."""
    offsets = torch.tensor([0, 10, 31, 64])
    document = torch.repeat_interleave(torch.arange(3), offsets.diff())

    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> Any:
        q_own, k_own = q - offsets[document[q]], k - offsets[document[k]]
        return (document[q] == document[k]) & ((k_own < 3) | (q_own >= k_own))

    return Mods(mask_mod=mask_mod, text="documents(@segment)")


def padding_mask(draw: Draw) -> Mods:
    shown = torch.rand(BATCH, LENGTH) < 0.8
    return Mods(mask_mod=lambda b, h, q, k: shown[b, k] & shown[b, q])


def dense_mask(draw: Draw) -> Mods:
    mask = torch.rand(BATCH, HEADS, LENGTH, LENGTH) < 0.4
    return Mods(mask_mod=lambda b, h, q, k: mask[b, h, q, k], text="bits(@mask)")


def block_table(draw: Draw) -> Mods:
    table = torch.rand(HEADS, 8, 8) < 0.4
    return Mods(mask_mod=lambda b, h, q, k: table[h, q // 8, k // 8], text="blocks(8, @table)")


def block_table_of_all_heads(draw: Draw) -> Mods:
    table = (torch.rand(4, 4) < 0.5).int()
    return Mods(mask_mod=lambda b, h, q, k: table[q // 16, k // 16] > 0)


def natten(draw: Draw) -> Mods:
    width, kernel = 8, 5

    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> Any:
        q_x, q_y, k_x, k_y = q // width, q % width, k // width, k % width
        x = q_x.clamp(kernel // 2, width - 1 - kernel // 2)
        y = q_y.clamp(kernel // 2, width - 1 - kernel // 2)
        return ((x - k_x).abs() <= kernel // 2) & ((y - k_y).abs() <= kernel // 2)

    return Mods(mask_mod=mask_mod)


def sliding_tiles(draw: Draw) -> Mods:
    """Sliding tile attention: windows of whole tiles on a grid."""

    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> Any:
        q_tile, k_tile = q // 4 % 4, k // 4 % 4
        center = torch.clamp(q_tile, min=1, max=2)
        return torch.logical_and(torch.abs(center - k_tile) <= 1, torch.abs(q // 16 - k // 16) <= 1)

    return Mods(mask_mod=mask_mod)


def flamingo(draw: Draw) -> Mods:
    """Text sees the images before it: lengths differ."""
    last_image = torch.arange(LENGTH) // 20
    return Mods(mask_mod=lambda b, h, q, k: (k // 12) <= last_image[q], k_len=48)


def causal_of_other_lengths(draw: Draw) -> Mods:
    return Mods(mask_mod=causal, q_len=40, text="mask ~window(23, inf)\n")


def offset_causal(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: q + 24 >= k, q_len=40, text="mask causal\n")


def captured_offset_causal(draw: Draw) -> Mods:
    offset = torch.tensor(24)
    return Mods(mask_mod=lambda b, h, q, k: q + offset >= k, q_len=40)


def window_of_other_lengths(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: (k <= q + 5) & (q - k < 9) & ((q - k) % 3 == 0), q_len=30)


def documents_of_cached_keys(draw: Draw) -> Mods:
    document = torch.arange(LENGTH) // 13
    return Mods(mask_mod=lambda b, h, q, k: document[q + 20] == document[k], q_len=44, text="documents(@segment)")


def documents_of_first_keys(draw: Draw) -> Mods:
    """By the same table, of positions that are not aligned at the end."""
    document = torch.arange(LENGTH) // 13
    return Mods(mask_mod=lambda b, h, q, k: document[q] == document[k], q_len=44, text="where(")


def more_queries_than_keys(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: (q >= k) & (q - k <= 30), k_len=40)


def alibi_of_cached_keys(draw: Draw) -> Mods:
    slopes = draw(HEADS).abs()
    return Mods(lambda score, b, h, q, k: score - slopes[h] * torch.abs(q + 24 - k), q_len=40, text="alibi(@slopes)")


def heads_that_differ(draw: Draw) -> Mods:
    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> Any:
        return torch.where(h % 2 == 0, q >= k, (q - k).abs() < 9)

    return Mods(mask_mod=mask_mod)


def windows_of_heads(draw: Draw) -> Mods:
    windows = torch.tensor([3, 7, 20, 64])
    return Mods(mask_mod=lambda b, h, q, k: (q >= k) & (q - k <= windows[h]))


def strided(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: (q >= k) & ((q - k < 6) | ((k + 1) % 8 == 0)))


def block_causal(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: q // 16 >= k // 16)


def exclusive_or(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: (q >= k) ^ (k % 5 == 0))


def everything_hidden_for_some(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: q - k >= 30, text="mask ~window(29, inf)\n")


def noop_mask(draw: Draw) -> Mods:
    return Mods(mask_mod=lambda b, h, q, k: b.new_ones(size=(), dtype=torch.bool), text="mask all\n")


def torch_compositions(draw: Draw) -> Mods:
    from torch.nn.attention.flex_attention import and_masks, or_masks

    document = torch.arange(LENGTH) // 13
    inside = and_masks(causal, lambda b, h, q, k: document[q] == document[k])
    return Mods(mask_mod=or_masks(inside, lambda b, h, q, k: k < 2), text="documents(@segment)")


def score_and_mask(draw: Draw) -> Mods:
    slopes = draw(HEADS).abs()
    document = torch.arange(LENGTH) // 13
    return Mods(
        lambda score, b, h, q, k: 30.0 * torch.tanh(score / 30.0) - slopes[h] * torch.abs(q - k),
        lambda b, h, q, k: (q >= k) & (document[q] == document[k]),
        text="softcap(30.0) alibi(@slopes)",
    )


def learned_tanh_gate(draw: Draw) -> Mods:
    gate = draw(HEADS)
    return Mods(lambda score, b, h, q, k: score * torch.tanh(gate[h]) + math.pi * gate[h] ** 2)


WORKING = [
    value
    for value in list(globals().values())
    if callable(value) and getattr(value, "__annotations__", {}).get("draw") == "Draw"
]


def trigonometry(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    return torch.sin(torch.cos(score)) + torch.tan(b)


def rounded_score(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    return torch.round(score)


def branch(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    return score * 2 if q > k else score


def pythons_minimum(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    return score + min(q, k)


def read_value(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    return score + float(q.item())


def loop(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    for _ in range(q):
        score = score + 1
    return score


def sliced(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    return score + torch.ones(8, 8)[q, :].sum()


REFUSED = [
    (trigonometry, "torch.cos cannot be traced"),
    (rounded_score, "torch.round cannot be traced"),
    (branch, "no truth value while a pattern is built"),
    (pythons_minimum, "no truth value while a pattern is built"),
    (read_value, r"item\(\) of an expression"),
    (loop, "index|range|integer"),
    (sliced, "index single elements"),
]
