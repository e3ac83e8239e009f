"""Relations between packages are read as they are meant, and versions have dpkg's order."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.packages.deb.relations import Relation, by_version, compare, provides, relations
from pipeline.run import which
from tests.growing import require_linear

VERSION = st.from_regex(r"\A([0-9]{1,2}:)?[0-9][0-9a-zA-Z.+~]{0,6}(-[0-9a-zA-Z.+~]{1,4})?\Z")


@pytest.mark.skipif(which("dpkg") is None, reason="needs dpkg")
@settings(max_examples=150)
@given(VERSION, VERSION)
def test_versions_have_the_order_that_dpkg_gives_them(one: str, other: str) -> None:
    for relation, wanted in (("lt", -1), ("eq", 0), ("gt", 1)):
        said = subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False).returncode == 0
        assert said == (compare(one, other) == wanted), (one, relation, other)


def test_versions_in_order() -> None:
    versions = [
        "0~",
        "0",
        "1.0~~",
        "1.0~bpo1",
        "1.0",
        "1.0-1",
        "1.0-1+b1",
        "1.0a",
        "1.0+dfsg",
        "1.0.1",
        "1.9",
        "1.10",
        "1:0.1",
    ]
    assert sorted(set(versions), key=by_version) == versions
    assert compare("1.0", "1.0-0") == 0 and compare("0:1", "1") == 0 and compare("1.", "1.0") == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("jq", Relation("jq")),
        (" g++-12 ", Relation("g++-12")),
        ("jq>=1.6", Relation("jq", ">=", "1.6")),
        ("jq (>= 1:1.6~rc1+b2-3)", Relation("jq", ">=", "1:1.6~rc1+b2-3")),
        ("jq(<<2)", Relation("jq", "<<", "2")),
        ("jq < 2", Relation("jq", "<<", "2")),
        ("jq=1.6", Relation("jq", "=", "1.6")),
        ("python3:any (>= 3.9~)", Relation("python3", ">=", "3.9~", "any")),
        ("libc6:i386", Relation("libc6", architecture="i386")),
        ("jq >=", None),
        ("jq 1.6", None),
        ("", None),
        ("_", None),
    ],
)
def test_a_relation(text: str, wanted: Relation | None) -> None:
    assert Relation.parse(text) == wanted


def test_fields() -> None:
    assert relations("a (>= 1) | b, c:any,\n d") == [
        [Relation("a", ">=", "1"), Relation("b")],
        [Relation("c", architecture="any")],
        [Relation("d")],
    ]
    assert relations("") == []
    assert provides("x (= 3.0), y", Relation("x", ">=", "2")) and provides("x (= 3.0), y", Relation("y"))
    assert not provides("x (= 3.0), y", Relation("x", ">>", "3.0"))
    assert not provides("x (= 3.0), y", Relation("y", ">=", "0"))


@pytest.mark.parametrize("text", ["a{}!", "{}a", "a : {}!", "a (>= {}1{}!", "a{}:{}b{}({}>={}1{}){}!"])
def test_time_grows_with_the_text(text: str) -> None:
    require_linear(lambda size: Relation.parse(text.replace("{}", " " * size)))


def test_numbers_of_any_length() -> None:
    assert compare("1" * 5000, "2" * 4999) == 1 and compare("1:1", f"{'1' * 5000}:1") == -1
