"""OPKGs that came while a cluster ran are written down, and with them what stands on its machines."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipeline.cluster.added import Added, Notes
from pipeline.inventory import Entry

TOOL = Added(
    "tool",
    "whole",
    {"lib": ("tool", "lib")},
    {"head": {"tool": "1.0"}, "compute": {"libtool": "2:1.0-1"}},
    ("api-post-deploy",),
    ("head", "node1"),
)
LIB = Added("lib", "whole", machines=("head", "node1"))
MACHINES = ("head", "node1")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    assert (notes.all(), notes.changed("head"), notes.told(MACHINES)) == ({}, {}, "")
    notes.put(TOOL)
    assert notes.all() == {"tool": TOOL}
    assert notes.packages("head", "head") == {"tool": "1.0"}
    assert notes.packages("node1", "compute") == {"libtool": "2:1.0-1"}
    assert notes.packages("node2", "compute") == {}
    assert TOOL.files() == {"opkgs/tool/scripts/api-post-deploy"}


def test_what_differs_from_the_recipe_is_told(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.put(TOOL)
    assert notes.told(MACHINES) == "OPKG tool: added while it ran"
    assert notes.told((*MACHINES, "node2")) == "OPKG tool: added while it ran, and not on node2"
    notes.put(dataclasses.replace(TOOL, state="begun"))
    assert notes.told(MACHINES) == "OPKG tool: not wholly installed"
    notes.put(Added("tool", "gone"))
    notes.put(Added("lib", "gone"))
    assert notes.told(MACHINES) == "OPKG tool, lib: added while it ran, and removed"
    assert notes.there() == {}


def test_one_that_comes_again_comes_after_what_it_needs(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    for one in (TOOL, Added("tool", "gone"), LIB, TOOL, dataclasses.replace(LIB, state="leaving")):
        notes.put(one)
    assert list(notes.there()) == ["lib", "tool"], "it is removed before what it needs"


def test_what_stands_on_a_machine_is_what_was_seen_last(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    first, second = Entry("f", 0o644, size=1, md5="a" * 32), Entry("f", 0o600, size=2, md5="b" * 32)
    notes.put_changed("head", {"etc/a": first, "etc/b": first, "etc/c": None})
    notes.put_changed("head", {"etc/b": second, "etc/a": None})
    assert notes.changed("head") == {"etc/a": None, "etc/b": second, "etc/c": None}
    assert notes.changed("node1") == {}


def test_a_machine_that_is_made_anew_has_none_of_it(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.forget("node1")
    assert list(tmp_path.iterdir()) == []
    notes.put(TOOL)
    notes.put_changed("node1", {"etc/a": None})
    notes.forget("node1")
    assert notes.changed("node1") == {}
    assert notes.packages("node1", "compute") == {}
    assert notes.told(MACHINES) == "OPKG tool: added while it ran, and not on node1"
