"""Consoles: what a person would have seen, and which lines mean the end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.guests.debian import GUEST
from pipeline.virt.console import FATAL, FATAL_TO_ALL, Console, find_fatal, signs, strip

#: With what systems of today say.
ALL = (*FATAL, *signs(*GUEST.fatal))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\r", "plain"),
        (b"\x1b[0;1miPXE 1.0\x1b[0m -- \x1b[0;36mboot\r", "iPXE 1.0 -- boot"),
        (b"\x1bc\x1b[?7l\x1b[2JSeaBIOS (version 1.16)", "SeaBIOS (version 1.16)"),
        (b"\x1b]0;root@head: ~\x07root@head:~# ", "root@head:~#"),
        (b"[  OK  ] Started\x1b(B\x1b[m", "[  OK  ] Started"),
        (b" 10 %\r 50 %\r100 %\r", "100 %"),
        (b"Press Ctrl-B\b \b\b \b\b\b\b\b\b\b\b\b\b\b\b\bNo bootable device.\r", "No bootable device."),
        (b"\b\b\x00\x1b", ""),
        ("grün \xff".encode("latin-1"), "gr\ufffdn \ufffd"),
    ],
)
def test_strip(data: bytes, text: str) -> None:
    assert strip(data) == text


@given(st.binary())
def test_strip_takes_anything(data: bytes) -> None:
    assert not set(strip(data)) & {chr(code) for code in (*range(9), *range(10, 32), 127)}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "[    2.70] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            "kernel panic: VFS: Unable to mount root fs on unknown-block(0,0)",
        ),
        (
            "[   80.1] Out of memory: Killed process 812 (rsync) total-vm:270000kB, anon-rss:1kB",
            "out of memory: rsync was killed; give it more memory",
        ),
        (
            '[    1.9] VFS: Cannot open root device "vda1" or unknown-block(0,0): error -6',
            'no root file system: "vda1" or unknown-block(0,0): error -6',
        ),
        (
            "ALERT!  UUID=0000-11 does not exist.  Dropping to a shell!",
            "no root file system: UUID=0000-11 does not exist",
        ),
        ("xen-oscar: FAIL no disk", "no disk"),
        ("[    4.1] xen-oscar: FAIL no disk", "no disk"),
        ("xen-oscar: FAIL", "xen-oscar: FAIL"),
        ('You are in emergency mode. After logging in, type "journalctl -xb"', "systemd went into emergency mode"),
        ("Cannot open access to console, the root account is locked.", "systemd went into emergency mode"),
        ("grub rescue>", "the boot loader finds no system on the disk"),
        ("error: unknown filesystem. Entering rescue mode...", "the boot loader finds no system on the disk"),
        ("No bootable device.", "neither disk nor network gave it a system"),
        ("Nothing to boot: No such file or directory", "network boot: nothing to boot: No such file or directory"),
        ("[   30.2] BUG: unable to handle page fault for address: 0000", "kernel fault: page fault for address: 0000"),
        (
            "[   30.2] general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
            "kernel fault: general protection",
        ),
    ],
)
def test_fatal(line: str, reason: str) -> None:
    assert find_fatal(line, ALL) == reason


@pytest.mark.parametrize(
    "line",
    [
        "Memory cgroup out of memory: Killed process 99 (job)",  # a batch job's own limit
        "usr/share/doc/emergency mode.txt",
        "systemd[1]: Reached target emergency.target - Emergency Mode.",  # said at shutdown too
        "rsync: kernel panic.txt",
        "panic=-1 root=/dev/vda1",
        "echo xen-oscar: FAIL is what an installer says",
        "Boot failed: not a bootable disk",  # then comes the network
        "[  9.1] traps: mytool[77] general protection fault ip:1 sp:2",  # a program under test may have its faults
    ],
)
def test_not_fatal(line: str) -> None:
    assert find_fatal(line, ALL) == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[  9.1] traps: oxenstored[268] general protection fault ip:1", "general protection fault in oxenstored"),
        ("[  9.1] general protection fault, maybe for address 0x0: 0000 [#1]", "kernel fault: general protection"),
        ("[  9.1] BUG: unable to handle page fault for address: 0000", "kernel fault: page fault for address: 0000"),
        ("[  9.1] Out of memory: Killed process 275 (libvirtd) total-vm:1kB", "out of memory: libvirtd was killed"),
        ("[  9.1] I/O error, dev sda, sector 2048 op 0x1:(WRITE)", "I/O error on sda"),
        ("[  9.1] I/O error, dev fd0, sector 0 op 0x0:(READ)", ""),
        ("[  9.1] vif vif-1-0 vif1.0: Guest Rx ready", ""),
    ],
)
def test_what_puts_all_machines_of_a_container_in_doubt(line: str, reason: str) -> None:
    assert find_fatal(line, FATAL_TO_ALL) == reason


def test_console_keeps_what_led_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"Kernel panic - not syncing: of an earlier start\n")
    console = Console(path, FATAL, keep=3)
    assert console.read() == ""
    with path.open("ab") as file:
        file.write(b"a\nb\r\n\r\n\x1b[1mc\x1b[0m\nKernel panic - not syncing: now\n Call Trace:\n  f+0x1\n")
    assert console.read() == "kernel panic: now"
    assert console.tail == "b\nc\nKernel panic - not syncing: now"
    console.begin()
    assert (console.read(), console.tail) == ("", "")


def test_console_sees_a_prompt_that_does_not_end_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    console = Console(path, FATAL)
    path.write_bytes(b"Loading...\r\ngrub rescue> ")
    assert console.read() == "the boot loader finds no system on the disk"
    assert console.tail == "Loading...\ngrub rescue>"


@pytest.mark.parametrize(
    "piece",
    [
        b"a\b",
        b"\b",
        b"\r",
        b"\x1b]",
        b"Out of memory: Killed process 1 (",
        b"ALERT! ",
        b"ALERT!\t",
        b"traps: a[1",
        b"error: ",
        b"general protection fault ",
        b"general protection fault: 1 [#",
        b": 1 [#",
        b"BUG: unable to handle ",
        b"\xff\x9b",
    ],
)
def test_no_line_keeps_whoever_reads_it_busy(piece: bytes) -> None:
    line = (piece * 65536)[:65536]
    begin = time.process_time()
    for data in (line, b"[ 1.0] general protection fault " + line):
        find_fatal(strip(data), ALL)
        find_fatal(strip(data), FATAL_TO_ALL)
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize("before", [b"", b"." * 200_000, b"Reading 1%\r" * 20_000])
@pytest.mark.parametrize("after", [b"\n", b" and so on" * 500_000])
def test_a_panic_is_seen_in_lines_of_any_length(tmp_path: Path, before: bytes, after: bytes) -> None:
    console = Console(tmp_path / "log", FATAL)
    with (tmp_path / "log").open("ab") as file:
        file.write(before + b"Kernel panic - not syncing: it is over")
        file.flush()
        reasons = {console.read(), console.read()}
        file.write(after)
        file.flush()
        reasons |= {console.read() for _ in range(100)}
    assert any(reason.startswith("kernel panic: it is over") for reason in reasons)
    assert len(console.tail) < 15 * 70_000
