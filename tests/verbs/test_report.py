"""How machines would be started: by libvirt where it knows them, by the recipe otherwise."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pipeline.builders import definition
from pipeline.description import Host
from pipeline.errors import WrongUse
from pipeline.plan import machine as planned
from pipeline.step import Job, Step
from pipeline.verbs.report import Reported
from tests.samples import cluster
from tests.verbs.lab import Lab


def test_of_a_cluster_that_runs_libvirt_is_asked(small: Lab) -> None:
    small.raw("node2").destroy()
    small.raw("node2").undefine()
    first, second = small.vm("report", "one", "node[1-2]")
    assert (first.machine, first.by) == ("node1", "libvirt")
    root = ET.fromstring(first.definition)
    assert root.findtext("name") == "one-node1"
    assert len(root.findall("devices/disk")) == 3
    assert (second.machine, second.by) == ("node2", "recipe"), "it is not installed yet"


@pytest.mark.parametrize("host", [Host("local", "qemu", "private"), Host("far", "xen", "xen+ssh://root@far/system")])
def test_of_others_it_is_the_artifact(small: Lab, host: Host, tmp_path: Path) -> None:
    small.here.up, small.host = False, host
    told = {row.machine: row for row in small.vm("report", "one")}
    assert list(told) == ["head", "node1", "node2"]
    for name, row in told.items():
        step = planned.definition(small.cluster, small.cluster.machine(name), host)
        assert row.definition == built(step, tmp_path / name)
        assert row.by == "recipe"


def built(step: Step, folder: Path) -> str:
    """What the builder writes."""
    folder.mkdir()
    definition.build(Job(step, (), folder, folder, folder, folder, folder, lambda *_: None, print))
    return (folder / "run.xml").read_text()


def test_xl(small: Lab) -> None:
    """Also of a cluster that does not run, and on standard output: Rocks' `report host vm`."""
    with pytest.raises(WrongUse, match="one is on local, which runs qemu: xl is Xen's"):
        small.vm("report", "one", "--xl")
    small.host = Host("far", "xen", "xen+ssh://root@far/system")
    (told,) = small.vm("report", "one", "node2", "--xl")
    assert isinstance(told, Reported)
    lines = told.text().splitlines()
    assert lines[0] == 'name = "one-node2"' and "memory = 384" in lines and 'bootloader = "pygrub"' in lines
    assert cluster("one").machine("node2").interfaces[0].mac in told.text()
