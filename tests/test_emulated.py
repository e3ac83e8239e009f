"""Foreign code in a machine: when, and with what of this one; `boot/test_emulated.py` runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline import emulated, sandbox


def test_there_is_a_machine_only_where_the_page_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sandbox, "_machine", None)
    sandbox.use_machine(tmp_path)
    mapped = "[vsyscall]" in Path("/proc/self/maps").read_text()
    assert sandbox._machine == (None if mapped else tmp_path)


def test_the_tools_are_named() -> None:
    assert all(shutil.which(tool) for tool in emulated.TOOLS)
