"""What calls on a GPU share, on the emulated one: lists that stand while tensors do, and are built anew when they are written to."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from test_gpu import run_on_gpu  # noqa: F401

pytest.importorskip("torch", reason="torch is not installed: scripts/test-python --torch")
pytestmark = pytest.mark.emulated_gpu

SETUP = """
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
"""


def in_program(body: str) -> str:
    return SETUP + textwrap.dedent(body)


def test_lists_stand_until_a_tensor_is_written_to(run_on_gpu: Any) -> None:  # noqa: F811
    before, after, stood = run_on_gpu(in_program("""
        table = OnDevice(torch.tensor([[1, 0], [1, 1]], dtype=torch.int32))
        call = call_with({"table": table})
        shown = lambda g: table.host.numpy()[g.q // 64, g.k // 64] > 0
        for _ in range(3): run(blocks, call)
        before = error(call, shown)
        stood = only_bound().uses
        table.write(torch.tensor([[0, 1], [1, 0]]))
        for _ in range(3): run(blocks, call)
        print(json.dumps([before, error(call, shown), [stood, only_bound().uses, len(torch_cuda._launches)]]))
        """))  # type: ignore[misc]
    assert before < 5e-3 and after < 5e-3
    assert stood == [2, 2, 1]  # two of three calls found it as it was


def test_calls_of_other_tensors_share_what_is_bound(run_on_gpu: Any) -> None:  # noqa: F811
    error, bindings, launches = run_on_gpu(in_program("""
        table = OnDevice(torch.tensor([[1, 0], [1, 1]], dtype=torch.int32))
        for _ in range(4):  # each with outputs of its own
            call = call_with({"table": table})
            run(blocks, call)
        found = error(call, lambda g: table.host.numpy()[g.q // 64, g.k // 64] > 0)
        print(json.dumps([found, len(torch_bindings._bindings), len(torch_cuda._launches)]))
        """))  # type: ignore[misc]
    assert error < 5e-3 and bindings == 1 and launches == 4


def test_what_stood_for_long_is_bound_by_the_host_until_it_is_written_to(run_on_gpu: Any) -> None:  # noqa: F811
    errors, looked_at = run_on_gpu(in_program("""
        ids = OnDevice((torch.arange(128) // 40).int())
        call = call_with({"ids": ids})
        same = lambda g: ids.host.numpy()[g.q] == ids.host.numpy()[g.k]
        errors, looked_at = [], []
        for _ in range(40): run(documents, call)
        errors.append(error(call, same)); looked_at.append(only_bound().is_looked_at)
        ids.write(torch.arange(128).flip(0) // 30)
        run(documents, call)
        errors.append(error(call, same)); looked_at.append(only_bound().is_looked_at)
        print(json.dumps([errors, looked_at]))
        """))  # type: ignore[misc]
    assert max(errors) < 5e-3
    assert looked_at == [True, False]


def test_integers_of_64_bits_are_converted_once(run_on_gpu: Any) -> None:  # noqa: F811
    error, conversions, launches = run_on_gpu(in_program("""
        ids = OnDevice(torch.arange(128) // 40)
        call = call_with({"ids": ids})
        for _ in range(3): run(documents, call)
        ids.write(torch.arange(128) // 9)
        for _ in range(3): run(documents, call)
        found = error(call, lambda g: ids.host.numpy()[g.q] == ids.host.numpy()[g.k])
        kept = len(torch_bindings._conversions)
        call, ids = None, None
        print(json.dumps([found, [kept, len(torch_bindings._conversions)], len(torch_cuda._launches)]))
        """))  # type: ignore[misc]
    assert error < 5e-3 and conversions == [1, 0] and launches == 1


def test_arrays_of_expressions_are_brought_anew_when_they_are_written_to(run_on_gpu: Any) -> None:  # noqa: F811
    errors = run_on_gpu(in_program("""
        limit = OnDevice(torch.tensor([50], dtype=torch.int32))
        pattern = hr.Pattern(hr.where(hr.k < hr.array("limit")[hr.b]))
        call = call_with({"limit": limit})
        errors = []
        for value in (50, 50, 90):
            if value != int(limit.host[0]): limit.write(torch.tensor([value]))
            run(pattern, call)
            errors.append(error(call, lambda g: (g.k < value) & (g.q >= 0)))
        print(json.dumps(errors))
        """))
    assert max(errors) < 5e-3  # type: ignore[type-var]


def test_masks_that_are_looked_up_pair_by_pair_are_bound_by_the_host(run_on_gpu: Any) -> None:  # noqa: F811
    error, looked_at = run_on_gpu(in_program("""
        table = OnDevice(torch.tensor([[1, 0], [1, 1]], dtype=torch.int32))
        other = OnDevice(torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.int32))
        pattern = hr.Pattern(hr.blocks(64, "table") | hr.blocks(32, "other"))
        call = call_with({"table": table, "other": other})
        for _ in range(2): run(pattern, call)
        found = error(call, lambda g: (table.host.numpy()[g.q // 64, g.k // 64] > 0) | (other.host.numpy()[g.q // 32, g.k // 32] > 0))
        print(json.dumps([found, only_bound().is_looked_at]))
        """))  # type: ignore[misc]
    assert error < 5e-3 and looked_at
