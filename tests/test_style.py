"""Types and style hold everywhere: a part of the tests, so that nobody has to remember them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]


def _is_shell(file: Path) -> bool:
    with file.open("rb") as stream:
        return re.match(rb"#!.*\b(ba|da)?sh\b", stream.readline(100)) is not None


def _shell_files() -> list[Path]:
    places = [TOP / name for name in ("pipeline", "recipes", "bootstrap", ".ci")]
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file()]
    scripts = [path for path in files if _is_shell(path)]
    assert len(scripts) > 30
    return scripts


@pytest.mark.parametrize(
    "tool",
    [("shellcheck", "--severity", "warning"), (Path(sys.executable).with_name("shfmt"), "--diff")],
    ids=["shellcheck", "shfmt"],
)
def test_shell_is_as_the_tool_wants_it(tool: tuple[str | Path, ...]) -> None:
    done = subprocess.run([*tool, *_shell_files()], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("tool", [("ruff", "check", "."), ("ruff", "format", "--diff", "."), ("mypy",)], ids=" ".join)
def test_the_tool_finds_nothing(tool: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
