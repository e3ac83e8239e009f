"""What differs between what machines were made of and what they would be made of is known to the file."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster.differing import Target, _other, _over, paths, require_applicable, require_kept
from pipeline.cluster.tried import Layer
from pipeline.errors import NotNow
from pipeline.inventory import Entry
from pipeline.step import Parent, Step
from tests.checks.samples import cluster

FILE = Entry("f", 0o644, size=1, sha256="1")


def test_paths_differ_in_whatever_is_kept_of_a_file() -> None:
    before = {"same": FILE, "content": FILE, "mode": FILE, "went": FILE, "hidden": None}
    after = {
        "same": FILE,
        "content": FILE._replace(sha256="2"),
        "mode": FILE._replace(mode=0o600),
        "hidden": FILE,
        "came": None,
    }
    assert paths(before, after) == {"content", "mode", "went", "hidden", "came"}
    assert paths(before, before) == set()


def test_a_file_differs_when_it_has_other_names() -> None:
    one, other = (FILE._replace(inode=inode) for inode in ("a", "b"))
    assert paths({"a": one, "b": one}, {"a": other, "b": other}) == set(), "an inode's name says nothing"
    assert paths({"a": one, "b": one}, {"a": one, "b": FILE}) == {"a", "b"}


STEP = Step(
    "disk",
    "c/head",
    "",
    "m:f",
    params={"size": 1},
    parents=(
        Parent("base", "diskbase:c/head"),
        Parent("layer", "packages:c/head"),
        Parent("layer", "opkgs:c/head"),
        Parent("bootloader", "bootloader:amd64"),
    ),
)
RECORDED = {
    "params": {"size": 1},
    "parents": [
        ["base", "diskbase", "1"],
        ["layer", "packages", "2"],
        ["layer", "opkgs", "3"],
        ["bootloader", "bootloader", "4"],
    ],
}


def life(**digests: str) -> Any:
    """A plan in whose store there are these, by kind."""
    entries = {kind: SimpleNamespace(digest=digest) for kind, digest in digests.items()}
    keys = SimpleNamespace(entry=lambda task: entries.get(task.partition(":")[0]))
    return SimpleNamespace(engine=SimpleNamespace(keys=keys), cluster=cluster(), made=SimpleNamespace(family="deb"))


def test_other_layers_of_opkgs_alone_can_be_tried() -> None:
    assert list(_other(life(packages="2", bootloader="4", opkgs="other"), STEP, RECORDED)) == []


@pytest.mark.parametrize(
    ("digests", "recorded", "told"),
    [
        ({"packages": "9", "bootloader": "4"}, RECORDED, ["packages:c/head"]),
        ({"packages": "2"}, RECORDED, ["bootloader:amd64"]),
        ({"packages": "2", "bootloader": "4"}, {**RECORDED, "params": {"size": 2}}, ["layout of disk:c/head"]),
        (
            {"packages": "2", "bootloader": "4"},
            {**RECORDED, "parents": [*RECORDED["parents"], ["kernel", "kernel", "5"]]},
            ["kernel of disk:c/head"],
        ),
    ],
)
def test_all_else_is_told_by_its_task(digests: dict[str, str], recorded: dict[str, Any], told: list[str]) -> None:
    assert list(_other(life(**digests), STEP, recorded)) == told


def test_layers_that_lie_over_each_other_change_what_both_do() -> None:
    one = FILE._replace(inode="1")
    below = {"a": FILE, "d/x": FILE, "d": Entry("d", 0o755), "e/x": FILE, "f": one, "g": one}
    above = {"a": None, "d": FILE, "e": Entry("d", 0o700), "h": one}
    found = _over(below, above, 1)
    assert found == {
        "a": None,
        "d": FILE,
        "e/x": FILE,
        "e": Entry("d", 0o700),
        "f": one,
        "g": one,
        "h": FILE._replace(inode="1/1"),
    }


def test_a_package_that_is_gone_cannot_be_tried() -> None:
    had, now = Layer({}, {}, {"probe": "1.0"}), Layer({}, {}, {"other": "1"})
    require_kept(life(), {"head": had}, {"head": had})
    with pytest.raises(NotNow, match="package probe: no longer under test"):
        require_kept(life(), {"head": had}, {"head": now})


def test_a_machine_gets_the_package_database_of_what_is_brought() -> None:
    status = {"var/lib/dpkg/status": FILE, "var/lib/tool": FILE}
    target = Target(life(), "compute", Layer({}, status), Layer({}, status), {})
    target._below = {}
    assert target.own("var/lib/dpkg/status") is None


def test_what_a_machine_boots_by_cannot_be_tried() -> None:
    require_applicable(life(), {"head": {"etc/boot/x"}})
    with pytest.raises(NotNow, match="/boot/vmlinuz-6: what machines boot by") as caught:
        require_applicable(life(), {"head": {"etc/x"}, "compute": {"boot/vmlinuz-6"}})
    assert "doit cluster:" in caught.value.hint


def test_a_machine_keeps_what_is_its_own() -> None:
    was = Layer({}, {"etc/fstab": FILE, "var/lib/tool/state": FILE})
    now = Layer({}, {"etc/fstab": None, "var/lib/tool/state": None, "var/lib/tool/new": FILE, "etc/tool": FILE})
    target = Target(life(), "compute", was, now, {"etc/over": "api-post-clientdef of OPKG tool"})
    target._below = {"etc/below": FILE}
    assert target.own("etc/fstab") == "the node's own partitions"
    assert target.own("var/lib/tool/state") == "state of the services"
    assert target.own("var/lib/tool/new") is None, "which no service can have changed"
    assert target.own("etc/tool") is None
    assert target.own("etc/over") == "api-post-clientdef of OPKG tool"
    assert [target.at(path) for path in ("etc/fstab", "etc/tool", "etc/below", "etc/nothing")] == [
        None,
        FILE,
        FILE,
        None,
    ]
