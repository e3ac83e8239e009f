"""A cluster on a host: whether it ends because its testbed does, and how that is told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.hosts import access, namespace
from pipeline.hosts import testbed as testbeds
from pipeline.hosts.home import GivenHome
from pipeline.hosts.namespace import Namespace
from pipeline.hosts.script import Script


@pytest.fixture
def testbed() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for the one that holds a testbed."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_it_ends_with_its_testbed(tmp_path: Path, testbed: subprocess.Popen[bytes]) -> None:
    start = namespace._start_time(testbed.pid)
    assert start is not None
    one = testbeds.TestbedHome(
        "c",
        tmp_path / "c",
        access.of("xen:///system"),
        Script("c", "xen"),
        Namespace(tmp_path / "testbed-ci", testbed.pid, start),
    )
    assert not one.ends(within=0), "it runs"
    testbed.kill()
    assert one.ends(within=30)
    testbed.wait()
    assert one.ends(within=0), "it has ended"
    assert one.lost().message == "testbed-ci, on which c runs, has ended"


def test_the_kernel_of_a_machine_that_others_use_too_is_not_listened_to(tmp_path: Path) -> None:
    """A program of theirs that crashes is no sign that the cluster's machines are not sound."""
    uri = access.of("xen:///system")
    assert GivenHome("c", tmp_path / "c", uri, Script("c", "xen")).kernel_log == tmp_path / "c/console/_host.log"
    assert GivenHome("c", tmp_path / "c", uri, Script("c", "qemu")).kernel_log is None


def test_another_machine_is_told_by_its_name(tmp_path: Path) -> None:
    one = GivenHome("c", tmp_path / "c", access.of("xen:///system"), Script("c", "xen"))
    assert one.lost().message == "this machine, on which c runs, no longer answers"
