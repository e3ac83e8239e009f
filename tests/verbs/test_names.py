"""Names of machines as people type several at once."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import NotThere, WrongUse
from pipeline.verbs.names import expand

KNOWN = ["head", *(f"node{number}" for number in range(1, 13)), *(f"compute-0-{number:02d}" for number in range(4))]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ([], []),
        (["node2", "head", "node2"], ["head", "node2"]),
        (["node[1-3,7]"], ["node1", "node2", "node3", "node7"]),
        (["node[10-12]", "node1"], ["node1", "node10", "node11", "node12"]),
        (["compute-[0]-[00-02]"], ["compute-0-00", "compute-0-01", "compute-0-02"]),
        (["comp*"], ["compute-0-00", "compute-0-01", "compute-0-02", "compute-0-03"]),
        (["node1?"], ["node10", "node11", "node12"]),
    ],
)
def test_what_is_meant(words: list[str], meant: list[str]) -> None:
    assert expand(words, KNOWN) == meant


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("node", "there is no machine 'node'"),
        ("node[12-13]", "'node13', which"),
        ("nothing*", "there is no machine"),
        ("compute-0-[0-1]", "'compute-0-0', which"),
    ],
)
def test_what_is_not_there(word: str, message: str) -> None:
    with pytest.raises(NotThere, match=message.replace("*", ".")):
        expand(["head", word], KNOWN)


@pytest.mark.parametrize(
    "word", ["node[1", "node1]", "node[]", "node[1-]", "node[a-b]", "node[3-1]", "node[1-999999999]", "[", "node[[1]]"]
)
def test_what_is_no_pattern(word: str) -> None:
    with pytest.raises(WrongUse, match="is no pattern"):
        expand([word], KNOWN)


@given(st.text(max_size=30))
def test_whatever_is_typed_is_a_name_or_a_mistake(word: str) -> None:
    with contextlib.suppress(NotThere, WrongUse):
        assert set(expand([word], KNOWN)) <= set(KNOWN)
