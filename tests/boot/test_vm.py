"""Machines one by one under QEMU, for real: what is paused, saved and stopped, goes on, comes back, starts anew.

Whole clusters have such tests of their own, with the real commands: `test_cluster.py`, `test_xen.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.cluster.machines import Machines
from pipeline.description import Cluster
from pipeline.errors import ClusterError
from pipeline.hosts.private import PrivatePlace
from pipeline.virt.connection import Connection
from pipeline.virt.home import Home
from pipeline.virt.watch import Watch, watch
from tests.boot import acts
from tests.boot.acts import Terminal
from tests.boot.test_namespace import (  # noqa: F401  (fixtures)
    MEMORY_MIB,
    PATIENCE,
    Lab,
    cache,
    connection,
    inside,
    lab,
    ramdisk,
    running,
)
from tests.samples import cluster

pytestmark = pytest.mark.boot


@pytest.fixture
def machines(lab: Lab) -> Machines:  # noqa: F811
    """The machines of the lab's cluster; what they run is one small Linux, ready in seconds."""

    def watcher(home: Home, connected: Connection, _phase: str) -> AbstractContextManager[Watch]:
        return watch(home, connected)

    run_dir = lab.running.run_dir
    description = cluster("one")
    return Machines(description, PrivatePlace(description, run_dir, run_dir), run_dir, contextlib.nullcontext, watcher)


def boot(lab: Lab, *names: str, act: str = "ready") -> None:  # noqa: F811
    with watch(lab.running, lab.connection) as watching:
        for name in names:
            watching.expect(name, "boot", {"READY"}, within=PATIENCE)
            lab.start(name, act)
        watching.wait()


def terminal(lab: Lab, name: str) -> Terminal:  # noqa: F811
    log = lab.running.run_dir / f"console/{name}.log"
    return Terminal(lab.connection, f"one-{name}", log, patience=PATIENCE)


def said(lab: Lab, name: str) -> list[str]:  # noqa: F811
    return (lab.running.run_dir / "report" / name).read_text().splitlines()


def echo(lab: Lab) -> bytes:  # noqa: F811
    relay = lab.running.ssh_proxy_command.replace("%h", "10.4.0.2").replace("%p", "7").split()
    return subprocess.run(relay, input=b"across\n", capture_output=True, timeout=60, check=True).stdout


def test_paused_saved_stopped_and_back(lab: Lab, machines: Machines) -> None:  # noqa: F811
    boot(lab, "head")
    ask = terminal(lab, "head").ask
    report = said(lab, "head")
    assert "READY" in report
    assert echo(lab) == b"across\n"

    acts.pause_and_resume(machines, "head", ask)
    acts.save_and_restore(machines, "head", ask)
    assert said(lab, "head") == report, "what it reported is still known"
    assert not list((lab.running.run_dir / "saved").iterdir())
    assert echo(lab) == b"across\n"
    acts.save_and_restore(machines, "head", ask)  # and again

    acts.reset(machines, "head", ask)
    assert echo(lab) == b"across\n"
    (root,) = machines.disks()["head"][:1]
    assert (root.target, root.format, root.size_mib) == ("vda", "qcow2", 64)

    # its kernel has no handler for the power button, so the plug has to be pulled
    told = acts.stop_and_start(machines, "head", ask, within=1)
    assert told == ["off; it had to be ended, 1 s after it was asked", "ready"]
    assert said(lab, "head") == report, "of this start, and nothing of the one before"
    assert echo(lab) == b"across\n"
    log = (lab.running.run_dir / "console/head.log").read_text(errors="replace")
    assert log.count("Linux version") == 3, "the console's log goes on"


def test_several_at_once(lab: Lab, machines: Machines) -> None:  # noqa: F811
    boot(lab, "head", "node1")
    told: list[tuple[str, str]] = []

    def states() -> dict[str, str]:
        return {line.machine: line.state for line in machines.lines()}

    acts.act(machines, "pause", ["node1"])
    acts.act(machines, "save", [], lambda *words: told.append(words))  # a paused one too, which stays paused
    assert states() == {"head": "saved", "node1": "saved"}
    acts.act(machines, "restore", [], lambda *words: told.append(words))
    assert states() == {"head": "running", "node1": "paused"}
    acts.act(machines, "stop", [], lambda *words: told.append(words), "--within", "1")
    acts.act(machines, "start", [], lambda *words: told.append(words))
    assert states() == {"head": "running", "node1": "running"}
    begin = time.monotonic()
    acts.act(machines, "stop", ["node1"], lambda *_: None, "--force")
    assert time.monotonic() - begin < 10
    assert states() == {"head": "running", "node1": "off"}
    ended = "off; it had to be ended, 1 s after it was asked"
    assert told == [
        ("head", "saved"),
        ("node1", "saved"),
        ("head", "restored"),
        ("node1", "restored"),
        ("node1", ended),
        ("head", ended),
        ("head", "ready"),
        ("node1", "ready"),
    ]


def test_memory_and_processors_while_it_runs(lab: Lab, machines: Machines) -> None:  # noqa: F811
    """Less memory than it was started with, and that back, never more; of processors what is refused is told."""
    lab.described = larger(cluster("one", memory_mib=MEMORY_MIB))
    boot(lab, "node1")
    ask = terminal(lab, "node1").ask

    def memory_kib() -> int:
        return int(ask("grep MemTotal /proc/meminfo | tr -dc 0-9"))

    def adjust(what: str, value: int) -> tuple[bool, str]:
        ((_, _, effect),) = machines.adjust({"node1": {what: value}})
        return effect.now, effect.words

    before = memory_kib()
    assert adjust("memory_mib", 192) == (True, "now")
    assert before - memory_kib() == 64 << 10
    (line,) = machines.lines()
    assert (line.memory_mib, line.has_mib) == (256, 192)
    told = "at its next start; now 256 MiB, the most that it was started with"
    assert adjust("memory_mib", 512) == (False, told)
    assert memory_kib() == before

    now, words = adjust("cpus", 1)
    assert not now and words.startswith("at its next start; not now: one-node1: its processors cannot be changed: ")
    assert adjust("cpus", 2) == (True, "now")
    assert adjust("cpus", 3) == (False, "at its next start; now 2, the most that it was started with")
    assert ask("nproc") == "2"

    acts.save_and_restore(machines, "node1", ask)
    acts.reset(machines, "node1", ask)


def larger(description: Cluster) -> Cluster:
    nodes = tuple(dataclasses.replace(node, memory_mib=256, cpus=2) for node in description.nodes)
    return dataclasses.replace(description, nodes=nodes)


def test_a_start_that_does_not_get_there(lab: Lab, machines: Machines) -> None:  # noqa: F811
    """It ends with what happened, and does not hang; what runs besides goes on running."""
    boot(lab, "node1")
    with watch(lab.running, lab.connection) as watching:
        watching.expect("head", "boot", {"READY"}, within=PATIENCE)
        lab.start("head", "off")
        with pytest.raises(ClusterError, match="powered off too early"):
            watching.wait()
    with pytest.raises(ClusterError, match=r"head \(start again.*\): it powered off too early") as caught:
        acts.act(machines, "start", ["head"])
    assert "doit inspect one head" in caught.value.hint
    assert {line.machine: line.state for line in machines.lines()} == {"head": "off", "node1": "running"}


@pytest.fixture
def small_shelf(lab: Lab) -> Iterator[Path]:  # noqa: F811
    """Where libvirt writes memory, there is space for a few megabytes only, but nobody can know beforehand."""
    inside(lab.running, "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", "/run/xen-oscar/saved")
    yield lab.running.run_dir / "saved"


def test_a_save_without_space(lab: Lab, machines: Machines, small_shelf: Path) -> None:  # noqa: F811
    boot(lab, "head")
    ask = terminal(lab, "head").ask
    boot_id = ask(acts.BOOT_ID)
    with pytest.raises(ClusterError, match=r"one-head cannot be saved: ") as caught:
        acts.act(machines, "save", ["head"])
    assert caught.value.hint
    assert acts.state(machines, "head") == "running"
    assert ask(acts.BOOT_ID) == boot_id


def test_a_save_that_takes_too_long(lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    boot(lab, "head")
    ask = terminal(lab, "head").ask
    ask("dd if=/dev/urandom of=/tmp/much bs=1M count=64")
    cast(Any, lab.connection.domain("one-head")).migrateSetMaxSpeed(1)
    monkeypatch.setattr("pipeline.cluster.acting._MEMORY", 0.05)
    with pytest.raises(ClusterError, match=r"one-head: its memory is not saved after 0\.05 s"):
        acts.act(machines, "save", ["head"])
    assert acts.state(machines, "head") == "running"
    assert ask("echo lives") == "lives"
    assert not list((lab.running.run_dir / "saved").iterdir())
