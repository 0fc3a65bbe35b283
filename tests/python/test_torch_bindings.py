"""What calls on a GPU share, on the emulated one: lists that stand while tensors do, and are built anew when they are written to."""

from __future__ import annotations

from typing import Any

import pytest
from test_gpu import program_runner

pytest.importorskip("torch", reason="torch is not installed: scripts/test-python --torch")

PROGRAM = """
import json, numpy as np, torch, reference
import harrier as hr
from harrier import torch_bindings, torch_cuda
from device_standins import OnDevice, call_of, run

torch.manual_seed(4)
q, k, v = (OnDevice(torch.randn(1, 2, 128, 64).half()) for _ in range(3))
blocks = hr.Pattern(hr.blocks(64, "table"))
documents = hr.Pattern(hr.documents("ids"))

def call_with(arrays, **lengths):
    call = call_of(q.host, k.host, v.host, arrays, **lengths)
    call.q, call.k, call.v = q, k, v
    return call

def error(call, counts):
    expected, _ = reference.attend(*(x.host.numpy() for x in (q, k, v)), counts)
    return float(abs(call.out.back().double().numpy() - expected).max())

def only_bound():
    (bound,) = torch_bindings._bindings.values()
    return bound

SCENARIOS = []

def scenario(function):
    SCENARIOS.append(function)
    return function

@scenario
def lists_stand_until_a_tensor_is_written_to():
    table = OnDevice(torch.tensor([[1, 0], [1, 1]], dtype=torch.int32))
    call = call_with({"table": table})
    shown = lambda g: table.host.numpy()[g.q // 64, g.k // 64] > 0
    for _ in range(3): run(blocks, call)
    before = error(call, shown)
    stood = only_bound().uses
    table.write(torch.tensor([[0, 1], [1, 0]]))
    for _ in range(3): run(blocks, call)
    return [before, error(call, shown), [stood, only_bound().uses, len(torch_cuda._launches)]]

@scenario
def calls_of_other_tensors_share_what_is_bound():
    table = OnDevice(torch.tensor([[1, 0], [1, 1]], dtype=torch.int32))
    for _ in range(4):  # each with outputs of its own
        call = call_with({"table": table})
        run(blocks, call)
    found = error(call, lambda g: table.host.numpy()[g.q // 64, g.k // 64] > 0)
    return [found, len(torch_bindings._bindings), len(torch_cuda._launches)]

@scenario
def what_stood_for_long_is_bound_by_the_host_until_it_is_written_to():
    ids = OnDevice((torch.arange(128) // 40).int())
    call = call_with({"ids": ids})
    same = lambda g: ids.host.numpy()[g.q] == ids.host.numpy()[g.k]
    errors, looked_at = [], []
    for _ in range(torch_bindings._USES_BEFORE_LOOKING + 1): run(documents, call)
    errors.append(error(call, same)); looked_at.append(only_bound().is_looked_at)
    ids.write(torch.arange(128).flip(0) // 30)
    run(documents, call)
    errors.append(error(call, same)); looked_at.append(only_bound().is_looked_at)
    return [errors, looked_at]

@scenario
def integers_of_64_bits_are_converted_once():
    ids = OnDevice(torch.arange(128) // 40)
    call = call_with({"ids": ids})
    for _ in range(3): run(documents, call)
    ids.write(torch.arange(128) // 9)
    for _ in range(3): run(documents, call)
    found = error(call, lambda g: ids.host.numpy()[g.q] == ids.host.numpy()[g.k])
    kept = len(torch_bindings._conversions)
    call, ids = None, None
    return [found, [kept, len(torch_bindings._conversions)], len(torch_cuda._launches)]

@scenario
def arrays_of_expressions_are_brought_anew_when_they_are_written_to():
    limit = OnDevice(torch.tensor([50], dtype=torch.int32))
    pattern = hr.Pattern(hr.where(hr.k < hr.array("limit")[hr.b]))
    call = call_with({"limit": limit})
    errors = []
    for value in (50, 50, 90):
        if value != int(limit.host[0]): limit.write(torch.tensor([value]))
        run(pattern, call)
        errors.append(error(call, lambda g: (g.k < value) & (g.q >= 0)))
    return errors

@scenario
def masks_that_are_looked_up_pair_by_pair_are_bound_by_the_host():
    table = OnDevice(torch.tensor([[1, 0], [1, 1]], dtype=torch.int32))
    other = OnDevice(torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.int32))
    pattern = hr.Pattern(hr.blocks(64, "table") | hr.blocks(32, "other"))
    call = call_with({"table": table, "other": other})
    for _ in range(2): run(pattern, call)
    found = error(call, lambda g: (table.host.numpy()[g.q // 64, g.k // 64] > 0) | (other.host.numpy()[g.q // 32, g.k // 32] > 0))
    return [found, only_bound().is_looked_at]

found = {}
for each in SCENARIOS:
    torch_bindings._bindings.clear()
    torch_cuda._launches.clear()
    found[each.__name__] = each()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each scenario found; one process runs them all."""
    run: Any = program_runner(tmp_path_factory.mktemp("bindings"), needs_emulated=True)
    return run(PROGRAM)


def test_lists_stand_until_a_tensor_is_written_to(found: Any) -> None:
    before, after, stood = found["lists_stand_until_a_tensor_is_written_to"]
    assert before < 5e-3 and after < 5e-3
    assert stood == [2, 2, 1]  # two of three calls found it as it was


def test_calls_of_other_tensors_share_what_is_bound(found: Any) -> None:
    error, bindings, launches = found["calls_of_other_tensors_share_what_is_bound"]
    assert error < 5e-3 and bindings == 1 and launches == 4


def test_what_stood_for_long_is_bound_by_the_host_until_it_is_written_to(found: Any) -> None:
    errors, looked_at = found["what_stood_for_long_is_bound_by_the_host_until_it_is_written_to"]
    assert max(errors) < 5e-3
    assert looked_at == [True, False]


def test_integers_of_64_bits_are_converted_once(found: Any) -> None:
    error, conversions, launches = found["integers_of_64_bits_are_converted_once"]
    assert error < 5e-3 and conversions == [1, 0] and launches == 1


def test_arrays_of_expressions_are_brought_anew_when_they_are_written_to(found: Any) -> None:
    errors = found["arrays_of_expressions_are_brought_anew_when_they_are_written_to"]
    assert max(errors) < 5e-3


def test_masks_that_are_looked_up_pair_by_pair_are_bound_by_the_host(found: Any) -> None:
    error, looked_at = found["masks_that_are_looked_up_pair_by_pair_are_bound_by_the_host"]
    assert error < 5e-3 and looked_at
