"""Types and style hold everywhere: a part of the tests, so that nobody has to remember them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("tool", [("ruff", "check", "."), ("mypy",)], ids=lambda tool: str(tool[0]))
def test_the_tool_finds_nothing(tool: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
