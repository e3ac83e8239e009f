"""Minutes of torture: `benchmarks/torture.py` kills runs at random moments and feeds nonsense to parsers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_inputs_of_any_kind_end_in_a_value_or_in_an_error_for_people() -> None:
    torture("--inputs", "1500", "--seconds", "40")


@pytest.mark.boot  # not for machines, but for what their tests have built by then
def test_killed_runs_leave_nothing_broken() -> None:
    torture("--kills", "1000", "--seconds", "30")


def torture(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/torture.py", *words],
        cwd=TOP,
        check=False,
        timeout=900,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            "PATH": f"{TOP}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/tmp",
            "PYTHONPATH": str(TOP),
            "LC_ALL": "C.UTF-8",
        },
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "breaches: 0" in done.stdout
