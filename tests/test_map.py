"""The map of the house shows the house: every room and module is on it, and no import leads up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PIPELINE = TOP / "pipeline"
ROOMS, _, ADDING = (PIPELINE / "README.md").read_text().partition("## To add ...")

#: The rooms and modules in each row, the highest first.
ROWS = [
    row
    for line in ROOMS.splitlines()
    if line.startswith("|")
    if (row := re.findall(r"`([a-z0-9_]+(?:/|\.py))`", line.split("|")[1]))
]
HEIGHT = {name: number for number, row in enumerate(ROWS) for name in row}


def imports(file: Path) -> Iterator[str]:
    """The rooms and modules that a file imports, but for types alone."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pipeline":
            for alias in node.names:
                first = f"{node.module}.{alias.name}".split(".")[1]
                yield f"{first}/" if (PIPELINE / first).is_dir() else f"{first}.py"


def test_every_room_is_on_the_map() -> None:
    real = {f"{path.name}/" for path in PIPELINE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    real |= {path.name for path in PIPELINE.glob("*.py") if path.name != "__init__.py"}
    assert sorted(HEIGHT) == sorted(real)
    assert sum(map(len, ROWS)) == len(HEIGHT), "each is there once"


def test_no_import_leads_up() -> None:
    up = []
    for file in sorted(PIPELINE.rglob("*.py")):
        first = file.relative_to(PIPELINE).parts[0]
        here = f"{first}/" if (PIPELINE / first).is_dir() else first
        up += [
            f"{file.relative_to(PIPELINE)} -> {there}"
            for there in imports(file)
            if here in HEIGHT and there in HEIGHT and HEIGHT[there] < HEIGHT[here]
        ]
    assert up == []


def test_what_is_to_be_touched_is_there() -> None:
    places = re.findall(r"`([a-z0-9_./]+)`", ADDING)
    assert len(places) > 15
    for place in places:
        assert any((top / place).exists() for top in (TOP, PIPELINE)), place


def test_commands_of_contributors_name_what_is_there() -> None:
    text = (TOP / "CONTRIBUTING.md").read_text()
    for place in re.findall(r"\b(?:tests|pipeline)/[a-z0-9_./]+", text):
        assert (TOP / place).exists(), place
