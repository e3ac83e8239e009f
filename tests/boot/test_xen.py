"""Clusters on real Xen, in the testbed: installed by netboot domains, verified, failing; and as on a remote host.

A test of what goes wrong ends with what must be left then: a message, the container's logs, and nothing there.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.drivers import site
from pipeline.errors import ClusterError
from pipeline.hosts import access, namespace
from pipeline.hosts import testbed as testbeds
from pipeline.hosts.script import Script
from pipeline.virt import disks
from tests.boot import acts, checkout
from tests.boot.checkout import Checkout
from tests.boot.test_cluster import processes_of

pytestmark = pytest.mark.boot

#: What takes minutes that not every run has.
long = pytest.mark.skipif(
    os.environ.get("XEN_OSCAR_LONG_TESTS") != "1",
    reason="takes four to five minutes: XEN_OSCAR_LONG_TESTS=1 ./bootstrap pytest tests/boot/test_xen.py",
)
#: A testbed for tests alone: whoever runs them may have the other one in use.
TESTBED = 'kind = "xen"\nconnection = "testbed"\ndistro = "debian12"\nmemory = "3G"\ncpus = 2\n'
#: What people begin with, but for a node; each of both kinds of boot is of the machine that has the other one there.
CI = """extends = "debian12-xen"
host = "ci"
[compute]
count = 1
disks.data = { size = "8M", kind = "kept" }
[xen.machines.head]
boot = "kernel"
[xen.machines.node1]
boot = "pygrub"
"""
#: As little as can be installed.
SMALL = 'distro = "debian12"\nopkgs = ["sis", "base"]\n'
DISK = 'filesystems = [{ mount = "/", size = "1G" }, { mount = "swap", size = "64M" }]\n'
URI = "xen+ssh://root@10.76.0.1/system?command={}&no_tty=1"
#: Passes on what it reads, but for one bit after the keys have been exchanged.
FLIP = """
import os
seen = 0
while data := bytearray(os.read(0, 65536)):
    if seen < 20000 <= seen + len(data):
        data[20000 - seen - 1] ^= 1
    seen += len(data)
    try:
        os.write(1, data)
    except BrokenPipeError:
        break
"""


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[Checkout]:
    """A running testbed `ci`, and a project with clusters for it."""
    project = checkout.copy(tmp_path_factory.mktemp("xen") / "project", artifacts)
    (project.folder / "recipes/hosts/ci.toml").write_text(TESTBED)
    project.write_cluster("ci-xen", CI)
    project.write_cluster("small-xen", f'{SMALL}host = "ci"\n[compute]\ncount = 1\n')
    try:
        run = project.doit("host:ci")
        assert run.status == 0, run.output
        yield project
    finally:
        assert project.doit("stop:testbed-ci").status == 0
        project.remove()
        assert processes_of(artifacts / "run" / "testbed-ci") == []


@pytest.fixture(scope="module")
def running(testbed: Checkout) -> Iterator[Checkout]:
    """A verified cluster `ci-xen` on it."""
    run = testbed.doit("cluster:ci-xen", "--fresh")
    assert run.status == 0, run.output
    yield testbed
    assert testbed.doit("stop:ci-xen").status == 0


def dom0(project: Checkout, script: str) -> str:
    """What a command on the testbed says."""
    done = project.run([project.own / "run/testbed-ci/ssh", "root@10.76.0.1", script], timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def following(project: Checkout, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A doit that runs, and whose events are read from its output."""
    with subprocess.Popen(
        project.command("--json", *words),
        cwd=project.folder,
        env=project.env(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as run:
        try:
            yield run
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGINT)


def until(run: subprocess.Popen[str], sign: str) -> None:
    """Read events until one holds `sign`."""
    assert run.stdout
    for line in run.stdout:
        if sign in line:
            return
    raise AssertionError(f"it ended without {sign}")


def rest(run: subprocess.Popen[str]) -> str:
    """What it says until it fails, as it must."""
    assert run.stdout
    said = run.stdout.read()
    assert run.wait(timeout=120) != 0
    assert '"failed"' in said and "Traceback" not in said, said
    return said


def nothing_is_left(project: Checkout, cluster: str, *, own_disks: int = 0) -> None:
    """Nothing of the cluster is on the testbed, which has as many disks that were handed to it as it has of its own."""
    left = dom0(project, "xl list; ls /var/lib/xen-oscar; ls /var/log/xen/console; ip -brief link")
    assert cluster not in left and site.shared(cluster).bridge("private") not in left, left
    names = dom0(project, "lsblk --noheadings --nodeps --output NAME").split()
    assert len([name for name in names if name.startswith("sd")]) == own_disks, names


def uri(project: Checkout) -> str:
    return URI.format(project.own / "run/testbed-ci/ssh")


def test_a_whole_cluster_passes_the_same_checks_as_on_qemu(running: Checkout) -> None:
    verdict = json.loads((running.own / "reports/ci-xen/verdict.json").read_text())
    assert verdict["outcome"] == "passed"
    names = {result["name"] for result in verdict["results"]}
    assert {
        "ping",
        "ssh",
        "partitions",
        "file systems",
        "swap",
        "packages",
        "image files",
        "services",
        "clock",
    } <= names
    for opkg in ("slurm", "openmpi", "ganglia", "c3", "munge", "ntpconfig"):
        assert any(name.startswith(f"opkg {opkg} test_") for name in names), opkg
    again = running.doit("cluster:ci-xen")
    assert set(again.results().values()) == {"reused"}, again.results()


def test_it_is_xen_that_they_run_on(running: Checkout) -> None:
    kind = running.run(running.command("ssh", "ci-xen", "node1", "--", "cat", "/sys/hypervisor/type"))
    assert kind.stdout.strip() == "xen", kind.stderr
    how = {}
    for node in ("head", "node1"):
        text = running.run(["virsh", "--connect", uri(running), "dumpxml", f"ci-xen-{node}"], timeout=120).stdout
        root = ET.fromstring(text)
        assert root.get("type") == "xen"
        how[node] = "pygrub" if root.findtext("bootloader", "").endswith("pygrub") else root.findtext("os/kernel")
    assert how == {"head": "/var/lib/xen-oscar/ci-xen/boot/kernel", "node1": "pygrub"}
    console = running.run(running.command("status")).stdout
    assert "ci-xen: running; artifacts ready; passed" in console


def test_a_person_gets_at_a_console(running: Checkout) -> None:
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        running.command("console", "ci-xen", "node1"),
        cwd=running.folder,
        env=running.env(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        said, asked, deadline = b"", 0.0, time.monotonic() + 120
        while b"it is node1" not in said and time.monotonic() < deadline:
            if time.monotonic() > asked + 10:  # what is typed before the console is attached is lost
                asked = time.monotonic()
                os.write(mine, b"\rprintf 'it is %s\\n' \"$(uname -n)\"\r")
            if select.select([mine], [], [], 1)[0]:
                said += os.read(mine, 4096)
        os.write(mine, b"\x1d")
        process.wait(timeout=30)
    os.close(mine)
    assert b"it is node1" in said, said


def test_machines_are_paused_saved_and_brought_back(running: Checkout) -> None:
    lifecycle = acts.lifecycle_of(running, "ci-xen")
    machines, ask = lifecycle.machines(), acts.by_ssh(lifecycle, "node1")
    ask("echo kept | dd of=/dev/xvdb conv=fsync")
    acts.pause_and_resume(machines, "node1", ask)
    acts.save_and_restore(machines, "node1", ask)
    assert acts.stop_and_start(machines, "node1", ask)[-1] == "ready"
    acts.reset(machines, "node1", ask)
    most = next(line for line in machines.lines() if line.machine == "node1").memory_mib
    for mib in (most - 32, most):  # Xen takes memory from a machine that runs, and gives it back
        ((_, _, effect),) = machines.adjust({"node1": {"memory_mib": mib}})
        assert effect.now, effect.words
    assert ask("head -c 4 /dev/xvdb") == "kept"


def test_a_bridge_that_has_gone_is_told_before_anything_is_started(running: Checkout) -> None:
    assert running.run(running.command("vm", "stop", "ci-xen", "node1"), timeout=300).returncode == 0
    bridge = site.shared("ci-xen").bridge("private")
    dom0(running, f"ip link delete {bridge}")
    again = running.doit("start:ci-xen")
    assert again.status != 0 and "Traceback" not in again.output
    assert f"the bridge {bridge} is missing there" in again.output
    assert "xl dmesg" in (running.own / "run/ci-xen/host.log").read_text()
    assert acts.lifecycle_of(running, "ci-xen").states()["head"] == "running", "what once came up is left as it is"
    assert running.doit("stop:ci-xen").status == 0
    nothing_is_left(running, "ci-xen")
    assert (running.own / "kept/ci-xen/node1.data.img").read_bytes()[:5] == b"kept\n"


@pytest.fixture
def remote(testbed: Checkout) -> Iterator[Checkout]:
    """The testbed taken as another machine that ssh leads to, and a cluster `remote-xen` for two of its partitions."""
    (testbed.folder / "recipes/hosts/remote.toml").write_text(f'kind = "xen"\nconnection = "{uri(testbed)}"\n')
    found = acts.lifecycle_of(testbed, "small-xen")
    container = testbeds.Testbed(found.plan.hosts["ci"], testbed.own / "run", found.engine.store.root)
    disk = testbed.folder / "spare.img"
    disks.blank(disk, 3072)
    subprocess.run(["sfdisk", "--quiet", disk], input="label: gpt\nsize=1400M\nsize=1400M\n", text=True, check=True)
    try:
        path = container.attach("spare", "spare", disk, "raw", readonly=False)
        dom0(testbed, f"udevadm wait --timeout=60 {path}-part1 {path}-part2")
        testbed.write_cluster(
            "remote-xen",
            f'''{SMALL}host = "remote"
[head]
{DISK}
[compute]
count = 1
{DISK}
[xen.machines.head]
device = "{path}-part1"
[xen.machines.node1]
device = "{path}-part2"
''',
        )
        yield testbed
    finally:
        assert testbed.doit("stop:remote-xen").status == 0
        container.detach("spare")


@long
def test_a_whole_cluster_on_partitions_of_a_remote_host(remote: Checkout) -> None:
    run = remote.doit("cluster:remote-xen", "--fresh")
    assert run.status == 0, run.output
    assert json.loads((remote.own / "reports/remote-xen/verdict.json").read_text())["outcome"] == "passed"
    again = remote.doit("verify:remote-xen", "--fresh")
    assert again.status == 0, again.output
    assert "only disks on this machine" in remote.run(remote.command("inspect", "remote-xen", "node1")).stderr


@long
def test_a_remote_host_gets_its_disks_by_upload_and_an_installer_that_halts_is_told(remote: Checkout) -> None:
    """What the host lacks is uploaded, kept by digest, and copied to a partition; all of it goes with the cluster."""
    with following(remote, "install:remote-xen") as run:
        until(run, '"phase": "image"')
        assert dom0(remote, "ls /var/lib/xen-oscar/remote-xen/disks").split() == ["identity", "sis"]
        kind = remote.run(remote.command("ssh", "remote-xen", "--", "cat", "/sys/hypervisor/type"))
        assert kind.stdout.strip() == "xen", kind.stderr
        for device in (remote_device(remote), remote_device(remote).removesuffix("-part1")):
            words = Script("other", "xen")("require_device", device, "1", "node9")
            refused = dom0(remote, f"({words}) 2>&1 || :")
            assert f"{device}, the disk of node9, is in use there: it is a disk of the domain remote-xen-" in refused
        dom0(remote, "xl sysrq remote-xen-node1 o")
        said = rest(run)
    assert "node1 (install/image): it powered off too early" in said
    assert "what its VM container said" in said
    nothing_is_left(remote, "remote-xen", own_disks=1)
    kept = dom0(remote, "ls /var/lib/xen-oscar/.store").split()
    assert len(kept) == 2, "the head node's disk and the SIS image"


def remote_device(project: Checkout) -> str:
    recipe = tomllib.loads((project.folder / "recipes/clusters/remote-xen.toml").read_text())
    return str(recipe["xen"]["machines"]["head"]["device"])


def test_a_partition_in_use_is_not_written_to(testbed: Checkout) -> None:
    testbed.write_cluster(
        "mounted-xen", f'{SMALL}host = "ci"\n[compute]\ncount = 1\n[xen.machines.node1]\ndevice = "/dev/vda"\n'
    )
    run = testbed.doit("boot:mounted-xen")
    assert run.status != 0
    assert "/dev/vda, the disk of node1, is in use there: it is mounted at /" in run.output
    nothing_is_left(testbed, "mounted-xen")


def test_a_machine_that_does_not_fit_is_told(testbed: Checkout) -> None:
    testbed.write_cluster("large-xen", f'{SMALL}host = "ci"\n[head]\nmemory = "8G"\n[compute]\ncount = 1\n')
    run = testbed.doit("boot:large-xen")
    assert run.status != 0
    assert "MiB of memory are needed" in run.output and "Traceback" not in run.output
    nothing_is_left(testbed, "large-xen")


def test_no_xen_where_a_uri_says_it_is(testbed: Checkout) -> None:
    (testbed.folder / "recipes/hosts/here.toml").write_text('kind = "xen"\nconnection = "xen:///system"\n')
    run = testbed.doit("host:here")
    assert run.status != 0
    assert "does not run Xen" in run.output and "Traceback" not in run.output


def test_a_flipped_bit_on_the_way_is_told(testbed: Checkout) -> None:
    home = namespace.alive(testbed.own / "run/testbed-ci")
    assert home is not None
    proxy = f"{home.ssh_proxy_command} | {shlex.join([sys.executable, '-c', FLIP])}"
    ssh = testbed.folder / "flipping-ssh"
    ssh.write_text(f'#!/bin/sh\nexec ssh -o {shlex.quote(f"ProxyCommand={proxy}")} "$@"\n')
    ssh.chmod(0o700)
    own = testbed.own / "run/testbed-ci/ssh"
    words = own.read_text().splitlines()[1].removeprefix("exec ssh ").removesuffix('"$@"')
    own_flipping = testbed.folder / "flipping"
    own_flipping.write_text(f'#!/bin/sh\nexec {shlex.quote(str(ssh))} {words} "$@"\n')
    own_flipping.chmod(0o700)
    way = access.of(URI.format(own_flipping))
    assert way.run("echo little").stdout == "little\n"
    with pytest.raises(ClusterError, match="what comes from it is corrupt") as caught:
        way.run("head -c 100000 /dev/zero")
    assert "start it anew" in caught.value.hint


def test_a_container_that_computes_wrongly_ends_the_run(testbed: Checkout) -> None:
    """By the sign that was seen where it did: its own programs are ended by general protection faults."""
    with following(testbed, "boot:small-xen") as run:
        until(run, '"machine": "head"')
        dom0(testbed, "echo 'traps: oxenstored[268] general protection fault ip:7f00 sp:7f00 error:0' > /dev/kmsg")
        assert "general protection fault in oxenstored" in rest(run)
    assert "oxenstored[268]" in (testbed.own / "run/small-xen/console/_host.log").read_text()
    nothing_is_left(testbed, "small-xen")


def test_a_run_that_is_ended_leaves_nothing_there(testbed: Checkout) -> None:
    with following(testbed, "boot:small-xen") as run:
        until(run, '"machine": "head"')
        run.terminate()
        assert run.wait(timeout=120) == 128 + signal.SIGTERM
    nothing_is_left(testbed, "small-xen")


def test_a_run_that_is_killed_leaves_nothing_there(testbed: Checkout) -> None:
    with following(testbed, "boot:small-xen") as run:
        until(run, '"machine": "head"')
        assert "small-xen-head" in dom0(testbed, "xl list")
        run.kill()
    dom0(testbed, "while [ -e /var/lib/xen-oscar/small-xen ]; do sleep 0.2; done")
    assert testbed.doit("stop:small-xen").status == 0  # the disks that were handed to it are taken away from here
    nothing_is_left(testbed, "small-xen")


def test_a_testbed_that_dies_is_told_and_the_next_run_goes_on(testbed: Checkout) -> None:
    with following(testbed, "boot:small-xen") as run:
        until(run, '"boot:small-xen"')
        init = int((testbed.own / "run/testbed-ci/init.pid").read_text().split()[0])
        os.kill(init, signal.SIGKILL)
        rest(run)
    again = testbed.doit("host:ci")
    assert again.status == 0, again.output
