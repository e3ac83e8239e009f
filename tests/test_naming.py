"""What tasks are called is known in two places: to the plan, which makes them, and to `naming`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.tasks import Graph

TOP = Path(__file__).resolve().parents[1]
PIPELINE = TOP / "pipeline"
KNOWING = (*(PIPELINE / "plan").rglob("*.py"), PIPELINE / "naming.py")


@pytest.fixture(scope="module")
def kinds() -> set[str]:
    graph = Graph(TOP)
    running = {"host", "boot", "install", "start", "cluster", "stop"}
    return {artifact.kind for artifact in graph.plan.artifacts.values()} | running


def names_in(text: str, kinds: set[str]) -> Iterator[str]:
    """The names of tasks that a module's text composes or holds: "disk:" before a value, or "netboot:amd64"."""
    kind = "|".join(sorted(kinds))
    composed, held = re.compile(f"(?:{kind}):"), re.compile(rf"(?:{kind}):[\w.-]+(?:/[\w.-]+)?")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            if composed.fullmatch(str(node.values[0].value)):
                yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and held.fullmatch(node.value):
            yield node.value


def test_nobody_else_composes_the_name_of_a_task(kinds: set[str]) -> None:
    found = {
        f"{path.relative_to(TOP)}: {name}"
        for path in sorted(PIPELINE.rglob("*.py"))
        if path not in KNOWING
        for name in names_in(path.read_text(), kinds)
    }
    assert found == {"pipeline/tasks.py: cluster:debian12"}, "what `doit` alone makes"


def test_a_composed_name_is_seen(kinds: set[str]) -> None:
    text = "one = f'disk:{cluster}/{name}'; two = 'netboot:amd64'; three = 'root:x:0:0:root:/:/bin/sh'"
    assert list(names_in(text, kinds)) == ["f'disk:{cluster}/{name}'", "netboot:amd64"]
