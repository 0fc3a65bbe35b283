"""Drawings of patterns: SVG in notebooks, characters in a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import _harrier, host_arrays
from ._harrier import InvalidInput
from .masks import Mask
from .patterns import Pattern, as_pattern
from .workloads import Shape


class Picture:
    """The tiles of one head of one sequence. A notebook shows it as SVG, `print` as characters."""

    def __init__(self, drawing: _harrier.Drawing) -> None:
        self.mask: str = drawing.mask
        self.scene: str = drawing.scene
        self.svg: str = drawing.svg
        self.full_tiles: int = drawing.full_tiles
        self.partial_tiles: int = drawing.partial_tiles
        self.empty_tiles: int = drawing.empty_tiles
        self._terminal = drawing.terminal

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the SVG to a file."""
        Path(path).write_text(self.svg, encoding="utf-8")

    def __str__(self) -> str:
        return f"{self.mask}\n{self.scene}\n\n{self._terminal}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_svg_(self) -> str:
        return self.svg


def show(
    pattern: Pattern | Mask | str,
    lengths: int | Sequence[int] = 1024,
    key_lengths: int | Sequence[int] | None = None,
    *,
    heads: int = 1,
    head: int = 0,
    batch_row: int = 0,
    tile: tuple[int, int] | None = None,
    columns: int | None = None,
    arrays: Mapping[str, Any] | None = None,
) -> Picture:
    """Which tiles of the attention matrix a pattern computes whole, in part, or not at all.

    lengths, key_lengths: of one sequence, or of a batch, of which `batch_row` is drawn. heads: how many there are, of which
    `head` is drawn. tile: queries x keys, instead of the CPU kernel's. columns: the terminal's width. arrays: those that the
    pattern does not carry, by name.

    Raises InvalidInput for arrays that are missing or do not fit.
    """
    pattern = as_pattern(pattern)
    bound = {**pattern.arrays, **(arrays or {})}
    missing = [name for name in pattern.array_names if name not in bound]
    if missing:
        raise InvalidInput(
            f"@{missing[0]} of the pattern is not bound; give it in arrays, for what is drawn depends on it"
        )
    query_lengths = [lengths] if isinstance(lengths, int) else list(lengths)
    if key_lengths is None:
        key_lengths = query_lengths
    drawing = _harrier.draw(
        pattern.workload(Shape(heads=heads).text()),
        query_lengths,
        [key_lengths] if isinstance(key_lengths, int) else list(key_lengths),
        {name: host_arrays.dense(_on_host(value), f"@{name}") for name, value in bound.items()},
        batch_row=batch_row,
        head=head,
        tile=tile,
        columns=shutil.get_terminal_size().columns if columns is None else columns,
        has_color=sys.stdout.isatty(),
    )
    return Picture(drawing)


def _on_host(value: Any) -> Any:
    return value.cpu() if host_arrays.is_torch(value) else value
