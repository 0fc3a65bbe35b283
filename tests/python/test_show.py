"""Drawings: the tiles of a pattern, in a terminal and in a notebook."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import harrier as hr
import numpy as np
import pytest


def test_tiles_are_counted_and_drawn(tmp_path: Path) -> None:
    picture = hr.show(hr.causal, 256, tile=(64, 64), columns=60)
    assert (picture.full_tiles, picture.partial_tiles, picture.empty_tiles) == (6, 4, 6)
    assert "256 queries x 256 keys" in str(picture) and "full 6" in str(picture)
    assert ElementTree.fromstring(picture._repr_svg_()).tag.endswith("svg")
    picture.save(tmp_path / "causal.svg")
    assert (tmp_path / "causal.svg").read_text(encoding="utf-8") == picture.svg


def test_arrays_lengths_and_heads_are_those_that_are_named() -> None:
    segment = np.repeat([0, 1], 64).astype(np.int32)
    picture = hr.show(hr.documents(segment), 128, tile=(64, 64))
    assert (picture.full_tiles, picture.empty_tiles) == (2, 2)
    table = np.array([[[1, 0]], [[1, 1]]], np.uint8)
    picture = hr.show(hr.blocks(64, table), [64, 64], [128, 128], heads=2, head=1, batch_row=1, tile=(64, 64))
    assert (picture.full_tiles, picture.scene.startswith("64 queries x 128 keys, sequence 1 of 2, head 1 of 2")) == (
        2,
        True,
    )


def test_patterns_show_themselves_where_nothing_is_missing() -> None:
    assert "<svg" in (hr.Pattern(hr.causal)._repr_svg_() or "")
    assert hr.Pattern(hr.documents("segment"))._repr_svg_() is None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lengths": -1}, "a length is -1"),
        ({"head": 1}, "the head is 1, there are 1"),
        ({"batch_row": 2}, "the row of the batch is 2"),
        ({"tile": (0, 64)}, "tile is 0 x 64"),
        ({"columns": 3}, "columns is 3"),
        ({"pattern": hr.documents("segment")}, "@segment of the pattern is not bound"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict, message: str) -> None:
    with pytest.raises(hr.InvalidInput, match=message):
        hr.show(**{"pattern": hr.causal, "lengths": 64, **options})
