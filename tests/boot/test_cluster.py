"""A whole cluster, for real: built, booted, installed over the network, verified, used, and ended without a trace."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import debpackages, oddfiles
from tests.boot import acts, checkout, hostile, latecomers
from tests.boot.checkout import Checkout, Run

pytestmark = pytest.mark.boot

#: Extends the cluster that people begin with; everything that it is made of is what they get.
CLUSTER = 'extends = "debian12"\n'

#: What the cluster `ci` is first, and what becomes of it while it runs.
DATA = "disks.data = { size = '16M', kind = 'kept' }\n"
ONE_NODE = f"[compute]\ncount = 1\n{DATA}"
MORE = f"[compute]\ncount = 2\n{DATA}[machines.node1]\nmemory = '448M'\ndisks.scratch.size = '8M'\n"
#: The same without its last node.
ONE_LEFT = MORE.replace("count = 2", "count = 1")
#: A kept disk is written, and what was written is noted where the system is.
KEPT = "/dev/disk/by-id/virtio-data"
WRITE = f"dd if=/dev/urandom of={KEPT} bs=1M count=16 conv=fsync && md5sum {KEPT} > /root/sum"

ODD = """<?xml version="1.0"?>
<oscar>
  <name>odd</name><summary>Files of all kinds</summary><license>GPL</license><group>System/Test</group>
  <commonDeps/>
  <changelog><versionEntry version="1.0-1"><changelogEntry authorName="T" date="2026-11-21T00:00:00Z">
    <item>First version.</item></changelogEntry></versionEntry></changelog>
</oscar>
"""
#: In folders, too, that every node gets files of its own in.
MAKE_ODD = """#!/bin/sh
set -e
perl "$OSCAR_PACKAGE_HOME/scripts/oddfiles.pl" /usr/share/odd
chmod 2775 /etc/systemd/network
chgrp 60002 /etc/ssh
"""


def write_ci(project: Checkout, version: str, more: str = MORE) -> None:
    """The cluster `ci`, with a package under test on both sides, and an OPKG that brings files of all odd kinds."""
    folder = project.folder / "recipes/clusters"
    package = debpackages.make(folder, "probe", version, files={"/usr/share/probe": version})
    opkgs = tomllib.loads((folder / "debian12.toml").read_text())["opkgs"]
    project.write_cluster(
        "ci",
        f"{CLUSTER}opkgs = {json.dumps([*opkgs, 'odd'])}\n"
        f'[packages]\nhead = ["{package.name}"]\ncompute = ["{package.name}"]\n{more}',
    )
    scripts = project.folder / "recipes/opkgs/odd/scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    scripts.with_name("config.xml").write_text(ODD)
    shutil.copy(oddfiles.SCRIPT, scripts)
    for phase in ("server-post-install", "client-post-install"):
        if not (scripts / phase).exists():
            (scripts / phase).write_text(MAKE_ODD)
            (scripts / phase).chmod(0o755)


def boot_ids(project: Checkout, *machines: str) -> dict[str, str]:
    """What Linux calls the time since each machine was booted last."""
    found = {}
    for machine in machines:
        seen = project.run(project.command("ssh", "ci", machine, "--", "cat /proc/sys/kernel/random/boot_id"))
        assert seen.returncode == 0, seen.stderr
        found[machine] = seen.stdout.strip()
    return found


def processes_of(run_dir: Path) -> list[str]:
    """Command lines that name the run folder, or a path inside a cluster's namespace below it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(run_dir) in words:
            found.append(words)
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[Checkout]:
    """A verified cluster `ci` that the tests of this module look at.

    Its second node came when it ran already, while its first one got more memory.
    """
    project = checkout.copy(tmp_path_factory.mktemp("cluster") / "project", artifacts)
    write_ci(project, "1.0", ONE_NODE)
    project.doit("stop:ci")
    try:
        first = project.doit("start:ci", "headnode:ci")
        assert first.status == 0, first.output
        before = boot_ids(project, "head", "node1")
        wrote = project.run(project.command("ssh", "ci", "node1", "--", WRITE))
        assert wrote.returncode == 0, wrote.stderr
        write_ci(project, "1.0", MORE)
        run = project.doit("cluster:ci", "--fresh")
        assert run.status == 0, run.output
        assert run.built <= {"disk:ci/node2", "definition:ci/node2", "definition:ci/node1"}, "no more was made for that"
        told = doing(run)
        assert {phase: told[f"{phase}:ci"] for phase in ("boot", "install", "start")} == {
            "boot": "node2 to be added",
            "install": "node2 to be installed",
            "start": "node1 to be restarted with another definition; node2 to be started",
        }
        after = boot_ids(project, "head", "node1")
        assert (after["head"] == before["head"], after["node1"] == before["node1"]) == (True, False)
        ended = next(number for number, one in enumerate(run.events) if one.get("task") == "verify:ci")
        (frozen,) = (number for number, one in enumerate(run.events) if "ci: frozen in " in one.get("text", ""))
        assert ended < frozen, "nobody waits for the verdict"
        yield project
    finally:
        assert project.doit("stop:ci").status == 0
        assert processes_of(project.own / "run" / "ci") == []
        cleared = project.run(project.command("gc", "--limit", "1"))  # of gigabytes that no other test needs
        assert cleared.returncode == 0, cleared.stderr
        project.remove()


def test_the_verdict_is_told_in_every_form(running: Checkout) -> None:
    reports = running.own / "reports" / "ci"
    verdict = json.loads((reports / "verdict.json").read_text())
    assert verdict["outcome"] == "passed"
    names = {result["name"] for result in verdict["results"]}
    assert {
        "ping",
        "ssh",
        "partitions",
        "file systems",
        "swap",
        "packages",
        "disk files",
        "image files",
        "services",
        "clock",
    } <= names
    for opkg in ("slurm", "openmpi", "ganglia", "c3", "munge", "ntpconfig"):
        assert any(name.startswith(f"opkg {opkg} test_") for name in names), opkg
    suite = ET.parse(reports / "junit.xml").getroot()
    assert int(suite.get("tests", 0)) == len(verdict["results"])
    assert "<svg" in (reports / "report.html").read_text()


def test_a_second_run_has_nothing_to_do(running: Checkout) -> None:
    again = running.doit("cluster:ci")
    assert again.status == 0, again.output
    assert set(again.results().values()) == {"reused"}, again.results()


def test_machines_carry_what_they_were_made_from(running: Checkout) -> None:
    namespace = (running.own / "run/ci/init.pid").read_text().split()[0]
    uri = f"qemu+unix:///system?socket=/proc/{namespace}/root/run/libvirt/libvirt-sock"
    dumped = running.run(["virsh", "--connect", uri, "dumpxml", "ci-node2"]).stdout
    marks = {
        mark.get("role"): mark.get("digest") for mark in ET.fromstring(dumped).iter("{urn:xen-oscar:domain:1}artifact")
    }
    manifest = json.loads((running.own / "ci/image/manifest.json").read_text())
    assert marks["image"] == manifest["digest"]


def test_what_is_on_a_disk_that_is_kept_stays_when_its_machine_is_started_anew(running: Checkout) -> None:
    """`test_data_disks.py` starts whole clusters anew."""
    look = "md5sum --check --quiet /root/sum && blockdev --getsize64 /dev/disk/by-id/virtio-scratch"
    seen = running.run(running.command("ssh", "ci", "node1", "--", look))
    assert (seen.returncode, seen.stdout.strip()) == (0, str(8 << 20)), seen.stderr
    said = running.run(running.command("ssh", "ci", "node1", "--", "cat /root/sum")).stdout
    kept = running.own / "kept/ci/node1.data.img"
    assert hashlib.md5(kept.read_bytes()).hexdigest() == said.split()[0], "that file is the disk"


def test_people_reach_the_machines(running: Checkout) -> None:
    head = running.run(running.command("ssh", "ci", "--", "hostname"))
    assert head.stdout.strip() == "head", head.stderr
    node = running.run(running.command("ssh", "ci", "node2", "--", "uname", "-n"))
    assert node.stdout.strip() == "node2", node.stderr
    status = running.run(running.command("status"))
    assert "ci: running; artifacts ready; passed" in status.stdout
    text = running.run(running.command("ssh", "ci", "node1", "--", "echo one; echo two | tr a-z A-Z"))
    assert text.stdout == "one\nTWO\n"
    wrong = running.run(running.command("ssh", "ci", "nod2"))
    assert wrong.returncode == 3 and "did you mean node2" in wrong.stderr


def test_a_package_under_test_is_on_every_machine(running: Checkout) -> None:
    for machine in ("head", "node1"):
        seen = running.run(running.command("ssh", "ci", machine, "--", "dpkg-query --show probe; cat /usr/share/probe"))
        assert seen.stdout.split() == ["probe", "1.0", "1.0"], seen.stderr


def test_files_of_all_kinds_are_on_every_machine(running: Checkout) -> None:
    """That they are what they were, the verdict has said; here only that they are there."""
    look = (
        "cd /usr/share/odd && stat -c %a setuid pipe names/-rf /etc/systemd/network && stat -c %h one && "
        'cat \'names/new\nline\' && ls names | wc -l && perl -e \'@a = ("capable", "security.capability", '
        '" " x 20); syscall 191, @a, 20; print unpack("H*", $a[2]), "\\n"\' && stat -c %b holes'
    )
    for machine in ("head", "node1"):
        seen = running.run(running.command("ssh", "ci", machine, "--", look)).stdout.splitlines()
        assert seen[:5] == ["4755", "622", "644", "2775", "3"]
        assert seen[5:7] == ["content of new", "line"]
        assert seen[8] == "0100000200200000000000000000000000000000"
        assert int(seen[9]) < 100, "twenty megabytes of which nearly all is nowhere"


def test_a_console_answers_and_is_kept(running: Checkout) -> None:
    typed = shlex.join(running.command("console", "ci", "node1"))
    with subprocess.Popen(
        ["script", "--quiet", "--command", typed, "/dev/null"],
        cwd=running.folder,
        env=running.env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as console:
        assert console.stdin and console.stdout
        seen, deadline = b"", time.monotonic() + 120
        while b"seen-42" not in seen and time.monotonic() < deadline:
            # what is typed before virsh has the terminal is lost, so type until there is an answer
            console.stdin.write(b"echo seen-$((6*7))\n")
            console.stdin.flush()
            if select.select([console.stdout], [], [], 5)[0]:
                seen += os.read(console.stdout.fileno(), 4096)
        console.stdin.write(b"\x1d")
        console.stdin.close()
        console.terminate()
    assert b"seen-42" in seen
    assert "seen-42" in (running.own / "run/ci/console/node1.log").read_text(errors="replace")


def test_a_disk_can_be_inspected_while_its_machine_runs(running: Checkout) -> None:
    seen = running.run(running.command("inspect", "ci", "node1"), timeout=900)
    assert seen.returncode == 0, seen.stderr
    assert "/dev/sda1" in seen.stdout and "swap" in seen.stdout
    assert "host name node1" in seen.stdout
    assert "--- /etc/fstab" in seen.stdout
    assert "(node1 is running or paused: its disk changes meanwhile" in seen.stdout


def test_machines_stop_and_come_back(running: Checkout) -> None:
    """By the real commands, with a system that heeds the power button; what has been installed stays installed."""

    def vm(*words: str) -> list[str]:
        done = running.run(running.command("vm", *words), timeout=900)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    names = ["head", "node1", "node2"]
    before = boot_ids(running, *names)
    assert vm("save", "ci") == [f"{name}: saved" for name in names]
    assert [line.split()[1:3] for line in vm("list", "ci")] == [[name, "saved"] for name in names]
    acted = doing(running.doit("cluster:ci"))
    assert acted == {"boot:ci": "head to be restored", "start:ci": "node1, node2 to be restored"}
    assert boot_ids(running, *names) == before, "they went on where they were"
    assert doing(running.doit("cluster:ci")) == {}

    vm("pause", "ci", "node2")
    assert vm("stop", "ci", "node1", "head") == ["node1: off", "head: off"]
    assert vm("start", "ci", "node1", "--no-wait") == ["node1: started"]
    acted = doing(running.doit("cluster:ci"))
    assert acted.pop("boot:ci") == "head to be started"
    # node1 boots beside the head node, and may get there first
    assert acted in ({"start:ci": "node1 to be waited for; node2 to be resumed"}, {"start:ci": "node2 to be resumed"})
    after = boot_ids(running, *names)
    assert {name: before[name] == after[name] for name in names} == {"head": False, "node1": False, "node2": True}


def test_a_node_is_installed_anew_while_the_others_run_on(running: Checkout) -> None:
    def install(*words: str) -> tuple[int, str]:
        done = running.run(running.command("vm", "install", *words))
        return done.returncode, done.stdout + done.stderr

    for words, status, said in (
        (("ci",), 2, "which machines?"),
        (("ci", "node2", "head"), 4, "head is the head node, which is not installed over the network"),
        (("ci", "--membership", "nas"), 3, "there is no membership of ci 'nas'"),
    ):
        got, told = install(*words)
        assert (got, said in told) == (status, True), told
    before = boot_ids(running, "head", "node1", "node2")
    running.ssh("ci", "node2", "touch /was-here")
    status, told = install("ci", "node[2]")
    assert status == 0 and "node2: installed anew, and ready" in told, told
    after = boot_ids(running, *before)
    assert {name for name in before if before[name] != after[name]} == {"node2"}
    assert "Success" in running.ssh("ci", "node2", "ls /was-here || munge -n | ssh head unmunge"), "it is new"
    assert doing(running.doit("cluster:ci")) == {}, "and as the recipe has it"


#: What of a machine is another machine's as well only where it should be the same.
LOOK = (
    "cat /etc/machine-id /proc/sys/kernel/random/uuid && cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub && "
    "md5sum < /etc/munge/munge.key && md5sum < /root/.ssh/id_ed25519"
)
#: From the head node to a node and back: host keys, keys of accounts, and the secret that both share.
ROUND = "ssh -o BatchMode=yes node1 'cat /run/mark; md5sum --check --quiet /root/sum' && munge -n | ssh node2 unmunge"


def said_by(project: Checkout, *words: str, status: int = 0) -> str:
    done = project.run(project.command(*words), timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_cluster_is_frozen_by_itself_only_by_the_run_that_has_verified_it(running: Checkout) -> None:
    """People have worked on it since: what it is now is what they ask for, if they do."""
    folder = running.own / "frozen/ci"
    made = folder.stat()
    assert doing(running.doit("cluster:ci")) == {}
    assert folder.stat() == made
    shutil.rmtree(folder)
    assert doing(running.doit("cluster:ci")) == {}
    assert not folder.exists()
    said_by(running, "freeze", "ci")
    assert folder.is_dir()


def test_machines_go_on_when_freezing_is_interrupted(running: Checkout) -> None:
    """And what was frozen before is still there."""
    life = acts.lifecycle_of(running, "ci")
    names = ["head", "node1", "node2"]
    before, folder = boot_ids(running, *names), running.own / "frozen/ci"
    with subprocess.Popen(
        running.command("freeze", "ci"),
        cwd=running.folder,
        env=running.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as freezing:
        while not list(folder.with_name(".ci.new").glob("ram/*")):
            assert freezing.poll() is None
        assert set(life.states().values()) == {"paused"}
        freezing.send_signal(signal.SIGINT)
        told = freezing.communicate(timeout=120)[0].decode()
    assert freezing.returncode == 130 and "Traceback" not in told, told
    assert set(life.states().values()) == {"running"}
    assert folder.exists() and not folder.with_name(".ci.new").exists()
    assert boot_ids(running, *names) == before
    running.ssh("ci", "node1", "! kill -0 $(cat /run/oscar-become.pid) 2>/dev/null")
    # QEMU's own idea of what belongs to a machine's state is what it was
    assert said_by(running, "vm", "save", "ci", "node1") == "node1: saved\n"
    assert said_by(running, "vm", "restore", "ci", "node1") == "node1: restored\n"
    assert boot_ids(running, "node1")["node1"] == before["node1"]


def test_copies_of_a_frozen_cluster_know_nothing_of_each_other(running: Checkout) -> None:
    def doit(*words: str, status: int = 0) -> str:
        return said_by(running, *words, status=status)

    before = boot_ids(running, "head", "node1")
    assert "ci: frozen in " in doit("freeze", "ci")
    folder = running.own / "frozen/ci"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.parent.glob("*") if path.is_dir()] == ["ci"]
    assert boot_ids(running, "head", "node1") == before, "it ran on"

    (first,) = json.loads(doit("thaw", "ci", "--json"))
    assert (first["cluster"], first["copy_of"]) == ("ci-1", "ci")
    doit("thaw", "ci", "--as", "night")
    assert "night runs already" in doit("thaw", "ci", "--as", "night", status=4)
    clusters = ("ci", "ci-1", "night")
    looked = {name: running.ssh(name, "head", LOOK).split() for name in clusters}
    for what in zip(*looked.values(), strict=True):
        assert what == ("-",) * 3 or len(set(what)) == 3, looked
    for name in clusters:
        running.ssh(name, "node1", f"echo {name} > /run/mark")
        drift = int(running.ssh(name, "node2", "date +%s")) - time.time()
        assert abs(drift) < 60, drift
    for name in clusters:
        said = running.ssh(name, "head", ROUND)
        assert said.splitlines()[0] == name and "Success" in said
    credential = running.ssh("ci-1", "head", "munge -n").strip()
    seen = running.run(running.command("ssh", "night", "node1", "--", f"echo {credential} | unmunge"))
    assert seen.returncode != 0 and "Invalid credential" in seen.stderr, "its munged has another key, too"
    assert "night: running; a copy of ci" in doit("status")

    assert doit("vm", "save", "ci-1", "node1") == "node1: saved\n"
    assert doit("vm", "restore", "ci-1", "node1") == "node1: restored\n"
    doit("stop:ci-1")
    assert not (running.own / "run/ci-1").exists()
    assert "night\n" in running.ssh("night", "head", ROUND)
    doit("stop:night")
    assert processes_of(running.own / "run" / "night") == []
    assert doit("test", "ci", "--", "hostname; exit 7", status=7).splitlines()[0] == "head"
    assert [path.name for path in (running.own / "run").glob("[!.]*")] == ["ci"]


def test_a_copy_that_would_not_be_right_is_of_the_cluster_frozen_anew(running: Checkout) -> None:
    """It runs, so nothing is booted for that, and it runs on."""
    record = running.own / "frozen/ci/record.json"
    before, then = boot_ids(running, "head", "node1"), json.loads(record.read_text())
    record.write_text(json.dumps({**then, "here": {**then["here"], "QEMU": "of old"}}))
    done = running.run(running.command("thaw", "ci", "--json"))
    (copy,) = json.loads(done.stdout)
    told = done.stderr.splitlines()[0]
    assert (copy["copy_of"], told) == (
        "ci",
        f"ci: frozen as it runs first: what is frozen does not fit: QEMU is {then['here']['QEMU']}, and was of old",
    )
    said_by(running, f"stop:{copy['cluster']}")
    shutil.rmtree(record.parent)
    done = running.run(running.command("test", "ci", "--", "hostname"))
    assert (done.returncode, done.stdout) == (0, "head\n"), done.stderr
    assert done.stderr.startswith("ci: frozen as it runs first: it has not been frozen\n")
    assert boot_ids(running, "head", "node1") == before


def doing(run: Run) -> dict[str, str]:
    """The tasks that had something to do, and why."""
    assert run.status == 0, run.output
    reasons = {event["task"]: event["text"] for event in run.events if event["event"] == "reason"}
    return {task: reasons[task] for task, result in run.results().items() if result != "reused"}


@pytest.fixture(scope="module")
def other(running: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Another checkout with the same artifacts, and a cluster `ci` of its own whose node has too small a disk."""
    made = checkout.copy(tmp_path_factory.mktemp("other") / "project", running.artifacts)
    made.write_cluster("ci", CLUSTER + '[compute]\ncount = 1\nfilesystems = [{ mount = "/", size = "150M" }]\n')
    built = made.doit("disk:ci/head", "disk:ci/node1", "image:ci", "definition:ci/*")
    assert built.status == 0, built.output
    kinds = {task.partition(":")[0] for task in built.built}
    assert kinds <= {"opkgs", "disk", "diskbase", "image", "imagebase", "definition"}, "what both are made of was there"
    try:
        yield made
    finally:
        assert made.doit("stop:ci").status == 0
        assert processes_of(made.own / "run" / "ci") == []
        made.remove()


def test_kill_9_while_a_cluster_comes_up_leaves_nothing(other: Checkout) -> None:
    with subprocess.Popen(
        other.command("--json", "boot:ci"), cwd=other.folder, env=other.env(), stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        for line in run.stdout:
            if ('"boot:ci"' in line and "running" in line) or "accelerat" in line or "emulated" in line:
                break
        namespace = None
        while namespace is None and run.poll() is None:
            try:
                namespace = int((other.own / "run/ci/init.pid").read_text().split()[0])
            except (FileNotFoundError, IndexError):
                continue
        assert namespace is not None
        ended = os.pidfd_open(namespace)
        run.send_signal(signal.SIGKILL)
    assert select.select([ended], [], [], 60)[0], "the namespace outlived the run"
    os.close(ended)
    assert processes_of(other.own / "run" / "ci") == []


def test_another_checkout_has_a_cluster_of_the_same_name(running: Checkout, other: Checkout) -> None:
    """From the same store and at the same time; neither sees or ends the other's."""
    booted = other.doit("boot:ci")
    assert booted.status == 0, booted.output
    listed = other.run(other.command("vm", "list", "ci")).stdout.splitlines()
    assert [line.split()[1:3] for line in listed] == [["head", "running"]]
    assert "ci: running" in other.run(other.command("status")).stdout
    ours, theirs = (
        one.run(one.command("ssh", "ci", "--", "cat", "/etc/oscar/nodes", "/etc/machine-id"))
        for one in (running, other)
    )
    assert "node2" in ours.stdout and "node2" not in theirs.stdout
    assert ours.stdout.splitlines()[-1] != theirs.stdout.splitlines()[-1]


def test_a_node_whose_disk_is_too_small_fails_with_reason_and_leaves_nothing(
    running: Checkout, other: Checkout
) -> None:
    run = other.doit("start:ci")
    assert run.status == 1
    assert "node1 (install/image)" in run.output
    assert "No space left" in run.output
    assert "doit inspect ci node1" in run.output
    assert "Traceback" not in run.output
    assert processes_of(other.own / "run" / "ci") == []
    assert doing(running.doit("cluster:ci")) == {}, "the other one of its name is as it was"


def test_no_artifact_log_or_report_holds_a_secret(running: Checkout) -> None:
    identity = running.own / "identity" / "ci"
    keys = [identity / "person/id_ed25519", identity / "machines/node1/etc/ssh/ssh_host_ed25519_key"]
    # the first line of a key is the same in all of them, the second one is not all secret yet
    secret = identity / "secrets/etc/munge/munge.key"
    needles = [secret.read_bytes()[:24], *(path.read_bytes().splitlines()[3] for path in keys)]
    for name in ("image", "disk-head", "headnode", "opkgs-head"):
        for file in (running.own / "ci" / name / "files").iterdir():
            assert not any(needle in file.read_bytes() for needle in needles), file
    for folder in ("reports/ci", "logs"):
        for file in (running.own / folder).rglob("*"):
            assert not (file.is_file() and any(needle in file.read_bytes() for needle in needles)), file


def test_a_changed_file_of_an_opkg_rebuilds_only_what_depends_on_it(running: Checkout) -> None:
    script = running.folder / "recipes/opkgs/ganglia/files/server/etc/oscar-test"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("changed\n")
    why = running.run(running.command("why", "cluster:ci"))
    assert "opkgs:ci/head: opkgs/ganglia/files/server/etc/oscar-test is new" in why.stdout
    try:
        run = running.doit("disk:ci/head", "headnode:ci", "image:ci")
        assert run.status == 0, run.output
        assert run.built == {"opkgs:ci/head", "disk:ci/head", "headnode:ci"}
    finally:
        shutil.rmtree(running.folder / "recipes/opkgs/ganglia/files/server")  # an empty folder would be kept
    back = running.doit("disk:ci/head", "headnode:ci", "image:ci")
    assert set(back.results().values()) == {"reused"}


def test_a_comment_in_a_script_stops_where_the_output_is_the_same(running: Checkout) -> None:
    script = running.folder / "recipes/opkgs/ntpconfig/scripts/client-post-install"
    before = script.read_text()
    script.write_text(before + "# the same in the end\n")
    try:
        run = running.doit("image:ci")
        assert run.status == 0, run.output
        assert run.built == {"opkgs:ci/compute"}
    finally:
        script.write_text(before)


def test_a_new_version_of_a_package_under_test_rebuilds_no_distribution_package(running: Checkout) -> None:
    write_ci(running, "1.1")
    try:
        run = running.doit("disk:ci/head", "headnode:ci", "image:ci")
        assert run.status == 0, run.output
        assert run.built == {
            "localpackages:ci/head",
            "localpackages:ci/compute",
            "opkgs:ci/head",
            "opkgs:ci/compute",
            "disk:ci/head",
            "headnode:ci",
            "image:ci",
        }
        assert_saved_memory_is_not_given_up(running)
    finally:
        write_ci(running, "1.0")
    assert doing(running.doit("start:ci")) == {"start:ci": "node1 to be restored"}


def assert_saved_memory_is_not_given_up(running: Checkout) -> None:
    """Where nobody can be asked, a cluster of older artifacts is left alone if a machine of it is saved."""
    saved = running.run(running.command("vm", "save", "ci", "node1"), timeout=900)
    assert saved.returncode == 0, saved.stderr
    refused = running.doit("boot:ci")
    assert refused.status == 1
    (failed,) = (event for event in refused.events if event["event"] == "failed")
    assert "the saved memory of node1 would be lost" in failed["message"]
    assert "head is made of older artifacts: " in failed["message"]
    assert "node1, node2 are made of older artifacts: " in failed["message"]
    assert "--yes" in failed["hint"]
    listed = running.run(running.command("vm", "list", "ci")).stdout.splitlines()
    assert [line.split()[1:3] for line in listed] == [["head", "running"], ["node1", "saved"], ["node2", "running"]]


def test_links_that_an_opkg_makes_lead_nowhere_outside(running: Checkout) -> None:
    with hostile.outside(running, "debian12") as outside:
        outside.assert_untouched()


def test_what_is_built_again_is_bit_identical(running: Checkout) -> None:
    """The engine compares: a forced rebuild that comes out different fails.

    What an ordinary user's builds are compared with (`test_ordinary_user`) is not built here for a third time.
    """
    for task in (
        "packages:ci/head",
        "packages:ci/compute",
        "localpackages:ci/head",
        "opkgs:ci/head",
        "opkgs:ci/compute",
        "toolroot:amd64",
    ):
        run = running.doit("--always-execute", "--single", task)
        assert run.status == 0, run.output
        assert run.built == {task}


def test_a_node_that_leaves_the_recipe_is_taken_away_and_the_others_run_on(running: Checkout) -> None:
    before = boot_ids(running, "head", "node1")
    write_ci(running, "1.0", ONE_LEFT)
    run = running.doit("start:ci")
    assert run.status == 0, run.output
    assert doing(run)["boot:ci"] == "node2 to be taken away"
    listed = running.run(running.command("vm", "list", "ci"))
    assert [line.split()[1] for line in listed.stdout.splitlines()] == ["head", "node1"], listed.stdout
    what = (
        ". /etc/oscar/cluster.sh; echo $OSCAR_NODES; cut -d ' ' -f 1 /etc/oscar/nodes; "
        "grep -c NodeName= /etc/slurm/slurm.conf"
    )
    for machine in ("head", "node1"):
        known = running.run(running.command("ssh", "ci", machine, "--", what))
        assert known.stdout.split() == ["node1", "node1", "1"], known.stderr
    assert boot_ids(running, "head", "node1") == before
    assert not (running.own / "run/ci/disks/node2.qcow2").exists()


def test_an_opkg_comes_to_machines_that_run_and_goes_again(running: Checkout) -> None:
    """Last, for such a cluster is not that of its recipe any more."""

    def opkg(*words: str, status: int = 0) -> str:
        done = running.run(running.command("opkg", *words), timeout=900)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def on(machine: str, command: str) -> str:
        return running.run(running.command("ssh", "ci", machine, "--", command)).stdout

    motd = on("node1", "cat /etc/motd")
    latecomers.write(running.folder / "recipes/opkgs")
    told = opkg("install", "ci", "late")
    assert "ci: OPKG early comes along: late -> early\n" in told
    assert "compute nodes: OPKG early: packages hello " in told
    assert "node1: late.service started\n" in told
    assert "api-post-image of OPKG late was left out" in told
    assert on("node1", "cat /etc/motd /run/late") == "Late.\nHello, world!\n"
    assert "OPKG early, late: added while it ran" in running.run(running.command("status")).stdout
    assert "OPKG early is required: late -> early" in opkg("remove", "ci", "early", status=4)

    opkg("remove", "ci", "late", "early")
    assert on("node1", "cat /etc/motd; ls /usr/bin/hello /etc/late.conf /usr/lib/oscar 2>/dev/null") == motd
    ran = [line.split()[0] for line in on("head", "cat /root/late").splitlines()]
    before = ["api-pre-install", "api-pre-configure", "api-post-configure", "server-post-install"]
    after = ["api-pre-uninstall", "server-pre-uninstall", "server-post-uninstall", "api-post-uninstall"]
    assert ran == [*before, "api-post-clientdef", "api-post-deploy", *after]
    home = "/usr/lib/oscar/packages/late"
    assert on("node1", "cat /root/late").splitlines() == [
        f"client-post-install compute {home} late",
        f"client-pre-uninstall compute {home} late",
        f"client-post-uninstall compute {home} ",
    ]
    assert "OPKG late is not there: nothing to remove" in opkg("remove", "ci", "late")


def try_it(project: Checkout, *words: str, status: int = 0) -> str:
    done = project.run(project.command("try", "ci", *words), timeout=900)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def verdicts(project: Checkout) -> set[Path]:
    """Those that are kept."""
    manifests = (project.artifacts / "store").glob("*/manifest.json")
    return {file for file in manifests if json.loads(file.read_text()).get("kind") == "verify"}


#: All that is kept of what was tried.
TRIED = (
    "cd /etc && stat -c 'etc/%n %F %a %u %g %Y %s' tried* tried/* && md5sum tried/* tried-by-script && "
    "readlink tried-link"
)


def seen_on(project: Checkout, machine: str, command: str = TRIED) -> str:
    seen = project.run(project.command("ssh", "ci", machine, "--", command))
    assert seen.returncode == 0, seen.stderr
    return seen.stdout


def test_a_change_of_an_opkg_is_tried_in_place(running: Checkout) -> None:
    """After all that wants machines as their recipe has them."""
    odd = running.folder / "recipes/opkgs/odd"
    before, ids = verdicts(running), boot_ids(running, "head", "node1")
    file = odd / "files/common/etc/tried/file"
    file.parent.mkdir(parents=True)
    file.write_text("one\n")
    (file.parents[1] / "tried-link").symlink_to("tried/file")
    for phase in ("server-post-install", "client-post-install"):
        (odd / "scripts" / phase).write_text(f"{MAKE_ODD}echo script >/etc/tried-by-script\nchmod 2751 /etc/tried\n")
    told = try_it(running)
    assert "tried in place, not installed: OPKG odd: all is well" in told
    for machine, check in (("head", "disk files"), ("node1", "image files")):
        assert f"{machine}: {check}: passed" in told
        assert "etc/tried directory 2751 0 0" in seen_on(running, machine)
        assert seen_on(running, machine, "cat /etc/tried-link /etc/tried-by-script") == "one\nscript\n"
    assert "nothing has changed" in try_it(running)

    file.write_text("two\n")
    rows = json.loads(try_it(running, "odd", "--json"))
    brought = {row["machine"]: row["what"] for row in rows if row["what"].startswith("files brought")}
    assert brought["node1"] == "files brought: /etc/tried/file", "only what has changed"
    assert boot_ids(running, "head", "node1") == ids
    assert "OPKG odd: tried in place, not installed" in running.run(running.command("status")).stdout
    assert verdicts(running) == before


def test_a_new_version_of_a_package_under_test_is_tried_in_place(running: Checkout) -> None:
    write_ci(running, "1.2", ONE_LEFT)
    try:
        told = try_it(running)
        assert "tried in place, not installed: package probe: all is well" in told
        for machine in ("head", "node1"):
            command = (
                "cat /usr/share/probe; echo; dpkg-query --showformat '${Version}' --show probe; dpkg --verify probe"
            )
            assert seen_on(running, machine, command).split() == ["1.2", "1.2"]
    finally:
        write_ci(running, "1.0", ONE_LEFT)
    assert "package probe: all is well" in try_it(running)
    assert seen_on(running, "node1", "cat /usr/share/probe") == "1.0"


def test_what_cannot_be_tried_is_told_and_nothing_is_touched(running: Checkout) -> None:
    folder = running.folder / "recipes/opkgs/odd/files/server/boot"
    folder.mkdir(parents=True)
    (folder / "vmlinuz-own").write_text("no kernel\n")
    try:
        assert "/boot/vmlinuz-own: what machines boot by" in try_it(running, status=4)
    finally:
        shutil.rmtree(folder.parent)
    recipe = running.folder / "recipes/clusters/ci.toml"
    recipe.write_text(recipe.read_text().replace("compute = [", "compute = [] # ["))
    try:
        told = try_it(running, status=4)
        assert "package probe: no longer under test" in told
        assert "hint: doit cluster:ci" in told
        write_ci(running, "1.0", MORE.replace("count = 2", "count = 3"))
        assert "its recipe has other nodes by now" in try_it(running, status=4)
    finally:
        write_ci(running, "1.0", ONE_LEFT)
    assert "ls: " in seen_on(running, "head", "ls /boot/vmlinuz-own 2>&1 || :")


def test_a_try_that_fails_is_told_with_its_log_and_mended_by_the_next(running: Checkout) -> None:
    script = running.folder / "recipes/opkgs/odd/scripts/api-post-deploy"
    script.write_text("#!/bin/sh\necho what went wrong\nexit 3\n")
    script.chmod(0o755)
    told = try_it(running, status=1)
    assert "api-post-deploy of OPKG odd ended with status 3" in told and "what went wrong" in told
    assert str(running.own / "run/ci/opkgs.log") in told
    assert "(odd: without a good end)" in running.run(running.command("status")).stdout
    script.write_text("#!/bin/sh\necho $OSCAR_MEMBERSHIP >/root/deployed\n")
    assert "all is well" in try_it(running)
    assert seen_on(running, "head", "cat /root/deployed") == "head\n"


@pytest.mark.skipif(
    os.environ.get("XEN_OSCAR_LONG_TESTS") != "1", reason="installs a cluster anew: XEN_OSCAR_LONG_TESTS=1"
)
def test_an_installation_brings_what_was_tried_bit_for_bit(running: Checkout) -> None:
    before = {machine: seen_on(running, machine) for machine in ("head", "node1")}
    run = running.doit("start:ci")
    assert doing(run)["boot:ci"].endswith("OPKG odd: tried in place, not installed")
    assert {machine: seen_on(running, machine) for machine in before} == before
    assert "tried" not in running.run(running.command("status")).stdout


@pytest.mark.skipif(
    os.environ.get("XEN_OSCAR_LONG_TESTS") != "1", reason="installs a cluster anew: XEN_OSCAR_LONG_TESTS=1"
)
def test_one_that_is_neither_frozen_nor_up_is_booted_for_that_and_ended(running: Checkout) -> None:
    running.doit("stop:ci")
    shutil.rmtree(running.own / "frozen/ci", ignore_errors=True)
    done = running.run(running.command("test", "ci", "--", "hostname"))
    assert (done.returncode, done.stdout) == (0, "head\n"), done.stderr
    assert done.stderr.startswith("ci: booted cold and frozen first: it has not been frozen\n")
    assert "ci: not running" in said_by(running, "status")
    assert "after" in said_by(running, "thaw", "ci", "--as", "last")
    said_by(running, "stop:last")
