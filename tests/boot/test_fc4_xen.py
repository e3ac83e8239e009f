"""`doit cluster:fc4-xen`, from the recipe that people have: an old system on the kernel of Debian 12, on real Xen."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot import checkout
from tests.boot.checkout import Checkout
from tests.boot.test_cluster import processes_of
from tests.boot.test_xen import TESTBED, dom0
from tests.fixture import build

pytestmark = [
    pytest.mark.boot,
    pytest.mark.skipif(
        os.environ.get("XEN_OSCAR_LONG_TESTS") != "1",
        reason="takes five to ten minutes: XEN_OSCAR_LONG_TESTS=1 ./bootstrap pytest tests/boot/test_fc4_xen.py",
    ),
]

NAME = "fc4-ci"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[Checkout]:
    """The verified cluster, on a testbed for tests alone."""
    made = checkout.of_fixture(tmp_path_factory.mktemp("fc4"), artifacts, "fc4", build.fedora, "")
    (made.folder / "recipes/hosts/ci.toml").write_text(TESTBED)
    made.write_cluster(NAME, 'extends = "fc4-xen"\nhost = "ci"\n')
    try:
        run = made.doit(f"cluster:{NAME}", "--fresh")
        assert run.status == 0, run.output
        yield made
    finally:
        assert made.doit(f"stop:{NAME}").status == 0
        assert made.doit("stop:testbed-ci").status == 0
        assert processes_of(made.own / "run/testbed-ci") == []
        made.remove()


def test_an_old_system_passes_all_checks_on_xen(running: Checkout) -> None:
    verdict = json.loads((running.own / f"reports/{NAME}/verdict.json").read_text())
    assert verdict["outcome"] == "passed"
    names = {result["name"] for result in verdict["results"]}
    assert {"packages", "image files", "services", "kernel", "opkg lam test_user"} <= names


@pytest.mark.parametrize("machine", ["head", "node1"])
def test_the_kernel_is_the_other_distributions(running: Checkout, machine: str) -> None:
    """The head node has it from its own disk, node1 from the host."""
    said = running.ssh(NAME, machine, "cat /sys/hypervisor/type; uname -r; cat /etc/redhat-release /proc/cmdline")
    kind, kernel, release, told = said.splitlines()
    assert (kind, kernel.endswith("-cloud-amd64")) == ("xen", True), said
    assert "Fedora Core release 4" in release
    assert "vsyscall=emulate" in told.split()
    assert "[vsyscall]" in running.ssh(NAME, machine, "cat /proc/self/maps")
    mounts = running.ssh(NAME, machine, "cat /proc/mounts").splitlines()
    assert [line.split()[2] for line in mounts if line.startswith("/dev/xvda1 / ")] == ["ext3"]


def test_it_ends_in_order_when_its_host_says_so(running: Checkout) -> None:
    done = running.run(running.command("vm", "stop", NAME, "node1"))
    assert done.returncode == 0, done.stderr
    console = dom0(running, f"cat /var/log/xen/console/guest-{NAME}-node1.log")
    assert "System halted" in console.rpartition("Switching to runlevel: 0")[2]
