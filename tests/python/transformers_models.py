"""Models of transformers, small and with random weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers


def bigbird() -> Any:
    config = transformers.BigBirdConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        block_size=16,
        num_random_blocks=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BigBirdModel(config, add_pooling_layer=False)


def longformer(dropout: float = 0.0) -> Any:
    config = transformers.LongformerConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=300,
        attention_window=[16, 32],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=dropout,
    )
    return transformers.LongformerModel(config, add_pooling_layer=False)


def decoder(kind: str) -> Any:
    sizes = {
        "vocab_size": 100,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 64,
        "max_position_embeddings": 256,
    }
    if kind == "llama":
        return transformers.LlamaModel(transformers.LlamaConfig(**sizes))
    if kind == "mistral":
        return transformers.MistralModel(transformers.MistralConfig(**sizes, sliding_window=20))
    return transformers.Gemma2Model(
        transformers.Gemma2Config(**sizes, sliding_window=20, attn_logit_softcapping=20.0, query_pre_attn_scalar=16)
    )


def right_padded(lengths: list[int], length: int) -> Any:
    return (torch.arange(length) < torch.tensor(lengths)[:, None]).long()
