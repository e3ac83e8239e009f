"""Clusters on real Xen, in the testbed: installed by netboot domains, verified, failing; and as on a remote host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot import acts, checkout
from tests.boot.checkout import Checkout
from tests.boot.test_cluster import processes_of

pytestmark = pytest.mark.boot

#: A testbed for tests alone: whoever runs them may have the other one in use.
TESTBED = 'kind = "xen"\nconnection = "testbed"\ndistro = "debian12"\nmemory = "3G"\ncpus = 2\n'
#: As little as can be installed.
SMALL = 'distro = "debian12"\nopkgs = ["sis", "base"]\n'
DISK = 'filesystems = [{ mount = "/", size = "1G" }, { mount = "swap", size = "64M" }]\n'
URI = "xen+ssh://root@10.76.0.1/system?command={}&no_tty=1"


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[Checkout]:
    """A running testbed `ci`, and a project with clusters for it."""
    project = checkout.copy(tmp_path_factory.mktemp("xen") / "project", artifacts)
    (project.folder / "recipes/hosts/ci.toml").write_text(TESTBED)
    project.write_cluster("ci-xen", 'extends = "debian12-xen"\nhost = "ci"\n')
    try:
        run = project.doit("xenhost:ci")
        assert run.status == 0, run.output
        yield project
    finally:
        assert project.doit("stop:xenhost-ci").status == 0
        assert processes_of(artifacts / "run" / "xenhost-ci") == []


@pytest.fixture(scope="module")
def running(testbed: Checkout) -> Iterator[Checkout]:
    """A verified cluster `ci-xen` on it."""
    run = testbed.doit("cluster:ci-xen", "--fresh")
    assert run.status == 0, run.output
    yield testbed
    assert testbed.doit("stop:ci-xen").status == 0


def dom0(project: Checkout, script: str) -> str:
    """What a command on the testbed says."""
    done = project.run([project.artifacts / "run/xenhost-ci/ssh", "root@10.76.0.1", script], timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def uri(project: Checkout) -> str:
    return URI.format(project.artifacts / "run/xenhost-ci/ssh")


def test_a_whole_cluster_passes_the_same_checks_as_on_qemu(running: Checkout) -> None:
    verdict = json.loads((running.artifacts / "reports/ci-xen/verdict.json").read_text())
    assert verdict["outcome"] == "passed"
    names = {result["name"] for result in verdict["results"]}
    assert {"ping", "ssh", "partitions", "file systems", "swap", "packages", "image files", "units", "clock"} <= names
    for opkg in ("slurm", "openmpi", "ganglia", "c3", "munge", "ntpconfig"):
        assert any(name.startswith(f"opkg {opkg} test_") for name in names), opkg
    again = running.doit("cluster:ci-xen")
    assert set(again.results().values()) == {"reused"}, again.results()


def test_it_is_xen_that_they_run_on(running: Checkout) -> None:
    kind = running.run(running.command("ssh", "ci-xen", "node2", "--", "cat", "/sys/hypervisor/type"))
    assert kind.stdout.strip() == "xen", kind.stderr
    how = {}
    for node in ("head", "node1", "node2"):
        text = running.run(["virsh", "--connect", uri(running), "dumpxml", f"ci-xen-{node}"], timeout=120).stdout
        root = ET.fromstring(text)
        assert root.get("type") == "xen"
        how[node] = "pygrub" if root.findtext("bootloader", "").endswith("pygrub") else root.findtext("os/kernel")
    assert how == {"head": "pygrub", "node1": "/var/lib/xen-oscar/ci-xen/boot/kernel", "node2": "pygrub"}
    console = running.run(running.command("status")).stdout
    assert "ci-xen: running; artifacts ready; passed" in console


def test_machines_are_paused_saved_and_brought_back(running: Checkout) -> None:
    lifecycle = acts.lifecycle_of(running, "ci-xen")
    machines, ask = lifecycle.machines(), acts.by_ssh(lifecycle, "node2")
    acts.pause_and_resume(machines, "node2", ask)
    acts.save_and_restore(machines, "node2", ask)
    assert acts.stop_and_start(machines, "node2", ask)[-1] == "ready"


def test_stopping_leaves_nothing_on_the_container(running: Checkout) -> None:
    assert running.doit("stop:ci-xen").status == 0
    assert "ci-xen" not in dom0(running, "xl list; ls /var/lib/xen-oscar; ls /var/log/xen/console")
    left = dom0(running, "ip -brief link; lsblk --noheadings --nodeps --output NAME")
    assert "xo" not in left and "sd" not in left, left


def test_a_machine_that_does_not_fit_is_told(testbed: Checkout) -> None:
    testbed.write_cluster("large-xen", f'{SMALL}host = "ci"\n[head]\nmemory = "8G"\n[compute]\ncount = 1\n')
    run = testbed.doit("boot:large-xen")
    assert run.status != 0
    assert "memory" in run.output and "Traceback" not in run.output
    assert "large-xen" not in dom0(testbed, "xl list; ls /var/lib/xen-oscar")


def test_a_remote_host_gets_its_disks_by_upload(testbed: Checkout) -> None:
    (testbed.folder / "recipes/hosts/remote.toml").write_text(f'kind = "xen"\nconnection = "{uri(testbed)}"\n')
    testbed.write_cluster("remote-xen", f'{SMALL}host = "remote"\n[head]\n{DISK}[compute]\n{DISK}count = 1\n')
    run = testbed.doit("boot:remote-xen")
    assert run.status == 0, run.output
    assert "upload" in run.output
    kind = testbed.run(testbed.command("ssh", "remote-xen", "--", "cat", "/sys/hypervisor/type"))
    assert kind.stdout.strip() == "xen", kind.stderr
    assert testbed.doit("stop:remote-xen").status == 0
    assert "remote-xen" not in dom0(testbed, "xl list; ls /var/lib/xen-oscar; ip -brief link")


def test_no_xen_where_a_uri_says_it_is(testbed: Checkout) -> None:
    (testbed.folder / "recipes/hosts/here.toml").write_text('kind = "xen"\nconnection = "xen:///system"\n')
    run = testbed.doit("xenhost:here")
    assert run.status != 0
    assert "does not run Xen" in run.output and "Traceback" not in run.output


def test_a_testbed_that_dies_is_told_and_the_next_run_goes_on(testbed: Checkout) -> None:
    testbed.write_cluster("dies-xen", f'{SMALL}host = "ci"\n[compute]\ncount = 1\n')
    with subprocess.Popen(testbed.command("--json", "boot:dies-xen"), cwd=testbed.folder, env=testbed.env(),
                          stdout=subprocess.PIPE, text=True) as boot:
        assert boot.stdout
        for line in boot.stdout:
            if '"boot:dies-xen"' in line:
                break
        namespace = int((testbed.artifacts / "run/xenhost-ci/init.pid").read_text().split()[0])
        os.kill(namespace, signal.SIGKILL)
        said = boot.stdout.read()
    assert boot.returncode != 0
    assert '"failed"' in said and "Traceback" not in said, said
    again = testbed.doit("xenhost:ci")
    assert again.status == 0, again.output
