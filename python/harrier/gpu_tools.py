"""Tuning on a GPU, and kernels compiled ahead of time: what the commands `harrier tune` and `harrier export` do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from . import _harrier, host_arrays
from ._harrier import Tuning
from .kernels import gpu
from .workloads import Workload


def tune(
    workload: Workload,
    *,
    budget: float = 10.0,
    full: bool = False,
    batches: int = 1,
    seed: int = 1,
    ordinal: int = 0,
    arrays: Mapping[str, Any] | None = None,
) -> Tuning:
    """Finds the fastest plan of a workload on a GPU by running candidates, and keeps it in the cache, where every later
    process finds it.

    `workload.lengths` and `batch` say what is timed: `batches` of them, packed, drawn from `seed`. budget: seconds. full:
    every candidate instead of the most promising. arrays: those that the pattern does not carry; they must fit each batch.

    It runs in this process: a candidate that faults takes the process's GPU context along, which `harrier tune`, the
    command, survives. Raises InvalidInput, DeviceError, ToolchainError.
    """
    bound = {**workload.pattern.arrays, **(arrays or {})}
    return _harrier.tune(
        workload.compiled_text(),
        gpu(ordinal),
        {name: host_arrays.dense(value, f"@{name}") for name, value in bound.items()},
        batches,
        budget,
        full,
        seed,
    )


@dataclass
class ExportedKernel:
    """One kernel of an export."""

    workload: str
    architecture: str
    plan: str
    bytes: int
    notes: list[str] = field(default_factory=list)


@dataclass
class Export:
    """What was written: names of files in the folder, and the kernels in them."""

    folder: str
    files: list[str]
    kernels: list[ExportedKernel]


def export(
    workloads: Workload | Iterable[Workload],
    folder: str | os.PathLike[str],
    *,
    architectures: Iterable[str] = ("sm_90a", "sm_80", "compute_80"),
    format: Literal["c", "pack", "fatbin"] = "c",
    name: str = "harrier_kernels",
) -> Export:
    """Compiles workloads ahead of time, for programs without a compiler. Needs NVRTC and no GPU.

    The folder appears whole or not at all. Formats: compiler/export/README.md. Raises InvalidInput, ToolchainError.
    """
    listed = [workloads] if isinstance(workloads, Workload) else list(workloads)
    files, kernels = _harrier.export(
        [workload.compiled_text() for workload in listed], list(architectures), format, os.fspath(folder), name
    )
    return Export(os.fspath(folder), files, [ExportedKernel(*kernel) for kernel in kernels])
