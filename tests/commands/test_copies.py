"""What copies of frozen clusters are called, and which cannot be had."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.commands import copies
from pipeline.errors import NotNow, WrongUse


def graph(tmp_path: Path, *, recipes: tuple[str, ...] = ("one",), booted: tuple[str, ...] = ()) -> Any:
    for name in booted:
        (tmp_path / "run" / name).mkdir(parents=True)
    return SimpleNamespace(run=tmp_path / "run", known=lambda: sorted({*recipes, *booted}), booted=lambda: list(booted))


def test_a_copy_without_a_name_gets_one_that_is_free(tmp_path: Path) -> None:
    there = graph(tmp_path, recipes=("one", "one-1"), booted=("one-2",))
    assert copies._free(there, "one") == "one-3"
    assert copies._free(there, "one") == "one-4", "somebody else has just been given the other"
    assert copies._free(there, "two") == "two-1"


@pytest.mark.parametrize("name", ["", "a b", "../x", ".x", "x/y", "testbed-x", "x" * 64, "x=y"])
def test_a_name_that_cannot_be_one_is_wrong_use(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongUse):
        copies._require_usable(graph(tmp_path), name)


def test_a_name_that_is_taken_says_whose_it_is(tmp_path: Path) -> None:
    there = graph(tmp_path, booted=("night", "one"))
    copies._require_usable(there, "day")
    with pytest.raises(NotNow) as error:
        copies._require_usable(there, "night")
    assert error.value.hint == "doit stop:night ends it"
    with pytest.raises(NotNow, match="the name of a recipe"):
        copies._require_usable(graph(tmp_path), "one")
