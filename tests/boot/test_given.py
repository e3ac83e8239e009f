"""Clusters on a given host that runs QEMU: brought there by ssh, run by its own libvirt, verified; and what goes wrong.

What fails ends with a message in words, and with nothing left there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.drivers import site
from tests.boot import acts, checkout, othermachine
from tests.boot.checkout import Checkout, Run
from tests.boot.othermachine import OtherMachine

pytestmark = pytest.mark.boot

NAME = "away"
#: As little as can be installed.
CLUSTER = """distro = "debian12"
opkgs = ["sis", "base"]
host = "other"
[compute]
count = 1
disks.data = { size = "8M", kind = "kept" }
[memberships.login]
packages = ["tree"]
filesystems = [{ mount = "/", size = "1500M" }]
"""
#: What is asked of the machine that one is on; its libvirt answers there as it does to others.
HERE = """
from pipeline.description import Host
from pipeline.hosts import given
print(given.ask(Host("here", "qemu", "qemu:///system")))
"""


@dataclass(frozen=True)
class There:
    project: Checkout
    machine: OtherMachine

    def nothing_is_left(self) -> None:
        left = self.machine.run("ls /var/lib/xen-oscar; ip -brief link; virsh -c qemu:///system list --all --name")
        assert NAME not in left and site.shared(NAME).bridge("private") not in left, left

    def fails(self, *words: str) -> Run:
        run = self.project.doit(*words)
        assert run.status != 0 and "Traceback" not in run.output, run.output
        return run


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[There]:
    """Another machine, and a project with a cluster for it."""
    project = checkout.copy(tmp_path_factory.mktemp("given") / "project", artifacts)
    fetched = project.doit("fetch:debian12")
    assert fetched.status == 0, fetched.output
    (sshd,) = (project.own / "debian12/fetch/files/packages").glob("openssh-server_*.deb")
    folder = tmp_path_factory.mktemp("other") / "machine"
    with (
        pytest.MonkeyPatch.context() as patch,
        othermachine.running(folder, artifacts / "cache", sshd, patch) as machine,
    ):
        recipe = f'kind = "qemu"\nconnection = "{machine.uri}"\n'
        (project.folder / "recipes/hosts/other.toml").write_text(recipe)
        project.write_cluster(NAME, CLUSTER)
        try:
            yield There(project, machine)
        finally:
            assert project.doit(f"stop:{NAME}").status == 0
            project.remove()


def test_a_machine_whose_host_key_is_another_is_not_believed(there: There) -> None:
    key = there.machine.key
    there.machine.know_as(" ".join((there.machine.folder / "key.pub").read_text().split()[:2]))
    try:
        assert "Host key verification failed" in there.fails("host:other").output
    finally:
        there.machine.know_as(key)


def test_it_is_asked_whether_it_answers(there: There) -> None:
    run = there.project.doit("host:other")
    assert run.status == 0, run.output
    assert "QEMU" in run.output and "MiB free, libvirt at qemu+ssh://" in run.output
    here = subprocess.run(
        there.machine.enter(sys.executable, "-c", HERE),
        cwd="/",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(checkout.TOP)},
        timeout=120,
        check=False,
    )
    assert here.returncode == 0 and "libvirt at qemu:///system" in here.stdout, here.stderr


def test_a_pool_that_is_full_is_told_before_anything_is_brought(there: There) -> None:
    there.machine.run("mount -t tmpfs -o size=64m tmpfs /var/lib/xen-oscar")
    try:
        said = there.fails(f"boot:{NAME}").output
        assert "MiB are needed in /var/lib/xen-oscar" in said
        there.nothing_is_left()
    finally:
        there.machine.run("umount /var/lib/xen-oscar")


@pytest.fixture(scope="module")
def running(there: There) -> There:
    """A verified cluster there."""
    run = there.project.doit(f"cluster:{NAME}", "--fresh")
    assert run.status == 0, run.output
    return there


def test_a_whole_cluster_runs_there(running: There) -> None:
    verdict = json.loads((running.project.own / f"reports/{NAME}/verdict.json").read_text())
    assert verdict["outcome"] == "passed"
    listed = running.project.run(running.project.command("vm", "list", NAME)).stdout
    assert [line.split()[1:4] for line in listed.splitlines()] == [
        ["head", "running", "qemu/other"],
        ["node1", "running", "qemu/other"],
        ["login1", "running", "qemu/other"],
    ]
    assert f"{NAME}-node1" in running.machine.run("virsh -c qemu:///system list --name")
    assert "only disks on this machine" in running.project.run(running.project.command("inspect", NAME)).stderr


def test_a_login_node_has_what_its_membership_says(running: There) -> None:
    """That its files, packages and partitions are those of its own image, the verdict has said."""
    lifecycle = acts.lifecycle_of(running.project, NAME)
    look = "command -v tree; tail -n 2 /etc/oscar/nodes"
    assert acts.by_ssh(lifecycle, "login1")(look).split()[0::6] == ["/usr/bin/tree", "compute", "login"]
    verdict = json.loads((running.project.own / f"reports/{NAME}/verdict.json").read_text())
    checked = {result["name"] for result in verdict["results"] if result["machine"] == "login1"}
    assert {"image files", "packages", "partitions"} <= checked


def test_memory_is_saved_there_and_comes_back(running: There) -> None:
    lifecycle = acts.lifecycle_of(running.project, NAME)
    acts.by_ssh(lifecycle, "node1")("echo kept | dd of=/dev/disk/by-id/virtio-data conv=fsync")
    acts.save_and_restore(lifecycle.machines(), "node1", acts.by_ssh(lifecycle, "node1"))


def test_a_connection_that_is_cut_while_one_waits_is_told_and_the_next_run_goes_on(running: There) -> None:
    project = running.project
    assert project.run(project.command("vm", "stop", NAME, "node1"), timeout=600).returncode == 0
    with subprocess.Popen(
        project.command("--json", f"start:{NAME}"),
        cwd=project.folder,
        env=project.env(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if '"phase": "started"' in line:
                break
        for process in running.machine.connections():
            os.kill(process, signal.SIGKILL)
        said = run.stdout.read()
        assert run.wait(timeout=300) != 0
    assert "no longer" in said and "is left as it is" in said and "Traceback" not in said, said
    again = project.doit(f"start:{NAME}")
    assert again.status == 0, again.output
    assert acts.by_ssh(acts.lifecycle_of(project, NAME), "node1")("head -c 4 /dev/disk/by-id/virtio-data") == "kept"


def test_another_cluster_runs_beside_it(running: There) -> None:
    """What both would have by default is different: MACs, addresses, bridges."""
    running.project.write_cluster("beside", CLUSTER)
    try:
        run = running.project.doit("boot:beside")
        assert run.status == 0, run.output
        listed = running.project.run(running.project.command("vm", "list")).stdout
        assert [line.split()[:3] for line in listed.splitlines()] == [
            [NAME, "head", "running"],
            [NAME, "node1", "running"],
            [NAME, "login1", "running"],
            ["beside", "head", "running"],
        ]
        macs = "for one in $(virsh -c qemu:///system list --name); do virsh -c qemu:///system domiflist $one; done"
        cards = [line.split()[-1] for line in running.machine.run(macs).splitlines() if "bridge" in line]
        assert len(cards) == len(set(cards)) == 6
    finally:
        assert running.project.doit("stop:beside").status == 0


def test_nothing_of_it_stays(running: There) -> None:
    assert running.project.doit(f"stop:{NAME}").status == 0
    running.nothing_is_left()
    kept = running.machine.run("ls /var/lib/xen-oscar/.store").split()
    assert len(kept) == 2, "what lies below both head nodes' disks, and below the SIS images, for the next start"
    assert running.machine.run(f"head -c 4 /var/lib/xen-oscar/.kept/{NAME}/node1.data") == "kept"
