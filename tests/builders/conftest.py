"""What tests of builders share: the real build tools."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def toolroot() -> None:
    """The tool root, made as every run makes it; nothing is done where it is up to date."""
    done = subprocess.run(
        [sys.executable, "-m", "doit", "toolroot:amd64"], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
