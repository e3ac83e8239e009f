"""What machines on a Xen host write, brought here: followed for real, from files that stand for xenconsoled's."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from pipeline.errors import ClusterError
from pipeline.hosts import access, script
from pipeline.hosts.home import GivenHome
from pipeline.hosts.keeper import Keeper
from pipeline.hosts.script import Script
from pipeline.virt import logs
from pipeline.virt.connection import Listener
from pipeline.virt.watch import Watch

#: Seconds for what takes a moment.
PATIENCE = 30


class Host:
    """A Xen host: this machine, with a folder of its own for consoles; and a run folder that gets what they say."""

    def __init__(self, folder: Path) -> None:
        self.consoles = folder / "xen-consoles"
        self.consoles.mkdir()
        self.run_dir = folder / "c"
        for name in ("console", "report"):
            (self.run_dir / name).mkdir(parents=True)
        self.home = GivenHome("c", self.run_dir, access.of("xen:///system"), Script("c", "xen"))
        self.failed: list[ClusterError] = []

    def write(self, machine: str, data: bytes) -> None:
        with (self.consoles / f"guest-c-{machine}.log").open("ab", buffering=0) as file:
            file.write(data)

    @contextmanager
    def following(self, *names: str) -> Iterator[None]:
        with self.home.consoles(names, self.failed.append):
            yield

    def log(self, machine: str) -> bytes:
        path = self.run_dir / "console" / f"{machine}.log"
        return path.read_bytes() if path.exists() else b""

    def has(self, machine: str, length: int) -> bool:
        return len(self.log(machine)) >= length

    def report(self, machine: str) -> str:
        path = self.run_dir / "report" / machine
        return path.read_text() if path.exists() else ""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made, text = Host(tmp_path), script.functions("xen")
    for there, here in (("/var/log/xen/console", str(made.consoles)), ("INTERVAL = 0.25", "INTERVAL = 0.02")):
        assert there in text
        text = text.replace(there, here)
    monkeypatch.setattr(script, "functions", lambda hypervisor: text)
    return made


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)


def test_what_machines_write_arrives_as_they_wrote_it_and_their_reports_are_picked_out(host: Host) -> None:
    host.write("head", b"\x1b[1mbooting\x1b[0m\r\n[    1.5] xen-oscar: STATUS network up\r\n")
    with host.following("head", "node1"):
        until(lambda: host.report("head"))
        host.write("node1", b"xen-oscar: DONE\nxen-oscar: nothing of ours\n")
        host.write("head", b"half a l\xff\xfeine ")
        until(lambda: host.log("node1").endswith(b"ours\n") and host.log("head").endswith(b"ine "))
        host.write("head", b"\nxen-oscar: READY\n")
        until(lambda: "READY" in host.report("head"))
    assert host.log("head") == (host.consoles / "guest-c-head.log").read_bytes()
    assert host.report("head") == "STATUS network up\nREADY\n"
    assert host.report("node1") == "DONE\n"
    assert not host.failed


def test_who_follows_next_goes_on_where_the_last_one_ended(host: Host) -> None:
    host.write("head", b"xen-oscar: READY\n")
    with host.following("head"):
        until(lambda: host.report("head"))
    logs.remove(host.run_dir / "report/head")  # as a start does
    host.write("head", b"started again\n")
    with host.following("head"):
        until(lambda: b"again" in host.log("head"))
    assert host.report("head") == "", "an old READY is none"
    assert host.log("head") == b"xen-oscar: READY\nstarted again\n"


def test_no_machine_can_write_as_another_or_outside(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of any length and any bytes, of machines that write at once; tried because they could tear each other."""
    monkeypatch.setattr(logs, "LIMIT", 1 << 30)
    lies = [
        b"../../../victim xen-oscar: STATUS ; touch /tmp/owned #",
        b"node1 xen-oscar: READY",
        b"console/node1 17 0",
        b"\xff\xfe\x00 node1",
        b"console/_host Kernel panic - not syncing: it is not",
    ]
    long, short = b"x" * 60_000 + b"\n".join([b"", *lies, b""]), b"short\n"
    with host.following("head", "node1"):
        for turn in range(1, 21):
            for _ in range(10):
                host.write("head", long)
                host.write("node1", short)
            until(partial(host.has, "head", 10 * turn * len(long)))
        until(partial(host.has, "node1", 200 * len(short)))
    assert (host.log("head"), host.log("node1")) == (long * 200, short * 200)
    assert host.report("node1") == "" and b"it is not" not in host.log("_host")
    made = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert made <= {
        "guest-c-head.log",
        "guest-c-node1.log",
        "head.log",
        "node1.log",
        "_host.log",
        "head",
        "node1",
        "_host",
    }
    assert not host.failed


def test_who_writes_as_fast_as_it_can_is_followed_with_bounds_here_and_there(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LIMIT", 256 * 1024)
    stop = threading.Event()
    much = b"xen-oscar: STATUS flood\n" * 20_000

    def flood() -> None:
        while not stop.wait(0.02):
            host.write("head", much)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        with host.following("head", "node1"):
            until(lambda: logs.older(host.run_dir / "console/head.log").exists())
            host.write("node1", b"xen-oscar: READY\n")
            until(lambda: host.report("node1"))
            stop.set()
            thread.join()
            host.write("head", b"the last line\n")
            until(lambda: logs.last(host.run_dir / "console/head.log", 100)[0].endswith(b"the last line\n"))
            until(lambda: (host.consoles / "guest-c-head.log").stat().st_size < 9_000_000)
    finally:
        stop.set()
        thread.join()
    for path in (*(host.run_dir / "console").iterdir(), *(host.run_dir / "report").iterdir()):
        assert path.stat().st_size <= logs.LIMIT + 64 * 1024
    assert not host.failed


def test_a_log_that_was_emptied_there_is_read_from_its_beginning(host: Host) -> None:
    with host.following("head"):
        host.write("head", b"before\n")
        until(lambda: b"before" in host.log("head"))
        os.truncate(host.consoles / "guest-c-head.log", 0)
        host.write("head", b"now\n")
        until(lambda: b"now" in host.log("head"))
    assert host.log("head") == b"before\nnow\n"


def test_the_end_of_a_log_that_was_set_aside_there_is_not_lost(host: Host) -> None:
    """As virtlogd does, which goes on in a new file that may be longer than the older one by the next look."""
    log = host.consoles / "guest-c-head.log"
    with host.following("head"):
        host.write("head", b"before\n")
        until(lambda: b"before" in host.log("head"))
        host.write("head", b"the end\n")
        log.rename(host.consoles / "guest-c-head.log.0")
        host.write("head", b"and much more in the new one\n")
        until(lambda: b"new one" in host.log("head"))
    assert host.log("head") == b"before\nthe end\nand much more in the new one\n"


def test_machines_with_report_channels_have_these_followed_and_their_consoles_not_believed(tmp_path: Path) -> None:
    """As QEMU's: what looks like a report on the console is none."""
    run_dir, folder = tmp_path / "c", tmp_path / "there/c"
    for name in ("console", "report"):
        (run_dir / name).mkdir(parents=True)
        (folder / name).mkdir(parents=True)
    text = Script("c", "qemu")
    home = GivenHome("c", run_dir, access.of("qemu:///system"), _Elsewhere("c", "qemu", text.run, str(folder)))
    (folder / "console/node1.log").write_bytes(b"xen-oscar: READY\n")
    (folder / "report/node1").write_bytes(b"STATUS network up\n")
    failed: list[ClusterError] = []
    with home.consoles(["node1"], failed.append):
        until(lambda: (run_dir / "report/node1").exists() and (run_dir / "console/node1.log").exists())
        (folder / "report/node1").write_bytes(b"DONE\n")  # begun anew, as by the next start
        until(lambda: b"DONE" in (run_dir / "report/node1").read_bytes())
    assert (run_dir / "report/node1").read_bytes() == b"STATUS network up\nDONE\n"
    assert (run_dir / "console/node1.log").read_bytes() == b"xen-oscar: READY\n"
    assert not failed


@dataclasses.dataclass(frozen=True)
class _Elsewhere(Script):
    """Of a host on which a cluster's things lie in another folder."""

    there: str = ""

    @property
    def folder(self) -> str:
        return self.there


@pytest.mark.parametrize(
    "piece",
    [
        b"../../victim 3 0\nabc",
        b"console/node2 3 0\nabc",
        b"console/node1 99999999 0\n",
        b"console/node1 -1 0\n",
        b"console/node1 3\nabc",
        b"report/node1 3 0\nabc",
        b"node1 3 0\nabc",
        b"\xff 3 0\nabc",
        b"console/node1 3 0" + b" " * 300,
    ],
)
def test_what_is_no_piece_is_kept_nowhere(tmp_path: Path, piece: bytes) -> None:
    run_dir = tmp_path / "run" / "c"
    for name in ("console", "report"):
        (run_dir / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="no piece"):
        Keeper(run_dir, ["node1"], reports=False).take(io.BytesIO(piece))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_cannot_be_kept_is_told(host: Host) -> None:
    with host.following("head"):
        shutil.rmtree(host.run_dir / "console")
        host.write("head", b"something\n")
        until(lambda: host.failed)
    assert "cannot be kept in" in host.failed[0].message and "No such file" in host.failed[0].message


def test_its_end_ends_the_wait(host: Host) -> None:
    home = dataclasses.replace(host.home, script=_Lacks("c", "xen"))
    listener = Listener()
    watching = Watch(home, listener, lambda _progress: None, ())
    try:
        watching.expect("head", "start", {"READY"}, within=PATIENCE)
        begin = time.monotonic()
        with home.consoles(["head"], watching.fail), pytest.raises(ClusterError, match="no longer comes") as caught:
            watching.wait()
        assert time.monotonic() - begin < PATIENCE / 2
        assert "doit cluster:c" in caught.value.hint and "python3: not found" in caught.value.tail
    finally:
        watching.close()
        listener.close()


class _Lacks(Script):
    """Of a host that has no Python."""

    def __call__(self, function: str, *words: str) -> str:
        return "echo python3: not found >&2; exit 127"
