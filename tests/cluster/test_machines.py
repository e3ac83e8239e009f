"""Machines one by one, over libvirt's own test driver: which action makes sense when, and what becomes of saved memory.

What only real machines can show is in `tests/boot/test_vm.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import libvirt
import pytest

from pipeline.cluster.machines import Machines
from pipeline.drivers import domain, site
from pipeline.errors import ClusterError, UserError
from pipeline.hosts.access import Access
from pipeline.hosts.script import Script
from pipeline.hosts.shelf import LocalShelf, RemoteShelf
from pipeline.virt import power
from pipeline.virt.accelerator import Found
from pipeline.virt.connection import Connection, connect
from pipeline.virt.pace import Capacity
from tests.boot import acts
from tests.samples import cluster

_DEFINITION = """<domain type="test"><name>one-{0}</name><uuid>{2}</uuid><memory unit="MiB">64</memory>
<vcpu>2</vcpu><os><type>hvm</type></os><metadata>
<xo:machine xmlns:xo="urn:xen-oscar:domain:1" cluster="one" node="{0}" role="{1}" accelerator="tcg">
<xo:artifact role="disk" digest="sha256:1"/></xo:machine></metadata></domain>"""


def definition(name: str, role: str) -> str:
    return _DEFINITION.format(name, role, domain.uuid_of("one", name))


class Here:
    """A container that runs, with the test driver for its libvirt."""

    libvirt_uri = "test:///default"
    more = ""

    def __init__(self) -> None:
        self.up = True

    def find(self) -> Here | None:
        return self if self.up else None

    def capacity(self, found: Found) -> Capacity:
        return Capacity(2, found.accelerator)


class Shelf:
    """Memory is kept in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, machine: str) -> str:
        return str(self.folder / machine)

    def make_room(self, machine: str, mib: int) -> None:
        assert mib > 64

    def clear(self, machine: str) -> None:
        (self.folder / machine).unlink(missing_ok=True)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with connect("test:///default") as opened:
        for name, role in (("head", "head"), ("node1", "compute")):
            power.start(opened, definition(name, role), report=tmp_path / name)
        yield opened
        # the driver's state is the process's, not the connection's
        for found in opened.raw.listAllDomains():
            if found.name().startswith("one-"):
                with contextlib.suppress(libvirt.libvirtError):
                    found.destroy()
                found.undefine()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def machines(connection: Connection, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    made = Machines(cluster("one"), cast(Any, Here()), tmp_path, contextlib.nullcontext, cast(Any, None))
    monkeypatch.setattr(made._place, "shelf", lambda _home: shelf, raising=False)
    return made


def states(machines: Machines) -> dict[str, str]:
    return {line.machine: line.state for line in machines.lines()}


def test_list(machines: Machines) -> None:
    assert [(line.machine, line.state, line.memory_mib, line.cpus) for line in machines.lines()] == [
        ("head", "running", 64, 2),
        ("node1", "running", 64, 2),
    ]


def test_pause_and_resume(machines: Machines) -> None:
    told: list[tuple[str, str]] = []
    acts.act(machines, "pause", ["node1"], lambda *words: told.append(words))
    assert states(machines) == {"head": "running", "node1": "paused"}
    acts.act(machines, "pause", [])  # all for which it makes sense
    assert states(machines) == {"head": "paused", "node1": "paused"}
    acts.act(machines, "resume", [])
    assert states(machines) == {"head": "running", "node1": "running"}
    assert told == [("node1", "paused")]


def test_save_and_restore(machines: Machines, connection: Connection, tmp_path: Path) -> None:
    acts.act(machines, "save", ["node1"])
    assert states(machines) == {"head": "running", "node1": "saved"}
    assert (tmp_path / "node1").exists()
    assert [item.metadata.artifacts for item in power.machines(connection)] == [(("disk", "sha256:1"),)] * 2
    acts.act(machines, "restore", [])
    assert states(machines) == {"head": "running", "node1": "running"}
    acts.act(machines, "stop", ["node1"])
    assert states(machines)["node1"] == "off"
    with pytest.raises(ClusterError, match="node1 is off: only one that is saved can be restored") as caught:
        acts.act(machines, "restore", ["node1"])
    assert caught.value.hint == "doit vm start one node1"


def test_memory_that_is_given_up(machines: Machines, tmp_path: Path) -> None:
    acts.act(machines, "save", ["node1"])
    with pytest.raises(ClusterError, match="node1 is saved: only one that is off can be started") as caught:
        acts.act(machines, "start", ["node1"])
    assert caught.value.hint == "doit vm restore one node1 or doit vm stop one node1"
    acts.act(machines, "save", [])
    with pytest.raises(ClusterError, match="head is saved, node1 is saved") as caught:
        acts.act(machines, "start", [])
    assert caught.value.hint == "doit vm restore one or doit vm stop one"
    told: list[str] = []
    acts.act(machines, "stop", ["node1"], lambda _machine, words: told.append(words))
    assert told == ["off; its saved memory is given up"]
    assert states(machines)["node1"] == "off"
    assert not (tmp_path / "node1").exists()


def test_memory_does_not_outlive_a_start_from_the_disk(
    machines: Machines, connection: Connection, tmp_path: Path
) -> None:
    acts.act(machines, "save", ["node1"])
    power.start(connection, definition("node1", "compute"), report=tmp_path / "report")
    power.destroy(connection, ["one-node1"])
    assert states(machines)["node1"] == "off"


def test_memory_that_cannot_be_read_is_not_lost(machines: Machines, tmp_path: Path) -> None:
    acts.act(machines, "save", ["node1"])
    (tmp_path / "node1").rename(tmp_path / "elsewhere")
    with pytest.raises(ClusterError, match="node1 cannot be restored"):
        acts.act(machines, "restore", ["node1"])
    assert states(machines)["node1"] == "saved"
    (tmp_path / "elsewhere").rename(tmp_path / "node1")
    acts.act(machines, "restore", ["node1"])
    assert states(machines)["node1"] == "running"


def test_a_save_that_fails_leaves_the_machine_running(machines: Machines, shelf: Shelf, tmp_path: Path) -> None:
    shelf.folder = tmp_path / "none"
    with pytest.raises(ClusterError, match="node1 cannot be saved"):
        acts.act(machines, "save", ["node1"])
    assert states(machines)["node1"] == "running"
    acts.act(machines, "stop", ["node1"])
    assert states(machines)["node1"] == "off"


def test_a_paused_machine_is_stopped(machines: Machines) -> None:
    acts.act(machines, "pause", [])
    acts.act(machines, "stop", [])
    assert states(machines) == {"head": "off", "node1": "off"}


@pytest.mark.parametrize(
    ("action", "names", "message"),
    [
        ("resume", ["node1"], "node1 is running: only one that is paused can be resumed"),
        ("resume", [], "head is running, node1 is running: only one that is paused can be resumed"),
        ("restore", ["head"], "head is running: only one that is saved"),
        ("start", ["head"], "head is running: only one that is off"),
        ("start", ["node2"], "node2 is not installed yet"),
        ("pause", ["head", "node2"], "node2 is not installed yet"),
    ],
)
def test_what_makes_no_sense(machines: Machines, action: str, names: list[str], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        acts.act(machines, action, names)
    assert states(machines) == {"head": "running", "node1": "running"}  # nothing was done, not even to others


def test_a_cluster_that_does_not_run(machines: Machines) -> None:
    cast(Here, machines._place).up = False
    assert not machines.runs()
    for use in (machines.lines, lambda: acts.act(machines, "pause", [])):
        with pytest.raises(ClusterError, match="one does not run") as caught:
            use()
        assert caught.value.hint == "doit cluster:one"


def test_no_space_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: Machines) -> None:
    shelf = LocalShelf(tmp_path)
    monkeypatch.setattr(machines._place, "shelf", lambda _home: shelf)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: _Usage(100 << 20))
    with pytest.raises(UserError, match=r"node1 cannot be saved: .*100 MiB free .* at least 128 MiB"):
        acts.act(machines, "save", ["node1"])
    assert states(machines)["node1"] == "running"
    assert (tmp_path / "saved").stat().st_mode & 0o077 == 0
    assert shelf.place("node1") == "/run/xen-oscar/saved/node1"


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_no_space_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text that runs on a Xen host, run here."""
    monkeypatch.setattr(site, "SHARED", str(tmp_path))
    shelf = RemoteShelf(Script("one", "xen"), Access("xen:///system", ()).run)
    shelf.make_room("node1", 1)
    place = Path(shelf.place("node1"))
    assert place == tmp_path / "one/saved/node1"
    assert place.parent.stat().st_mode & 0o077 == 0
    place.write_text("memory")
    shelf.clear("node1")
    shelf.clear("node1")
    assert not place.exists()
    with pytest.raises(ClusterError, match=r"node1 needs \d+ MiB in .*/one/saved, \d+ are free"):
        shelf.make_room("node1", 1 << 40)


def test_reset(machines: Machines, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    acts.act(machines, "reset", [], lambda *words: told.append(words))
    assert told == [("head", "reset"), ("node1", "reset")]
    acts.act(machines, "pause", ["node1"])
    with pytest.raises(ClusterError, match="node1 is paused: only one that is running can be reset") as caught:
        acts.act(machines, "reset", ["head", "node1"])
    assert caught.value.status == 4
    assert caught.value.hint == "doit vm resume one node1"


def test_a_reset_by_an_engine_without_the_line(
    machines: Machines, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Xen's paravirtualised machines have none: the plug is pulled, and what it reported before counts no more."""

    def none(_domain: object, flags: int = 0) -> None:
        error = libvirt.libvirtError("this function is not supported")
        error.err = (libvirt.VIR_ERR_NO_SUPPORT, 0, "", 0, "", "", "", 0, 0)
        raise error

    monkeypatch.setattr(libvirt.virDomain, "reset", none)
    monkeypatch.setattr(machines._place, "check", lambda _home: None, raising=False)
    report = machines._run_dir / "report/node1"
    report.parent.mkdir()
    report.write_text("READY\n")
    before = connection.raw.lookupByName("one-node1").ID()
    acts.act(machines, "reset", ["node1"])
    assert states(machines)["node1"] == "running"
    assert connection.raw.lookupByName("one-node1").ID() != before
    assert not report.exists()


def test_the_plug_is_pulled(machines: Machines) -> None:
    """Nobody is asked, and nobody waits; a saved one gives its memory up, as when it is stopped."""
    acts.act(machines, "pause", ["node1"])
    acts.act(machines, "save", ["head"])
    told: list[tuple[str, str]] = []
    acts.act(machines, "stop", [], lambda *words: told.append(words), "--force")
    assert told == [("head", "off; its saved memory is given up"), ("node1", "off; it was not asked")]
    assert states(machines) == {"head": "off", "node1": "off"}
    with pytest.raises(SystemExit):
        acts.act(machines, "stop", [], lambda *_: None, "--force", "--within", "3")
    for wrong in ("soon", "-1", "nan", "1e9"):
        with pytest.raises(SystemExit):
            acts.act(machines, "stop", [], lambda *_: None, f"--within={wrong}")
