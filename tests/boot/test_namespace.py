"""A cluster's namespaces and what runs in them, for real: daemons, bridges, machines, and that nothing is left.

Runs the same as root and as an ordinary user with ranges in /etc/subuid; nothing in here knows which of them it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import sandbox
from pipeline.description import Cluster, Network
from pipeline.drivers import engines, libvirt_xml, site
from pipeline.drivers.domain import Domain, Kernel
from pipeline.errors import ClusterError, UserError
from pipeline.hosts import namespace
from pipeline.hosts.namespace import Namespace
from pipeline.virt import accelerator, disks, logs, power
from pipeline.virt.connection import Connection, connect
from pipeline.virt.watch import Progress, Signal, watch
from tests.boot import tiny
from tests.samples import cluster

pytestmark = pytest.mark.boot

#: Emulated machines on a busy host: far above what they need (about 3 s).
PATIENCE = 120
KERNEL = accelerator.host_kernel()


#: Enough for a kernel and busybox.
MEMORY_MIB = 160


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def ramdisk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder that the machines see, with their kernel and an empty disk."""
    assert KERNEL is not None
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copyfile(KERNEL, folder / "kernel")
    disks.blank(folder / "empty.img", 64)
    return tiny.ramdisk(KERNEL, folder)


@pytest.fixture
def running(tmp_path: Path, cache: Path, ramdisk: Path) -> Iterator[Namespace]:
    run_dir = tmp_path / "run" / "one"
    yield namespace.start(run_dir, cluster("one").networks, cache=cache, store=ramdisk.parent)
    namespace.stop(run_dir)


@pytest.fixture
def connection(running: Namespace) -> Iterator[Connection]:
    with connect(running.libvirt_uri) as opened:
        yield opened


class Lab:
    """Starts tiny machines in a cluster; `described` is what it is, if not what all samples are."""

    def __init__(
        self, running: Namespace, connection: Connection, ramdisk: Path, described: Cluster | None = None
    ) -> None:
        self.running = running
        self.connection = connection
        self.ramdisk = ramdisk
        self.described = described
        self.folder = running.run_dir / "disks"
        self.empty = ramdisk.parent / "empty.img"
        disks.blank(self.folder / "identity.img", 1)
        disks.overlay(self.empty, self.folder / "sis.qcow2")

    def domain(self, node: str, act: str) -> Domain:
        description = self.described or cluster(self.running.cluster, memory_mib=MEMORY_MIB)
        model = engines.domain_of(description.name, description.architecture, description.machine(node), site.PRIVATE)
        card = description.machine(node).interfaces[0]
        arguments = f"console=ttyS0 panic=0 net.ifnames=0 act={act} address={card.address}/{card.prefix}"
        kernel = Kernel(str(self.ramdisk.with_name("kernel")), str(self.ramdisk), arguments)
        return dataclasses.replace(model, kernel=kernel)

    def start(self, node: str, act: str) -> None:
        disks.overlay(self.empty, self.folder / f"{node}.qcow2")
        definition = libvirt_xml.for_start(libvirt_xml.render(self.domain(node, act)), "tcg", [("disk", "sha256:0")])
        power.start(self.connection, definition, report=self.running.run_dir / "report" / node)


@pytest.fixture
def lab(running: Namespace, connection: Connection, ramdisk: Path) -> Lab:
    return Lab(running, connection, ramdisk)


def processes_of(running: Namespace) -> set[int]:
    """Everything that shares the cluster's network namespace."""
    mine = Path(f"/proc/{running.pid}/ns/net").stat().st_ino
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "ns/net").stat().st_ino == mine:
                found.add(int(path.name))
        except OSError:
            continue
    return found


def wait_gone(pids: set[int], within: float = 20) -> None:
    deadline = time.monotonic() + within
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0], f"{pid} still runs"
        os.close(descriptor)


def called_with(word: str) -> set[int]:
    """The processes that have it on their command lines."""
    found = set()
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in line.read_bytes().split(b"\0"):
                found.add(int(line.parent.name))
    return found


def fill(pipe: int) -> None:
    """Write into a pipe until whoever writes next has to wait for its reader."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, b"\n" * 4096)
    os.set_blocking(pipe, True)


@pytest.mark.parametrize("killed", ["holding", "later"])
def test_lease_ends_the_cluster_of_a_run_that_is_killed(tmp_path: Path, cache: Path, killed: str) -> None:
    run_dir = tmp_path / "run" / "one"
    script = """
import os, signal, sys
from pathlib import Path
from pipeline.hosts import namespace

run_dir, cache, killed = sys.argv[1:]
with namespace.lease(Path(run_dir)):
    namespace.start(Path(run_dir), (), cache=Path(cache))
    if killed == "holding":
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script, run_dir, cache, killed], timeout=60, check=False)
    running = namespace.alive(run_dir)
    try:
        if killed == "later":
            assert running, "the run had brought the cluster up, and it should have stayed"
        elif running:
            with contextlib.suppress(ProcessLookupError):
                ended = running.pidfd()
                assert select.select([ended], [], [], 30)[0], "the cluster outlived the run"
                os.close(ended)
    finally:
        namespace.stop(run_dir)


def test_starts_in_no_time_and_ends_without_a_trace(tmp_path: Path, cache: Path) -> None:
    run_dir = tmp_path / "run" / "one"
    assert namespace.alive(run_dir) is None
    assert namespace.stop(run_dir) is False
    running = namespace.start(run_dir, cluster("one").networks, cache=cache)
    try:
        assert namespace.alive(run_dir) == running
        assert run_dir.stat().st_mode & 0o077 == 0
        addresses = subprocess.run(
            running.command(["ip", "-4", "-brief", "address"]), capture_output=True, text=True, check=True
        ).stdout
        assert "10.4.0.1/24" in addresses
        links = subprocess.run(running.command(["ip", "-brief", "link"]), capture_output=True, text=True, check=True)
        assert {line.split()[0] for line in links.stdout.splitlines()} == {"lo", "public", "private"}
        with pytest.raises(ClusterError, match="already runs"):
            namespace.start(run_dir, (), cache=cache)
        inside = processes_of(running)
        assert len(inside) >= 3
    finally:
        assert namespace.stop(run_dir) is True
    wait_gone(inside, within=0.5)
    assert namespace.alive(run_dir) is None
    assert "run/one" not in Path("/proc/self/mountinfo").read_text()


def test_stopping_ends_what_has_entered_the_network_from_outside(running: Namespace) -> None:
    """As the way of an ssh connection does: it would keep the bridges there."""
    with subprocess.Popen(running.command(["sh", "-c", "echo in; exec sleep 1000"]), stdout=subprocess.PIPE) as visitor:
        try:
            assert visitor.stdout is not None and visitor.stdout.readline() == b"in\n"
            assert visitor.pid in processes_of(running)
            inside = processes_of(running)
            assert namespace.stop(running.run_dir)
            wait_gone(inside, within=0.5)
        finally:
            visitor.kill()


def test_a_killed_first_process_takes_all_with_it(running: Namespace, lab: Lab) -> None:
    with watch(running, lab.connection) as watching:
        watching.expect("head", "boot", {"READY"}, within=PATIENCE)
        lab.start("head", "ready")
        watching.wait()
        inside = processes_of(running)
        watching.expect("head", "boot", {"DONE"}, within=PATIENCE)
        os.kill(running.pid, signal.SIGKILL)
        with pytest.raises(ClusterError, match=r"ended from outside|no longer answers"):
            watching.wait()
    wait_gone(inside)
    assert namespace.alive(running.run_dir) is None


def test_two_clusters_with_the_same_addresses(running: Namespace, tmp_path: Path, cache: Path) -> None:
    other = namespace.start(tmp_path / "run" / "two", cluster("two").networks, cache=cache)
    try:
        assert other.pid != running.pid
        assert not processes_of(other) & processes_of(running)
        assert namespace.stop(running.run_dir)
        assert namespace.alive(other.run_dir) == other
    finally:
        namespace.stop(other.run_dir)


def test_the_same_cluster_twice_at_once(tmp_path: Path, cache: Path) -> None:
    run_dir = tmp_path / "run" / "one"
    outcomes: list[object] = []

    def start() -> None:
        try:
            outcomes.append(namespace.start(run_dir, cluster("one").networks, cache=cache))
        except UserError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert sum(isinstance(outcome, Namespace) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, ClusterError) for outcome in outcomes) == 3
    finally:
        assert namespace.stop(run_dir)


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    run_dir = tmp_path / "run" / "one"
    twice = Network("public", "10.4.0.0/24", "10.4.0.1")
    with pytest.raises(ClusterError, match="could not be made") as caught:
        namespace.start(run_dir, (twice, twice), cache=cache)
    assert "exists" in caught.value.tail
    assert namespace.alive(run_dir) is None
    assert namespace.start(run_dir, (twice,), cache=cache)
    assert namespace.stop(run_dir)


def test_a_start_that_nobody_waits_for_any_more_ends_itself(tmp_path: Path, cache: Path) -> None:
    """As when the whole run is killed in the middle of it."""
    run_dir = tmp_path / "run" / "one"
    run_dir.mkdir(parents=True)
    read, write = os.pipe()
    fill(write)  # so that it can't have said `ready` and be gone before it is looked for
    with namespace.lease(run_dir):
        view = namespace._view(run_dir, cache, None)
        none = str(tmp_path / "none")
        argv = [
            *sandbox.namespace(network=False, view=view, lasting=True),
            "/bin/sh",
            str(namespace._INIT),
            none,
            "public",
        ]
        with (run_dir / "namespace.log").open("wb") as log:
            subprocess.run(argv, stdout=write, stderr=log, stdin=subprocess.DEVNULL, check=True)
        deadline = time.monotonic() + 60
        while not (started := called_with(none)):  # a process that is becoming another program shows no words at all
            assert time.monotonic() < deadline
        os.close(read)
        os.close(write)
        wait_gone(started)


def test_machines_boot_talk_and_shut_down(lab: Lab) -> None:
    told: list[Progress] = []
    with watch(lab.running, lab.connection, told.append) as watching:
        for node, act in (("head", "ready"), ("node1", "install"), ("node2", "ready")):
            watching.expect(node, act, {"DONE", "STOPPED"} if act == "install" else {"READY"}, within=PATIENCE)
            lab.start(node, act)
        seen = []
        for reached in watching:
            seen.append((reached.machine, reached.phase))
            if reached.phase == "install":
                watching.expect("node1", "boot", {"READY"}, within=PATIENCE)
                lab.start("node1", "ready")
        assert sorted(seen) == [("head", "ready"), ("node1", "boot"), ("node1", "install"), ("node2", "ready")]
        spans = {(span.machine, span.phase, span.step) for span in watching.timeline}
        assert {("node1", "install", ""), ("node1", "install", "copy"), ("node1", "boot", "")} <= spans
        assert all(span.start <= span.end for span in watching.timeline)
    assert Progress("node1", "install", "copy", "files 50 %", 50) in told

    states = power.machines(lab.connection)
    assert [(state.metadata.node, state.state) for state in states] == [
        ("head", "running"),
        ("node1", "running"),
        ("node2", "running"),
    ]
    assert states[0].metadata.artifacts == (("disk", "sha256:0"),)

    console = (lab.running.run_dir / "console/head.log").read_text()
    assert "disks: root sis identity" in console
    assert "Linux version" in console
    log = (lab.running.run_dir / "console/node1.log").read_text()
    assert "act=install" in log and "act=ready" in log

    relay = lab.running.ssh_proxy_command.replace("%h", "10.4.0.2").replace("%p", "7").split()
    answer = subprocess.run(relay, input=b"across the bridge\n", capture_output=True, timeout=30, check=True)
    assert answer.stdout == b"across the bridge\n"

    attach_to_console(lab)

    # its kernel has no handler for the power button, so it has to be ended
    assert power.shut_down(lab.connection, ["one-node2"], within=1) == ["one-node2"]
    power.destroy(lab.connection, ["one-head", "one-head"])
    assert [state.state for state in power.machines(lab.connection)] == ["off", "running", "off"]


def attach_to_console(lab: Lab) -> None:
    """Type a command at the machine's console, as a person does."""
    mine, theirs = pty.openpty()
    command = power.console_command(lab.running.libvirt_uri, "one-head")
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        try:
            said = b""
            deadline = time.monotonic() + 30
            asked = 0.0
            while b"answer 42" not in said and time.monotonic() < deadline:
                if time.monotonic() > asked + 3:
                    os.write(mine, b"echo answer $((6*7))\r")
                    asked = time.monotonic()
                if select.select([mine], [], [], 1)[0]:
                    said += os.read(mine, 4096)
            assert b"answer 42" in said
            os.write(mine, b"\x1d")
            process.wait(timeout=10)
        finally:
            process.kill()
            os.close(mine)
    deadline = time.monotonic() + 5
    log = lab.running.run_dir / "console/head.log"
    while "answer 42" not in log.read_text(errors="replace"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_machine_that_prints_as_fast_as_it_can_takes_no_more_than_its_share(lab: Lab) -> None:
    """Whether or not anybody watches; and whoever watches is not kept busy."""
    folder, told = lab.running.run_dir, list[Progress]()
    with watch(lab.running, lab.connection, told.append) as watching:
        watching.expect("head", "boot", {"READY"}, within=PATIENCE)
        lab.start("head", "flood")
        watching.wait()
        watching.expect("head", "boot", {"DONE"}, within=5)
        begin, spent = time.monotonic(), time.process_time()
        with pytest.raises(ClusterError, match=r"head \(boot/flood\): not done after 5 s"):
            watching.wait()
        assert time.monotonic() - begin < 15
        assert time.process_time() - spent < 5
        assert len(told) < 200 and len(list(watching.timeline)) < 100
    paths = folder / "console/head.log", folder / "report/head"
    deadline = time.monotonic() + PATIENCE
    while not all(logs.older(path).exists() for path in paths):
        assert time.monotonic() < deadline, "it prints too slowly for this test"
        time.sleep(1)
    # whoever sets a log aside begins a new one a moment later: what was set aside is always there
    begun, deadline = logs.older(paths[1]).stat().st_ino, time.monotonic() + PATIENCE
    while logs.older(paths[1]).stat().st_ino == begun:
        assert time.monotonic() < deadline, "it does not go on"
        time.sleep(0.2)
    for path in paths:
        assert set(path.parent.glob("head*")) <= {path, logs.older(path)}
        assert logs.older(path).stat().st_size <= logs.LIMIT
        with contextlib.suppress(FileNotFoundError):
            assert path.stat().st_size <= logs.LIMIT
        data, _ = logs.last(path, 1000)
        assert b"as fast as it can" in data or b"STATUS flood" in data


@pytest.mark.parametrize(
    ("act", "signals", "message"),
    [
        ("panic", {"READY"}, r"head \(boot.*\): kernel panic: sysrq triggered crash"),
        ("fail", {"DONE", "STOPPED"}, r"head \(boot/partition\): the disk is too small"),
        ("off", {"READY"}, r"head \(boot/boot\): it powered off too early"),
        ("reboot", {"READY"}, r"head \(boot/boot\): it restarted by itself"),
    ],
)
def test_machines_that_never_get_there(lab: Lab, act: str, signals: set[Signal], message: str) -> None:
    with watch(lab.running, lab.connection) as watching:
        watching.expect("head", "boot", signals, within=PATIENCE)
        lab.start("head", act)
        with pytest.raises(ClusterError, match=message) as caught:
            watching.wait()
    assert "tiny: bold act=" in caught.value.tail
    assert "\x1b" not in caught.value.tail
    assert caught.value.log is not None


def test_a_machine_that_says_nothing_more(lab: Lab) -> None:
    def shorten(progress: Progress) -> None:
        watching.expect("head", progress.phase, {"READY"}, within=1)

    with watch(lab.running, lab.connection, shorten) as watching:
        watching.expect("head", "boot", {"READY"}, within=PATIENCE)
        lab.start("head", "hang")
        with pytest.raises(ClusterError, match=r"head \(boot\): not ready after 1 s"):
            watching.wait()


def inside(running: Namespace, *words: str) -> None:
    """Run a command where a cluster's libvirt runs."""
    subprocess.run(["nsenter", "--target", str(running.pid), "--user", "--mount", *words], check=True, timeout=30)


def test_a_machine_that_finds_no_space_is_told_at_once_and_goes_on_when_there_is(lab: Lab) -> None:
    """Where machines have their disks there is space for a few megabytes only."""
    running, folder = lab.running, f"{site.RUN}/disks"
    inside(running, "mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder)
    inside(
        running, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(lab.empty), f"{folder}/node1.qcow2"
    )
    with watch(running, lab.connection) as watching:
        watching.expect("node1", "start", {"READY"}, within=PATIENCE)
        begin = time.monotonic()
        power.start(
            lab.connection, libvirt_xml.render(lab.domain("node1", "fill")), report=running.run_dir / "report/node1"
        )
        with pytest.raises(ClusterError) as caught:
            watching.wait()
        assert time.monotonic() - begin < PATIENCE / 2
    assert caught.value.message == f"node1 (start/boot): paused: no space left on {running.run_dir}/disks"
    assert "doit gc" in caught.value.hint and "doit vm resume one node1" in caught.value.hint
    (machine,) = power.machines(lab.connection)
    assert (machine.state, machine.why) == ("paused", "no space left for its disk")

    inside(running, "mount", "-o", "remount,size=100m", folder)
    with watch(running, lab.connection) as watching:
        watching.expect("node1", "start", {"READY"}, within=PATIENCE)
        power.resume(lab.connection, "one-node1")
        watching.wait()
    (machine,) = power.machines(lab.connection)
    assert (machine.state, machine.why) == ("running", "")


def test_a_disk_and_network_with_nothing_to_boot(lab: Lab) -> None:
    definition = libvirt_xml.render(dataclasses.replace(lab.domain("node1", ""), kernel=None))
    disks.overlay(lab.empty, lab.folder / "node1.qcow2")
    with watch(lab.running, lab.connection) as watching:
        watching.expect("node1", "install", {"DONE", "STOPPED"}, within=PATIENCE)
        power.start(lab.connection, definition, report=lab.running.run_dir / "report/node1")
        with pytest.raises(ClusterError, match="neither disk nor network gave it a system"):
            watching.wait()


def test_a_libvirt_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "s"))
        deaf.listen()
        with pytest.raises(ClusterError, match="did not answer within 1 s"):
            connect(f"qemu+unix:///system?socket={tmp_path}/s", within=1)


def test_the_accelerator_is_found_by_booting_and_remembered(tmp_path: Path) -> None:
    assert KERNEL is not None
    first = accelerator.find(KERNEL, cache=tmp_path)
    begin = time.monotonic()
    assert accelerator.find(KERNEL, cache=tmp_path) == first
    assert time.monotonic() - begin < 0.5
    assert first.accelerator in ("kvm", "tcg")
