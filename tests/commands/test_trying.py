"""`doit try` refuses what it cannot do, and says what can be done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boot import checkout


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("try") / "project"
    return checkout.copy(folder, folder / "artifacts").folder


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("debian12",), 4, "debian12 does not run"),
        (("debian12x",), 3, "did you mean debian12"),
        (("debian12", "slurn"), 3, "did you mean slurm"),
        ((), 2, "cluster"),
        (("debian12x", "--watch"), 3, "did you mean debian12"),
    ],
)
def test_what_makes_no_sense_is_told(top: Path, words: tuple[str, ...], status: int, told: str) -> None:
    argv = [sys.executable, "-m", "doit", "try", *words, *(["--json"] if words else [])]
    done = subprocess.run(argv, cwd=top, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status and told in done.stderr and "Traceback" not in done.stderr, done.stderr
    if words:
        assert json.loads(done.stdout) == []
