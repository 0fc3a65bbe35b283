"""What tests share: seeds that are printed, and reasons to skip."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import harrier as hr
import numpy as np
import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Iterator[np.random.Generator]:
    """Fresh numbers in every run; a failing test shows the seed, HARRIER_TEST_SEED=n repeats it."""
    seed = int(os.environ.get("HARRIER_TEST_SEED", random.randrange(2**32)))
    print(f"seed: HARRIER_TEST_SEED={seed}")
    yield np.random.default_rng(seed)


def _cpu_backend_is_missing() -> str | None:
    try:
        hr.compile(hr.all, hr.Shape())
    except hr.ToolchainError as error:
        return str(error)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `runs` compute on the CPU."""
    reason = _cpu_backend_is_missing()
    for item in items:
        if reason is not None and item.get_closest_marker("runs"):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "runs: needs the CPU backend")
    config.addinivalue_line("markers", "emulated_gpu: needs the library that stands in for a GPU")
