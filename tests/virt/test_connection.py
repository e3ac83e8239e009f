"""Connections and lifecycle, over libvirt's own test driver: a hypervisor without machines, within this process."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from pipeline.errors import ClusterError
from pipeline.virt import power
from pipeline.virt.connection import Connection, Event, Listener, connect, plain_words

_DEFINITION = """<domain type="test"><name>one-head</name><memory unit="MiB">64</memory><os><type>hvm</type></os>
<metadata><xo:machine xmlns:xo="urn:xen-oscar:domain:1" cluster="one" node="head" role="head" accelerator="tcg">
<xo:artifact role="disk" digest="sha256:1"/></xo:machine></metadata></domain>"""


@pytest.fixture
def connection() -> Iterator[Connection]:
    with connect("test:///default") as opened:
        yield opened
        # the driver's state is the process's, not the connection's
        for domain in opened.raw.listAllDomains():
            if domain.name().startswith("one-"):
                if domain.isActive():
                    domain.destroy()
                domain.undefine()


def collect(listener: Listener, count: int) -> list[Event]:
    found: list[Event] = []
    while len(found) < count and select.select([listener], [], [], 10)[0]:
        found += listener.take()
    return found


def test_events_reach_every_listener(connection: Connection, tmp_path: Path) -> None:
    with connection.listen() as one, connection.listen() as two:
        power.start(connection, _DEFINITION, report=tmp_path / "report")
        power.destroy(connection, ["one-head"])
        for listener in (one, two):
            assert [(event.domain, event.what) for event in collect(listener, 2)] == [
                ("one-head", "started"),
                ("one-head", "stopped"),
            ]
            assert not select.select([listener], [], [], 0)[0]


def test_an_event_that_comes_late_reaches_nobody_else(tmp_path: Path) -> None:
    """libvirt's thread may still hold a listener whose descriptor has been given to another file."""
    listener = Listener()
    descriptor = listener.fileno()
    listener.close()
    # the lowest number that is free is what a file gets next
    assert os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT) == descriptor
    try:
        listener.put(Event("one-head", "started", ""))
        listener.close()
        os.fstat(descriptor)
    finally:
        os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b""


def test_machines_of_ours_and_their_states(connection: Connection, tmp_path: Path) -> None:
    assert power.machines(connection) == []  # the driver's own machine `test` is none of ours
    report = tmp_path / "report"
    report.write_text("READY\n")
    power.start(connection, _DEFINITION, report=report)
    assert not report.exists()
    (running,) = power.machines(connection)
    assert (running.name, running.state, running.metadata.artifacts) == ("one-head", "running", (("disk", "sha256:1"),))
    assert power.shut_down(connection, ["one-head"], within=10) == []
    power.destroy(connection, ["one-head"])  # it is off: nothing to do
    assert [machine.state for machine in power.machines(connection)] == ["off"]


def test_a_machine_that_nobody_knows(connection: Connection) -> None:
    with pytest.raises(ClusterError, match="machine none is not known"):
        power.destroy(connection, ["none"])


def test_a_definition_that_libvirt_refuses(connection: Connection, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="one-head cannot be started") as caught:
        power.start(connection, _DEFINITION.replace("64", "much"), report=tmp_path / "report", more="see libvirtd.log")
    assert "libvirtd.log" in caught.value.hint


def test_nobody_listens_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ClusterError, match="cannot be reached"):
        connect(f"qemu+unix:///system?socket={tmp_path}/none")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "internal error: process exited while connecting to monitor: 2026-11-21T01:34:09Z qemu-system-x86_64: no",
            "no",
        ),
        ("qemu unexpectedly closed the monitor: 2026-11-21T01:31:54Z qemu-system-x86_64: no", "no"),
        (
            "Cannot get interface MTU on 'private': No such device",
            "Cannot get interface MTU on 'private': No such device",
        ),
    ],
)
def test_libvirts_words(text: str, words: str) -> None:
    class Told(libvirt.libvirtError):  # type: ignore[misc]
        def get_error_message(self) -> str:
            return text

    with pytest.raises(ClusterError) as caught, plain_words("it failed"):
        raise Told(text)
    assert caught.value.message == f"it failed: {words}"
