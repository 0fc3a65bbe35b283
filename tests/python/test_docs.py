"""Code on pages is run, and what it prints is compared with the text block behind it. HARRIER_UPDATE_GOLDENS=1 rewrites those."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import harrier as hr
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs/python").glob("*.md")), ROOT / "python/README.md", ROOT / "README.md"]
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:```text\n(?P<text>.*?)```\n)?", re.DOTALL)
NEEDS = {"torch": "import torch", "transformers": "from transformers"}


def pages_with_code() -> list[Path]:
    return [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.runs
@pytest.mark.parametrize("page", pages_with_code(), ids=lambda page: str(page.relative_to(ROOT)))
def test_code_does_what_the_page_says(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    for module, sign in NEEDS.items():
        if sign in text and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: scripts/test-python --torch")
    # The page counts what it compiles itself.
    already = hr.compilations()
    monkeypatch.setattr(hr, "compilations", lambda count=hr.compilations: count() - already)
    module = types.ModuleType("page")  # torch.compile looks functions up in their module
    monkeypatch.setitem(sys.modules, "page", module)
    names: dict[str, Any] = vars(module)
    rewritten = text
    for match in BLOCK.finditer(text):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(match["code"], f"{page.name}", "exec"), names)
        if match["text"] is None:
            assert not printed.getvalue(), f"{page.name} prints without showing it:\n{printed.getvalue()}"
        elif os.environ.get("HARRIER_UPDATE_GOLDENS") == "1":
            block = match.group(0)
            head = block[: block.index("```text\n") + len("```text\n")]
            rewritten = rewritten.replace(block, f"{head}{printed.getvalue()}```\n")
        else:
            assert printed.getvalue() == match["text"]
    if rewritten != text:
        page.write_text(rewritten, encoding="utf-8")


def test_the_reference_names_everything_public() -> None:
    modules = {name for name, value in vars(hr).items() if isinstance(value, types.ModuleType)}
    with_torch = set(getattr(hr, "_NEED_TORCH"))
    imported = {"annotations", "Any", "TYPE_CHECKING", *with_torch}
    public = {name for name in vars(hr) if not name.startswith("_")} - modules - imported | with_torch
    listed = set(
        re.findall(r"^\| `(\w+)", (ROOT / "docs/python/reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert public == listed
