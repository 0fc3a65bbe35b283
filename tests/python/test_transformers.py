"""Models of transformers with random weights: ours against theirs, outputs and gradients. No hub is asked for anything."""

from __future__ import annotations

import copy
from typing import Any

import harrier as hr
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: scripts/test-python --torch")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: scripts/test-python --torch")

from harrier.integrations import transformers as integration  # noqa: E402
from transformers_models import bigbird, decoder, longformer, right_padded  # noqa: E402

pytestmark = pytest.mark.runs


@pytest.fixture(autouse=True)
def seeded(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(int(rng.integers(2**31)))


def compare(theirs: Any, ours: Any, inputs: dict[str, Any], shown: Any = None, atol: float = 2e-4) -> None:
    """Last hidden states of shown tokens, and the gradients of all weights."""
    expected = theirs(**inputs).last_hidden_state
    out = ours(**inputs).last_hidden_state
    shown = torch.ones(expected.shape[:2], dtype=torch.bool) if shown is None else shown.bool()
    torch.testing.assert_close(out[shown], expected[shown], atol=atol, rtol=1e-3)
    weight = torch.randn_like(expected) * shown[..., None]
    for model, hidden in ((theirs, expected), (ours, out)):
        model.zero_grad()
        (hidden * weight).sum().backward()
    gradients = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None:
            scale = parameter.grad.abs().max().clamp(min=1.0)
            torch.testing.assert_close(
                gradients[name].grad / scale, parameter.grad / scale, atol=2e-3, rtol=1e-3, msg=lambda m: f"{name}: {m}"
            )


@pytest.mark.parametrize("training", [False, True])
def test_bigbird_has_the_same_outputs_and_gradients(training: bool) -> None:
    theirs = bigbird().train(training)
    ours = integration.accelerate(copy.deepcopy(theirs))
    mask = right_padded([240, 201], 240)
    compare(theirs, ours, {"input_ids": torch.randint(0, 100, (2, 240)), "attention_mask": mask}, mask)


def test_bigbird_without_padding_leaves_numpy_s_generator_alone() -> None:
    theirs = bigbird().train()
    ours = integration.accelerate(copy.deepcopy(theirs))
    inputs = {"input_ids": torch.randint(0, 100, (1, 256))}
    np.random.seed(5)
    ours(**inputs)
    after = np.random.random()
    np.random.seed(5)
    assert after == np.random.random()
    compare(theirs, ours, inputs)


def test_bigbird_refuses_holes_in_its_mask() -> None:
    ours = integration.accelerate(bigbird().eval())
    mask = torch.ones(1, 240, dtype=torch.long)
    mask[0, 7] = 0
    with pytest.raises(hr.InvalidInput, match="pad at the end"):
        ours(input_ids=torch.randint(0, 100, (1, 240)), attention_mask=mask)


@pytest.mark.parametrize("kind", ["none", "leading", "ragged"])
def test_longformer_has_the_same_outputs_and_gradients(kind: str) -> None:
    theirs = longformer().eval()
    ours = integration.accelerate(copy.deepcopy(theirs))
    mask = right_padded([120, 77], 120)
    inputs = {"input_ids": torch.randint(2, 100, (2, 120)), "attention_mask": mask}
    if kind != "none":
        tokens = torch.zeros(2, 120, dtype=torch.long)
        tokens[:, 0] = 1
        if kind == "ragged":
            tokens[0, [17, 60, 61]] = 1
            tokens[1, 40] = 1
        inputs["global_attention_mask"] = tokens
    compare(theirs, ours, inputs, mask)


def test_dropout_and_weights_are_refused() -> None:
    ours = integration.accelerate(longformer(dropout=0.1).train())
    inputs = {"input_ids": torch.randint(2, 100, (1, 64))}
    with pytest.raises(hr.InvalidInput, match="dropout of attention is 0.1"):
        ours(**inputs)
    with pytest.raises(hr.InvalidInput, match="output_attentions"):
        ours.eval()(**inputs, output_attentions=True)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2"])
@pytest.mark.parametrize("padding", ["none", "right", "left"])
def test_decoders_run_on_the_interface(kind: str, padding: str) -> None:
    theirs = decoder(kind).eval()
    theirs.set_attn_implementation("eager")
    ours = integration.accelerate(copy.deepcopy(theirs))
    assert ours.config._attn_implementation == "harrier"
    inputs = {"input_ids": torch.randint(0, 100, (2, 50))}
    shown = None
    if padding != "none":
        shown = right_padded([50, 33], 50)
        shown = shown.flip(-1) if padding == "left" else shown
        inputs["attention_mask"] = shown
    compare(theirs, ours, inputs, shown)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_masks_of_the_caller_s_own_are_taken(dtype: Any) -> None:
    theirs = decoder("llama").eval()
    theirs.set_attn_implementation("sdpa")
    ours = integration.accelerate(copy.deepcopy(theirs))
    mask = (torch.rand(2, 1, 50, 50) < 0.5) | torch.eye(50, dtype=torch.bool)
    if dtype != torch.bool:
        mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    compare(theirs, ours, {"input_ids": torch.randint(0, 100, (2, 50)), "attention_mask": mask})


def test_packed_sequences_are_told_by_their_positions() -> None:
    theirs = decoder("mistral").eval()
    theirs.set_attn_implementation("eager")
    ours = integration.accelerate(copy.deepcopy(theirs))
    positions = torch.cat([torch.arange(30), torch.arange(25), torch.arange(9)])[None]
    inputs = {"input_ids": torch.randint(0, 100, (1, 64)), "position_ids": positions, "use_cache": False}
    compare(theirs, ours, inputs)


def test_generation_with_a_cache_gives_the_same_tokens() -> None:
    config = decoder("mistral").config
    theirs = transformers.MistralForCausalLM(config).eval()
    ours = integration.accelerate(copy.deepcopy(theirs))
    prompt = torch.randint(1, 100, (2, 30))
    mask = right_padded([30, 22], 30).flip(-1)
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    expected = theirs.generate(prompt, attention_mask=mask, **options)
    assert torch.equal(ours.generate(prompt, attention_mask=mask, **options), expected)


def test_encoders_run_on_the_interface() -> None:
    config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    theirs = transformers.BertModel(config, add_pooling_layer=False).eval()
    theirs.set_attn_implementation("eager")
    ours = integration.accelerate(copy.deepcopy(theirs))
    mask = right_padded([40, 21], 40)
    compare(theirs, ours, {"input_ids": torch.randint(0, 100, (2, 40)), "attention_mask": mask}, mask)


def test_models_without_attention_are_refused() -> None:
    with pytest.raises(hr.InvalidInput, match="Linear has no BigBird or Longformer layers"):
        integration.accelerate(torch.nn.Linear(2, 2))
