"""A cluster on a Xen host: whether it ends because its testbed does, and how that is told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.hypervisor import namespace
from pipeline.hypervisor.namespace import Namespace
from pipeline.xenhost import access
from pipeline.xenhost.home import XenHome
from pipeline.xenhost.script import Script


@pytest.fixture
def testbed() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for the one that holds a testbed."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def home(run_dir: Path, testbed: Namespace | None) -> XenHome:
    return XenHome("c", run_dir / "c", access.of("xen:///system"), Script("c"), testbed)


def test_it_ends_with_its_testbed(tmp_path: Path, testbed: subprocess.Popen[bytes]) -> None:
    start = namespace._start_time(testbed.pid)
    assert start is not None
    one = home(tmp_path, Namespace(tmp_path / "xenhost-ci", testbed.pid, start))
    assert not one.ends_with_testbed(within=0), "it runs"
    testbed.kill()
    assert one.ends_with_testbed(within=30)
    testbed.wait()
    assert one.ends_with_testbed(within=0), "it has ended"
    assert one.lost().message == "xenhost-ci, on which c runs, has ended"


def test_another_machine_has_no_testbed_to_end_with(tmp_path: Path) -> None:
    one = home(tmp_path, None)
    assert not one.ends_with_testbed(within=30)
    assert one.lost().message == "this machine, on which c runs, no longer answers"
