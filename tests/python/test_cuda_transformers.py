"""Models of transformers on a real GPU: ours in half precision against theirs in float32. Skipped where torch has none."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: scripts/test-python --torch")
pytest.importorskip("transformers", reason="transformers is not installed: scripts/test-python --torch")

from harrier.integrations import transformers as integration  # noqa: E402
from transformers_models import bigbird, decoder, longformer, right_padded  # noqa: E402

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no GPU here")


@pytest.fixture(autouse=True)
def seeded(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(int(rng.integers(2**31)))


def relative_error(actual: Any, expected: Any) -> float:
    return float((actual - expected).norm() / expected.norm())


def compare(theirs: Any, inputs: dict[str, Any], shown: Any) -> None:
    """Last hidden states of shown tokens, and the gradients of all weights."""
    theirs = theirs.to(DEVICE)
    ours = integration.accelerate(copy.deepcopy(theirs))
    inputs = {name: x.to(DEVICE) for name, x in inputs.items()}
    shown = shown.bool().to(DEVICE)
    expected = theirs(**inputs).last_hidden_state
    with torch.autocast(DEVICE, torch.float16):
        out = ours(**inputs).last_hidden_state.float()
    assert relative_error(out[shown], expected[shown]) < 1e-2
    weight = torch.randn_like(expected) * shown[..., None]
    for hidden in (expected, out):
        (hidden * weight).sum().backward()
    gradients = dict(ours.named_parameters())
    largest = max(x.grad.norm() for x in theirs.parameters() if x.grad is not None)
    for name, parameter in theirs.named_parameters():
        # Gradients of keys' biases are zero but for rounding.
        if parameter.grad is not None and parameter.grad.norm() > 1e-3 * largest:
            assert relative_error(gradients[name].grad, parameter.grad) < 3e-2, name


@pytest.mark.parametrize("training", [False, True])
def test_bigbird(training: bool) -> None:
    mask = right_padded([240, 201], 240)
    compare(bigbird().train(training), {"input_ids": torch.randint(0, 100, (2, 240)), "attention_mask": mask}, mask)


@pytest.mark.parametrize("kind", ["none", "leading", "ragged"])
def test_longformer(kind: str) -> None:
    mask = right_padded([120, 77], 120)
    inputs = {"input_ids": torch.randint(2, 100, (2, 120)), "attention_mask": mask}
    if kind != "none":
        inputs["global_attention_mask"] = torch.zeros(2, 120, dtype=torch.long)
        inputs["global_attention_mask"][:, 0] = 1
        if kind == "ragged":
            inputs["global_attention_mask"][0, [17, 60, 61]] = 1
            inputs["global_attention_mask"][1, 40] = 1
    compare(longformer().eval(), inputs, mask)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2"])
@pytest.mark.parametrize("padding", ["none", "right", "left"])
def test_decoders(kind: str, padding: str) -> None:
    theirs = decoder(kind).eval()
    theirs.set_attn_implementation("eager")
    inputs = {"input_ids": torch.randint(0, 100, (2, 50))}
    shown = torch.ones(2, 50)
    if padding != "none":
        shown = right_padded([50, 33], 50)
        shown = shown.flip(-1) if padding == "left" else shown
        inputs["attention_mask"] = shown
    compare(theirs, inputs, shown)
