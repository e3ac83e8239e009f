"""`doit cluster:fc4`, from the recipe that people have and a fixture in the shape of Fedora Core 4."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.guests import fedora_core
from pipeline.packages import lock
from tests.boot import checkout, latecomers
from tests.boot.checkout import Checkout
from tests.boot.test_cluster import processes_of
from tests.fixture import build

pytestmark = pytest.mark.boot

NAME = "fc4"
#: What differs from its package on a healthy node: its users, and what OPKGs and scripts of packages have set.
EXPLAINED = {
    "/bin/ping",
    "/etc/group",
    "/etc/gshadow",
    "/etc/inittab",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/ssh/ssh_config",
    "/etc/ssh/sshd_config",
}


def fixture(mirror: Path, pool: Path) -> None:
    build.fedora(mirror, pool)
    latecomers.publish(mirror, "core/updates/4/x86_64", checksum="sha")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[Checkout]:
    """The verified cluster, with one node, since a second one would show nothing more."""
    made = checkout.of_fixture(tmp_path_factory.mktemp("fc4"), artifacts, NAME, fixture, "[compute]\ncount = 1\n")
    try:
        run = made.doit(f"cluster:{NAME}", "--fresh")
        assert run.status == 0, run.output
        yield made
    finally:
        assert made.doit(f"stop:{NAME}").status == 0
        assert processes_of(made.own / "run" / NAME) == []
        made.remove()


def test_it_passes_the_checks_that_every_cluster_passes(running: Checkout) -> None:
    verdict = json.loads((running.own / f"reports/{NAME}/verdict.json").read_text())
    assert verdict["outcome"] == "passed"
    names = {result["name"] for result in verdict["results"]}
    assert {
        "packages",
        "image files",
        "disk files",
        "services",
        "kernel",
        "opkg c3 test_root",
        "opkg c3 test_user",
        "opkg lam test_user",
        "opkg ntpconfig test_root",
    } <= names


def test_it_has_the_devices_and_file_systems_of_its_time(running: Checkout) -> None:
    mounts = running.ssh(NAME, "head", "cat /proc/mounts").splitlines()
    types = {line.split()[1]: line.split()[2] for line in mounts}
    assert (types["/"], types["/var/lib/systemimager"]) == ("ext3", "ext2")
    devices = running.ssh(NAME, "node1", "readlink -f /sys/class/net/eth0/device/driver /sys/block/sda")
    assert "/drivers/e1000\n" in devices and "/ata1/" in devices
    assert running.ssh(NAME, "node1", "ls /sys/bus/virtio 2>/dev/null || echo none") == "none\n"


def test_the_suites_own_rpm_lists_what_was_locked_and_explains_the_rest(running: Checkout) -> None:
    listed = running.ssh(NAME, "node1", "RPM_FORCE_DEBIAN=1 rpm -qa --qf '%{NAME}-%{VERSION}\\n' 2>/dev/null").split()
    locked = {
        f"{package.name}-{package.version}"
        for name in ("lock", "lock-compute")
        for package in lock.read(running.own / NAME / name / "files" / lock.NAME)
    }
    assert sorted(listed) == sorted(locked)
    assert "zlib-1.2.2.2" in listed
    different = running.ssh(NAME, "node1", "RPM_FORCE_DEBIAN=1 rpm -Va 2>/dev/null || :").splitlines()
    assert {line.split()[-1] for line in different} <= EXPLAINED, different


def test_a_service_that_died_is_told(running: Checkout) -> None:
    asking = f"{fedora_core.GUEST.services}\nfailed_services"
    assert running.ssh(NAME, "head", asking) == ""
    assert running.ssh(NAME, "head", f"pkill dhcpd; {asking}") == "failed oscar-dhcp\n"
    assert "dhcpd is stopped" in running.ssh(NAME, "head", f"{fedora_core.GUEST.services}\ntell_services oscar-dhcp")
    running.ssh(NAME, "head", "service oscar-dhcp restart")
    assert running.ssh(NAME, "head", asking) == ""


def test_an_opkg_comes_and_goes(running: Checkout) -> None:
    latecomers.come_and_go(running, NAME)


def test_its_power_button_ends_a_machine_in_order(running: Checkout) -> None:
    done = running.run(running.command("vm", "stop", NAME, "node1"))
    assert done.returncode == 0, done.stderr
    console = (running.own / f"run/{NAME}/console/node1.log").read_text(errors="replace")
    # which the installer's end does not say; one that is ended by force says nothing
    assert "Switching to runlevel: 0" in console
    assert "Power down" in console.rpartition("Switching to runlevel: 0")[2]
