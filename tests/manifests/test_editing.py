"""Recipes that commands edit: comments, order and notation stay, and nothing but what is meant becomes another."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.manifests import editing
from pipeline.mistakes import Key

RECIPE = """\
# A cluster.
distro = "debian12"   # the newest

[compute]
count = 4   # for now
memory="384M"
#cpus = 2

# The machines.
[machines.node1]
memory = "1G"   # it has much to do

# How they run.
[xen]
boot = "pygrub"
"""


def test_comments_and_order_stay() -> None:
    changes: dict[Key, str | int | None] = {
        ("compute", "memory"): "512M",
        ("compute", "cpus"): 2,
        ("machines", "node1", "memory"): "2G",
        ("machines", "node1", "cpus"): 4,
        ("machines", "node2", "memory"): "1G",
    }
    assert (
        editing.edited(RECIPE, changes)
        == """\
# A cluster.
distro = "debian12"   # the newest

[compute]
count = 4   # for now
memory="512M"
cpus = 2
#cpus = 2

# The machines.
[machines.node1]
memory = "2G"   # it has much to do
cpus = 4

[machines.node2]
memory = "1G"

# How they run.
[xen]
boot = "pygrub"
"""
    )


def test_what_goes_takes_its_table_along() -> None:
    gone = editing.edited(RECIPE, {("machines", "node1", "memory"): None, ("machines", "node9", "cpus"): None})
    assert "machines" not in tomllib.loads(gone)
    assert gone.startswith(RECIPE[: RECIPE.index("# The machines")])
    assert editing.edited(RECIPE, {}) == RECIPE


def test_remarks_on_what_stays_stay_where_they_are() -> None:
    text = """\
# All of it.
# And more of it.
[machines]
# the one with the scanner
[machines.node1]
memory = "1G"

# login node of group B
[machines.node2]
cpus = 4
"""
    assert (
        editing.edited(text, {("machines", "node1", "memory"): None})
        == """\
# All of it.
# And more of it.
[machines]
# login node of group B
[machines.node2]
cpus = 4
"""
    )
    gone = editing.edited(text, {("machines", "node2", "cpus"): None, ("machines", "node1", "cpus"): 2})
    assert gone == text[: text.index("\n# login")].replace('"1G"\n', '"1G"\ncpus = 2\n')
    assert editing.without(text, ("machines",)) == "# All of it.\n# And more of it.\n"


@pytest.mark.parametrize(
    "text",
    [
        'machines.node1 = { memory = "1G", cpus = 2 }  # one\n',
        "machines = { node1 = { cpus = 2 } }\n[compute]\ncount = 2\n",
        "[machines]\nnode1 = { cpus = 2 }\n[machines.node2]\ncpus = 1\n[compute]\n[machines.node3]\ncpus = 1\n",
        'compute.count = 2\ncompute.memory = "1G"\n',
        '"machines"."node1"."memory" = "1G"\n',
        "[machines.node1]\n\n\n",
        "[machines]\n",
        "# nothing\n",
        "",
    ],
)
def test_any_notation_is_edited_right_or_not_at_all(text: str) -> None:
    for key in (("machines", "node1", "memory"), ("machines", "node2", "memory"), ("compute", "memory")):
        try:
            found = tomllib.loads(editing.edited(text, {key: "2G"}))
        except ValueError as error:
            assert "no command can edit" in str(error)
            continue
        wanted = tomllib.loads(text)
        wanted.setdefault(key[0], {})
        table = wanted[key[0]] if len(key) == 2 else wanted[key[0]].setdefault(key[1], {})
        table["memory"] = "2G"
        assert found == wanted


_WORDS = st.sampled_from(("node1", "node2", "a b", "é"))
_VALUES = st.sampled_from(('"1G"', "2", "[1, 2]", '{ x = "y" }', "'''\n# no comment\n'''"))
_LINES = st.one_of(
    st.builds("[machines.'{}']".format, _WORDS),
    st.builds("'{}' = {}".format, _WORDS, _VALUES),
    st.builds("machines.'{}' = {{ cpus = 1 }}".format, _WORDS),
    st.sampled_from(("# words", "", "[compute]", "[[list]]", "[xen.machines.node1]", 'memory = "1G"  # why')),
)


@given(st.lists(_LINES, max_size=12).map("\n".join), _WORDS)
def test_whatever_people_write(text: str, name: str) -> None:
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    try:
        after = editing.edited(text, {("machines", name, "cpus"): 7})
    except (ValueError, TypeError):
        return
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        line for line in after.splitlines() if line.startswith("#")
    ]
    found = tomllib.loads(after)
    assert found["machines"][name].pop("cpus") == 7
    if isinstance(before.get("machines", {}).get(name), dict):
        before["machines"][name].pop("cpus", None)
        assert found == before


def test_a_file_keeps_what_it_is(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_bytes(b"\xef\xbb\xbf# caf\xc3\xa9\r\n[compute]\r\ncount = 2\r\n")
    real.chmod(0o640)
    link.symlink_to(real)
    editing.write(link, editing.edited(editing.read(link), {("compute", "count"): 3}))
    assert real.read_bytes() == b"\xef\xbb\xbf# caf\xc3\xa9\r\n[compute]\r\ncount = 3\r\n"
    assert real.stat().st_mode & 0o777 == 0o640
    if os.geteuid() == 0:  # somebody's recipe stays theirs
        os.chown(real, 12345, 12345)
        editing.write(real, "[compute]\n")
        assert (real.stat().st_uid, real.stat().st_gid) == (12345, 12345)
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.toml", "real.toml"]
