"""Hugging Face transformers: its models on our attention, with the same outputs and gradients. No hub is asked for anything.

from harrier.integrations import transformers as harrier_transformers

harrier_transformers.accelerate(model)                       # BigBird, Longformer, or any model of the interface
AutoModel.from_config(config, attn_implementation="harrier") # after register(), for decoders and encoders
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function
from transformers.models.big_bird.modeling_big_bird import BigBirdAttention, BigBirdBlockSparseAttention
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from .. import masks
from .._harrier import InvalidInput
from ..dispatch import attention
from ..flex import BlockMask, create_block_mask
from ..masks import Mask
from ..patterns import Pattern, sink_logit

Tensor = torch.Tensor


def register() -> None:
    """Makes `attn_implementation="harrier"` known. Calling it again changes nothing."""
    AttentionInterface.register("harrier", attention_forward)
    AttentionMaskInterface.register("harrier", make_mask)


def accelerate(model: torch.nn.Module) -> torch.nn.Module:
    """Puts a model's attention on Harrier, in place, and returns it.

    BigBird's block-sparse layers and Longformer's layers are swapped for ours, which keep their weights and settings; other
    models get `attn_implementation="harrier"`. Random blocks of BigBird are those that transformers draws in training, and
    none in eval mode, as there.

    Raises InvalidInput for a model that has neither.
    """
    register()
    swapped = 0
    for module in model.modules():
        replacement = _REPLACEMENTS.get(type(module))
        if replacement is not None:
            module.__class__ = replacement
            swapped += replacement is not HarrierBigBirdLayer
    if swapped == 0:
        if not hasattr(model, "set_attn_implementation"):
            raise InvalidInput(
                f"{type(model).__name__} has no BigBird or Longformer layers and no attention interface; nothing can be swapped"
            )
        model.set_attn_implementation("harrier")  # type: ignore[operator]
    return model


def make_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    device: Any = "cpu",
    **options: Any,
) -> BlockMask:
    """A model's mask as a pattern: what transformers calls once a forward pass, for all layers."""
    if isinstance(q_offset, Tensor):
        q_offset = int(q_offset)

    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> Any:
        return mask_function(b, h, q + q_offset, k + kv_offset)

    block_mask = create_block_mask(mask_mod, batch_size, None, q_length, kv_length)
    if attention_mask is not None:
        shown = attention_mask[:, kv_offset : kv_offset + kv_length].to(torch.int32)
        shown = torch.nn.functional.pad(shown, (0, kv_length - shown.shape[-1]))
        # Tokens see their own kind: what padding sees is thrown away.
        mask = block_mask.mask & masks.documents(shown)
        return BlockMask(mask, block_mask.seq_lengths, mask_mod, batch_size)
    return block_mask


def attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention of a layer of the interface: [batch, heads, length, dim] to [batch, length, heads, dim]."""
    _refuse(dropout if module.training else 0.0, bool(options.get("output_attentions")))
    arrays: dict[str, Tensor] = {}
    if isinstance(attention_mask, BlockMask):
        mask, kept = attention_mask.mask, attention_mask.patterns
    else:
        mask, kept = _mask_of_tensor(module, query, key, attention_mask, is_causal, arrays), {}
    if position_bias is not None:
        arrays["bias"] = arrays["bias"] + position_bias if "bias" in arrays else position_bias
    if s_aux is not None:
        arrays["sinks"] = s_aux
    settings = (scaling, softcap, "bias" in arrays, "sinks" in arrays)
    pattern = kept.get(settings)
    if pattern is None:
        pattern = Pattern(
            mask,
            scale=scaling,
            softcap=softcap,
            bias="bias" if "bias" in arrays else None,
            softmax=sink_logit("sinks") if "sinks" in arrays else "standard",
        )
        kept[settings] = pattern
    out = attention(query, key, value, pattern, arrays=arrays)
    return out.transpose(1, 2).contiguous(), None


def _mask_of_tensor(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    attention_mask: Tensor | None,
    is_causal: bool | None,
    arrays: dict[str, Tensor],
) -> Mask:
    """Of a mask that the caller made: bool [batch or 1, heads or 1, q_len, kv_len], or floats that are added."""
    if attention_mask is None:
        is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        return masks.causal if is_causal and query.shape[2] > 1 else masks.all
    attention_mask = attention_mask[..., : key.shape[2]].expand(-1, -1, query.shape[2], -1)
    if attention_mask.dtype == torch.bool:
        arrays["mask"] = attention_mask
        return masks.bits("mask")
    arrays["bias"] = attention_mask.float()
    return masks.all


def _refuse(dropout: float, output_attentions: bool) -> None:
    if dropout > 0:
        raise InvalidInput(
            f"dropout of attention is {dropout}, kernels have none; set attention_probs_dropout_prob (attention_dropout) to 0"
        )
    if output_attentions:
        raise InvalidInput("output_attentions=True asks for weights, which kernels never write; leave it out")


def _valid_lengths(shown: Tensor) -> Tensor:
    """Lengths of rows [batch, length] of which a beginning is shown. Raises InvalidInput for holes."""
    lengths = shown.sum(-1)
    expected = torch.arange(shown.shape[-1], device=shown.device) < lengths[:, None]
    if not torch.equal(expected, shown):
        raise InvalidInput("attention_mask hides tokens before others that it shows; pad at the end")
    return lengths.to(torch.int32)


class HarrierBigBirdLayer(BigBirdAttention):
    """What BigBird has around its attention: it converts masks for each layer, of which ours reads one."""

    def forward(self, hidden_states: Tensor, *inputs: Any, to_mask: Tensor | None = None, **named: Any) -> Any:
        if self.attention_type == "block_sparse" and to_mask is not None:
            dtype = hidden_states.dtype
            to_mask = _of_mask(to_mask, lambda mask: mask.to(dtype), dtype)
            named = {name: x for name, x in named.items() if name not in ("band_mask", "from_mask")}
        return super().forward(hidden_states, *inputs, to_mask=to_mask, **named)  # type: ignore[misc]


class HarrierBigBirdAttention(BigBirdBlockSparseAttention):
    """BigBird's block-sparse layer. See `accelerate`."""

    def forward(
        self,
        hidden_states: Tensor,
        band_mask: Any = None,
        from_mask: Any = None,
        to_mask: Tensor | None = None,
        from_blocked_mask: Any = None,
        to_blocked_mask: Any = None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        _refuse(0.0, bool(options.get("output_attentions")))
        batch, length, _ = hidden_states.shape
        if length % self.block_size != 0:
            raise InvalidInput(f"the length is {length}, no multiple of the block size {self.block_size}; pad it")

        def heads_of(x: Tensor) -> Tensor:
            return x.view(batch, length, self.num_attention_heads, self.attention_head_size).transpose(1, 2)

        q, k, v = (heads_of(layer(hidden_states)) for layer in (self.query, self.key, self.value))
        lengths = (
            None if to_mask is None else _of_mask(to_mask, lambda mask: _valid_lengths(mask[:, 0, 0] != 0), "lengths")
        )
        pattern = _bigbird_pattern(self.block_size, self.num_random_blocks, self.training)
        arrays = {"table": self._random_blocks(length, hidden_states.device)} if self.training else {}
        out = attention(q, k, v, pattern, lengths=lengths, arrays=arrays)
        return out.transpose(1, 2).reshape(batch, length, -1), None

    def _random_blocks(self, length: int, device: torch.device) -> Tensor:
        """[heads, blocks - 2, random], as transformers draws them for this layer. NumPy's generator is left as it was."""
        kept = self.__dict__.setdefault("_harrier_random_blocks", {})
        if (length, device) not in kept:
            state = np.random.get_state()
            np.random.seed(self.seed)
            try:
                kept[length, device] = torch.as_tensor(np.stack(self._draw(length)), dtype=torch.int32, device=device)
            finally:
                np.random.set_state(state)
        return kept[length, device]

    def _draw(self, length: int) -> list[np.ndarray]:
        size, count, heads = self.block_size, self.num_random_blocks, self.num_attention_heads
        if length in (1024, 3072, 4096):  # plans of the paper
            return [
                self._bigbird_block_rand_mask(self.max_seqlen, self.max_seqlen, size, size, count, last_idx=1024)[
                    : length // size - 2
                ]
                for _ in range(heads)
            ]
        lengths, counts = self._get_rand_attn_plan(length, size, count)
        return list(
            self._bigbird_block_rand_mask_with_head(
                from_seq_length=length,
                to_seq_length=length,
                from_block_size=size,
                to_block_size=size,
                num_heads=heads,
                plan_from_length=lengths,
                plan_num_rand_blocks=counts,
            )
        )


_BIGBIRD_PADDING = -10000.0  # what transformers adds to scores of padding


@functools.lru_cache(maxsize=64)
def _bigbird_pattern(block: int, random: int, is_drawn: bool) -> Pattern:
    mask = masks.bigbird(block, random, "table") if is_drawn else masks.bigbird(block, random, zero=True)
    return Pattern(mask, padding=_BIGBIRD_PADDING)


class HarrierLongformerAttention(LongformerSelfAttention):
    """Longformer's layer: a band and global columns, then global rows by their own projections. See `accelerate`."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        is_index_masked: Tensor | None = None,
        is_index_global_attn: Tensor | None = None,
        is_global_attn: bool | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor]:
        _refuse(self.dropout if self.training else 0.0, output_attentions)
        batch, length, _ = hidden_states.shape

        def heads_of(x: Tensor) -> Tensor:
            return x.view(batch, -1, self.num_heads, self.head_dim).transpose(1, 2)

        lengths = (
            None
            if is_index_masked is None
            else _of_mask(is_index_masked, lambda mask: _valid_lengths(~mask), "lengths")
        )
        side = self.one_sided_attn_window_size
        mask = masks.window(side, side)
        arrays: dict[str, Tensor] = {}
        rows = None
        if is_global_attn and is_index_global_attn is not None:
            rows = _of_mask(is_index_global_attn, _GlobalRows, "rows")
            mask = mask | masks.global_("tokens" if rows.leading is None else rows.leading, "keys")
            if rows.leading is None:
                arrays["tokens"] = rows.tokens
        q, k, v = (heads_of(layer(hidden_states)) for layer in (self.query, self.key, self.value))
        out = attention(q, k, v, mask, lengths=lengths, arrays=arrays).transpose(1, 2)
        if rows is not None:
            q = heads_of(self.query_global(rows.read(hidden_states)))
            k, v = (heads_of(layer(hidden_states)) for layer in (self.key_global, self.value_global))
            lengths_of_rows = None if lengths is None else rows.every
            global_out = attention(q, k, v, masks.all, lengths=lengths_of_rows, key_lengths=lengths).transpose(1, 2)
            out = rows.write(out, global_out)
        return (out.reshape(batch, length, -1),)


class _GlobalRows:
    """Rows of global tokens, of a mask [batch, length]."""

    def __init__(self, is_global: Tensor) -> None:
        self.tokens = _global_tokens(is_global)
        batch, most = self.tokens.shape
        self.leading = _leading_tokens(self.tokens)
        self.every = torch.full((batch,), most, dtype=torch.int32, device=is_global.device)
        self._at = (torch.arange(batch, device=is_global.device)[:, None], self.tokens.clamp(min=0).long())
        is_token = self.tokens >= 0
        self._shown = (self._at[0].expand_as(self.tokens)[is_token], self._at[1][is_token])
        self._from = is_token.nonzero(as_tuple=True)

    def read(self, hidden_states: Tensor) -> Tensor:
        """[batch, most of a row, hidden]; what a row has fewer of is any."""
        return hidden_states[:, : self.leading] if self.leading is not None else hidden_states[self._at]

    def write(self, out: Tensor, rows: Tensor) -> Tensor:
        """`out` with these rows, [batch, length, ...]; in place where nobody needs it as it was."""
        if self.leading is None:
            return out.index_put(self._shown, rows[self._from])
        if torch.is_grad_enabled():
            return torch.cat([rows, out[:, self.leading :]], 1)
        out[:, : self.leading] = rows
        return out


def _global_tokens(is_global: Tensor) -> Tensor:
    """Positions [batch, most of a row], -1 where a row has fewer."""
    counts = is_global.sum(-1)
    order = torch.argsort(~is_global, dim=-1, stable=True)[:, : int(counts.max())]
    return torch.where(torch.arange(order.shape[1], device=order.device) < counts[:, None], order, -1).to(torch.int32)


def _leading_tokens(tokens: Tensor) -> int | None:
    """n, where every row's global tokens are its first n; they need no array then."""
    leading = torch.arange(tokens.shape[1], dtype=tokens.dtype, device=tokens.device).expand_as(tokens)
    return tokens.shape[1] if torch.equal(tokens, leading) else None


_made_of_masks: dict[tuple[int, Any], tuple[Any, Any]] = {}


def _of_mask(mask: Tensor, make: Callable[[Tensor], Any], what: Any) -> Any:
    """`what` is made of a model's mask, once for all layers, which are handed the same tensor: looking at it means waiting
    on a GPU. Nobody writes to masks."""
    if torch.compiler.is_compiling():
        return make(mask)
    key = (id(mask), what)
    known = _made_of_masks.get(key)
    if known is not None and known[0]() is mask:
        return known[1]
    made = make(mask)
    if made is not mask:
        _made_of_masks[key] = (weakref.ref(mask, lambda _: _made_of_masks.pop(key, None)), made)
    return made


_REPLACEMENTS: dict[type, type] = {
    BigBirdAttention: HarrierBigBirdLayer,
    BigBirdBlockSparseAttention: HarrierBigBirdAttention,
    LongformerSelfAttention: HarrierLongformerAttention,
}
