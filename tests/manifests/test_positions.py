"""Every key of a TOML file has the line on which it was written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.manifests.positions import positions
from pipeline.mistakes import Key

KEYS = {"a": "a", "b-1": "b-1", '"c d"': "c d", "'e.f'": "e.f", '"\\u00e9"': "é", '"]="': "]=", '"#"': "#", '""': ""}

SCALARS = [
    "1",
    "-2.5e3",
    "nan",
    "true",
    "1979-05-27T07:32:00Z",
    '"x"',
    '"# no [comment] \\""',
    "'C:\\'",
    "''",
    '"""two\n[lines] # \\""" more"""',
    "'''\n[[x]]\n'''",
    '""""quoted""""',
    "0xff",
]

keys = st.sampled_from(list(KEYS))
dotted = st.lists(keys, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([".", " . "]).map(lambda dot: dot.join(parts))
)
values = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(inner, max_size=3).map(
            lambda items: "[ # first\n" + "".join(f"  {one}, # ]\n" for one in items) + "]"
        ),
        st.dictionaries(keys, inner, max_size=3).map(
            lambda table: "{ " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " }"
        ),
    ),
    max_leaves=6,
)
statements = st.one_of(
    st.tuples(dotted, values).map(lambda pair: f"{pair[0]} = {pair[1]} # end\n"),
    dotted.map(lambda key: f"[{key}]\n"),
    dotted.map(lambda key: f"[[ {key} ]] # a list\n"),
    st.sampled_from(["\n", "# [comment]\n", "\t\n"]),
)


def paths(value: Any, key: Key = ()) -> Iterator[Key]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in entries:
        yield (*key, name)
        yield from paths(inner, (*key, name))


@given(st.lists(statements, max_size=8).map("".join))
def test_every_key_has_the_line_that_it_stands_on(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)
    found = positions(text)
    lines = text.split("\n")
    written = {parsed: raw for raw, parsed in KEYS.items()}
    for path in paths(data):
        assert path in found
        last = path[-1]
        if isinstance(last, str):
            assert written[last] in lines[found[path] - 1]


@given(st.text(max_size=200))
def test_any_text_is_survived(text: str) -> None:
    positions(text)


def test_lines_of_a_usual_file() -> None:
    text = """# comment
name = "x"

[head]
disks = [
  { size = "1G" },
  { size = "2G" },

]
[[more]]
[[more]]
x = 1
"""
    found = positions(text)
    assert found["name",] == 2
    assert found["head", "disks", 0, "size"] == 6
    assert found["head", "disks", 1] == 7
    assert (found["more", 0], found["more", 1], found["more", 1, "x"]) == (10, 11, 12)
