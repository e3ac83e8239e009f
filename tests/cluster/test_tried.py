"""What was tried in place is written down, and tells how machines differ from all recipes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipeline.cluster import tried
from pipeline.cluster.added import Notes
from pipeline.cluster.tried import Layer, Share, Tried, What
from pipeline.inventory import Entry

WAS = Layer({"opkgs/c3/scripts/setup": "file 755 1"}, {"etc/c3": Entry("f", 0o644, size=1), "etc/gone": None})
NOW = Layer(
    {"opkgs/c3/scripts/setup": "file 755 2"},
    {"etc/c3": Entry("f", 0o644, size=2), "etc/\udcff": None},
    {"probe": "1.2"},
)
TRIED = Tried(
    {"head": Share(WAS, NOW, frozenset({"etc/c3", "etc/\udcff"}))}, What(("c3", "sis"), ("probe",)), What(("sis",))
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert tried.read(tmp_path) is None
    tried.write(tmp_path, TRIED)
    assert tried.read(tmp_path) == TRIED


def test_what_was_tried_is_told_as_that(tmp_path: Path) -> None:
    assert tried.told(tmp_path) == Notes(tmp_path).told(["head"]) == ""
    tried.write(tmp_path, TRIED)
    what = "OPKG c3, sis, package probe: tried in place, not installed"
    assert tried.told(tmp_path) == f"{what} (sis: without a good end)"
    tried.write(tmp_path, dataclasses.replace(TRIED, pending=What()))
    assert Notes(tmp_path).told(["head"]) == what
