"""Foreign code in a root: what it sees, what it cannot do, and that nothing of it stays."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pipeline import confine, sandbox
from pipeline.doctor import isolation
from pipeline.errors import CommandError
from tests.namespaced import inside, smallest_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    smallest_root(tmp_path / "root")
    return tmp_path / "root"


def script(root: str, text: str, timeout: str = "30") -> None:
    """Inner side: run a shell script in the root and print its output and status."""
    log = Path(root).with_name("log")
    applets = 'PATH=/bin; for t in $(busybox --list); do alias "$t=busybox $t"; done'
    done = sandbox.chroot_run(
        Path(root),
        ["sh", "-c", f"{applets}; {text}"],
        log=log,
        timeout=float(timeout),
        check=False,
        binds=[sandbox.Bind(log.parent / "shown", "/run/shown")],
    )
    print(log.read_text().split("confine.py\n", 1)[1], f"status={done.status}", sep="")


def run(root: Path, text: str) -> str:
    (root.parent / "shown").mkdir(exist_ok=True)
    (root.parent / "shown/file").write_text("shown")
    return inside(script, root, text)


def test_it_sees_a_machine_of_its_own(root: Path) -> None:
    seen = run(
        root,
        "hostname; id -u; ls /dev; ls /sys; ps | grep -c .; cat /proc/net/route /proc/net/dev; "
        "cat /run/shown/file; exit 7",
    )
    assert seen.startswith("sandbox\n0\n")
    assert "urandom" in seen
    assert "vda" not in seen
    assert "eth" not in seen
    assert seen.endswith("shownstatus=7\n")


def test_it_looks_like_a_chroot_of_a_booted_system(root: Path) -> None:
    """systemctl, udevadm, invoke-rc.d and ischroot compare the roots; other scripts look who is process 1."""
    seen = run(
        root,
        "test $(stat -L -c %d:%i /proc/1/root) != $(stat -c %d:%i /) && echo elsewhere; "
        "cat /proc/1/comm; readlink /proc/1/exe; ps -o pid,comm | grep -w 1; "
        "test -d /run/systemd/system || echo not booted",
    )
    assert seen.split("\n")[:5] == ["elsewhere", "systemd", "/usr/lib/systemd/systemd", "    1 systemd", "not booted"]


#: Says what uname(2) calls the machine: 81 ec is `sub esp`, 7a the number of the call, 04 that of write(2).
SAY_MACHINE = bytes.fromhex(
    "81ec90010000 89e3 b87a000000 cd80 b804000000 bb01000000 8d8c2404010000 ba04000000 cd80 b801000000 31db cd80"
)


def start(root: str, *argv: str) -> None:
    """Inner side: run a program in the root and print its output."""
    log = Path(root).with_name("log")
    done = sandbox.chroot_run(Path(root), argv, log=log, timeout=30, check=False)
    print(log.read_text().split("confine.py\n", 1)[1], f" status={done.status}", sep="")


def test_programs_for_i386_see_a_machine_of_their_kind(root: Path) -> None:
    (root / "bin/say").write_bytes(isolation.program_32_bit(SAY_MACHINE))
    (root / "bin/script").write_text("#! /bin/say\n")
    for name in ("say", "script"):
        (root / "bin" / name).chmod(0o755)
    assert inside(start, root, "say") == "i686 status=0\n"
    (root.parent / "log").unlink()
    assert inside(start, root, "/bin/script") == "i686 status=0\n"
    (root.parent / "log").unlink()
    assert inside(start, root, "busybox", "uname", "-m") == f"{os.uname().machine}\n status=0\n"


def test_a_kernel_without_programs_for_i386_is_told(root: Path) -> None:
    (root / "bin/say").write_bytes(isolation.program_32_bit(b"")[:40])
    (root / "bin/say").chmod(0o755)
    assert f"/bin/say: {confine.NOT_STARTED}: it is a 32-bit program, and {confine.NO_32_BIT}" in inside(
        start, root, "/bin/say"
    )


def test_its_environment_is_the_same_everywhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAK", "leaked")
    seen = run(root, "env")
    assert "leak" not in seen.lower()
    assert f"SOURCE_DATE_EPOCH={sandbox.SOURCE_DATE_EPOCH}\n" in seen
    assert "XEN_OSCAR" not in seen


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs none /tmp",
        "mknod /etc/disk b 254 0",
        "echo x > /run/shown/file",
        "mount -o remount,rw,bind /run/shown && echo x > /run/shown/file",
        "hostname elsewhere",
        "echo 0 > /proc/sys/kernel/panic",
        "echo h > /proc/sysrq-trigger",
        "nc -w 2 127.0.0.1 22",
        "chroot /proc/1/root/../../.. ls /work /home/.",
    ],
)
def test_what_it_cannot_do(root: Path, attempt: str) -> None:
    assert "status=77" in run(root, f"{attempt} || exit 77")


#: What a process has from those that started it.  (Numbers of processes and use of memory are of no interest.)
INHERITED = """busybox grep -Ev '^(Pid|Tgid|NS|PPid|Vm|Rss|Hugetlb|.*ctxt)' /proc/self/status
busybox cat /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj /proc/self/personality
busybox cut -d' ' -f5-9 /proc/self/stat
busybox grep -c ' rw-s ' /proc/self/maps
for each in /proc/self/fd/*; do echo "$each"; done
busybox env; umask; busybox hostname; busybox pwd; busybox ps -o comm
busybox cut -d' ' -f2-4 /proc/mounts; busybox ls /proc/1 /proc/1/fd
busybox cat /proc/1/environ /proc/1/maps
busybox kill -TERM 1; busybox kill -HUP 1; busybox kill -PIPE 1; echo still there"""


def started_both_ways(root: str) -> None:
    """Inner side: what foreign code has, and process 1 of its sandbox, forked from a worker that has a lot; then with
    another thread in that worker."""
    log = Path(root).with_name("log")
    place = Path(root).with_name("shared")
    place.write_bytes(b"secret".ljust(4096))
    attend = confine._attend

    def tell_what_is_open(child: int, read: int) -> int:
        found = [number for number in range(256) if is_open(number)]
        os.write(1, f"process 1 has {len(found)} open\n".encode())
        return attend(child, read)

    confine._attend = tell_what_is_open
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as shared:
        os.dup2(file.fileno(), 200, inheritable=True)
        os.environ["LEAK"] = "secret"
        os.umask(0o077)
        shared[:1] = b"S"
        run_both_ways(Path(root), log)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def run_both_ways(root: Path, log: Path) -> None:
    """The output of each way."""
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    try:
        for _ in ("forked", "executed"):
            log.write_bytes(b"")
            sandbox.chroot_run(root, ["sh", "-c", INHERITED], log=log, timeout=60, check=False)
            print(log.read_text().split("confine.py\n", 1)[1], end="=====\n")
            if not other.is_alive():
                other.start()
    finally:
        over.set()


def test_forked_from_a_worker_it_has_what_it_has_when_that_starts_a_program(root: Path) -> None:
    forked, executed, _ = inside(started_both_ways, root).split("=====\n")
    told, forked = forked.split("\n", 1)
    assert told == "process 1 has 4 open"  # what is printed is read from the fourth
    assert "process 1 has" not in executed  # it was another program
    assert "still there" in forked
    assert "secret" not in forked.lower()
    assert "/proc/self/fd/200" not in forked
    assert forked.splitlines() == executed.splitlines()


def test_it_makes_no_file_that_cannot_be_changed(root: Path) -> None:
    """CAP_LINUX_IMMUTABLE is number 9: what no image could hold fails where it is tried."""
    seen = run(root, "grep CapBnd /proc/self/status")
    assert not int(seen.split()[1], 16) & 1 << 9


def test_it_gains_no_rights_and_has_limits(root: Path) -> None:
    seen = run(root, "grep NoNewPrivs /proc/self/status; ulimit -u; ulimit -c; df -k /run /tmp /dev/shm | tail -n 3")
    lines = seen.splitlines()
    assert lines[:3] == ["NoNewPrivs:\t1", "4096", "0"]
    assert [int(line.split()[1]) for line in lines[3:6]] == [256 << 10, 1 << 20, 256 << 10]


def test_programs_with_capabilities_run_without_them(root: Path) -> None:
    program = root / "bin/ping"
    shutil.copy(root / "bin/busybox", program)
    try:  # cap_net_raw=ep, version 2
        os.setxattr(program, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    except OSError:
        pytest.skip("no file system for that, or not root")
    assert "status=0" in run(root, "/bin/ping --help 2> /dev/null")


def test_of_this_machine_it_sees_no_keys_memory_or_devices(root: Path) -> None:
    seen = run(
        root,
        "cat /proc/keys /proc/interrupts /proc/timer_list /proc/sched_debug 2>/dev/null; "
        "dd if=/proc/kcore bs=64 count=1 2>/dev/null | wc -c; "
        "ls /proc/scsi /proc/acpi 2>/dev/null; exit 5",
    )
    assert [line for line in seen.splitlines() if not line.startswith("/proc/")] == ["0", "status=5"]


def printing(root: str) -> None:
    """Inner side: a script that prints without end, and one that leaves somebody behind who does."""
    log = Path(root).with_name("log")
    for text in ("busybox yes | busybox head -c 50000000; echo end >&2", "busybox yes & exit 0"):
        log.write_bytes(b"")
        sandbox.chroot_run(Path(root), ["sh", "-c", text], log=log, timeout=60)
        print(log.stat().st_size >> 20, log.read_bytes()[-60:].count(b"left out"))


def test_what_is_printed_is_bounded(root: Path) -> None:
    first, second = inside(printing, root).splitlines()
    assert first == "32 1"
    assert int(second.split()[0]) <= 32


def test_the_old_root_is_gone(root: Path) -> None:
    seen = run(root, "mkdir /tmp/jail; cd /; chroot /tmp/jail ls 2>/dev/null; cat /proc/mounts; ls /; exit 0")
    assert str(root.parent) not in seen
    assert "usr" not in seen.split()


def test_a_daemon_does_not_survive(root: Path) -> None:
    mark = f"86{os.getpid()}"
    started = time.monotonic()
    assert "status=0" in run(root, f"(setsid sleep {mark} &) ; exit 0")
    assert time.monotonic() - started < 20
    assert f"sleep\0{mark}".encode() not in b"\n".join(_command_lines())


def _command_lines() -> list[bytes]:
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(process.read_bytes())
        except OSError:
            continue
    return lines


def late(root: str) -> None:
    """Inner side: a script that takes too long."""
    try:
        sandbox.chroot_run(Path(root), ["/bin/busybox", "sleep", "1000"], log=Path(root).with_name("log"), timeout=0.5)
    except CommandError as error:
        print(error.message)


def test_a_deadline_ends_it(root: Path) -> None:
    started = time.monotonic()
    assert "no end after 0.5 s" in inside(late, root)
    assert time.monotonic() - started < 20


def failing(root: str) -> None:
    """Inner side: a script that fails."""
    try:
        sandbox.chroot_run(
            Path(root), ["sh", "-c", "echo the reason; exit 3"], log=Path(root).with_name("log"), timeout=30, input=b""
        )
    except CommandError as error:
        print(error.render())


def test_a_failure_shows_the_command_and_its_last_lines(root: Path) -> None:
    shown = inside(failing, root)
    assert shown.startswith("exit status 3: sh -c 'echo the reason; exit 3'\n")
    assert "| the reason" in shown
    assert "busybox" not in shown


def starting(root: str) -> None:
    """Inner side: programs that cannot be started."""
    for name in sorted(path.name for path in (Path(root) / "etc").iterdir()):
        try:
            sandbox.chroot_run(Path(root), [f"/etc/{name}"], log=Path(root).with_name("log"), timeout=30)
        except CommandError as error:
            print(error.tail.splitlines()[-1])


def test_what_cannot_be_started_is_told_with_what_is_missing(root: Path) -> None:
    elf = bytearray((root / "bin/busybox").read_bytes()[:4096])
    elf[18:20] = b"\xf3\0"  # RISC-V
    files = {
        "a-python": b"#!/usr/bin/python3 -u\nprint()\n",
        "b-cr": b"#!/bin/sh\r\n",
        "c-text": b"echo\n",
        "d-riscv": bytes(elf),
        "e-plain": b"#!/bin/sh\n",
    }
    for name, data in files.items():
        (root / "etc" / name).write_bytes(data)
        (root / "etc" / name).chmod(0o644 if name == "e-plain" else 0o755)
    (root / "etc/f-folder").mkdir()
    assert inside(starting, root).splitlines() == [
        "/etc/a-python: it cannot be started: its interpreter /usr/bin/python3 is not there",
        "/etc/b-cr: it cannot be started: its first line ends in CR LF, as on Windows",
        "/etc/c-text: it cannot be started: it is no program, and no script whose first line names an interpreter",
        "/etc/d-riscv: it cannot be started: it is a program for another kind of machine",
        "/etc/e-plain: it cannot be started: it is not executable",
        "/etc/f-folder: it cannot be started: it is a folder",
    ]


def test_nothing_is_left_in_the_root(root: Path) -> None:
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    run(root, "echo x > /run/x; echo x > /tmp/x; echo x > /dev/shm/x")
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before


def test_all_of_a_worker_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Even when that is killed and cannot clean up."""
    mark = f"87{os.getpid()}"
    inner = [*sandbox.namespace(network=False), "sh", "-c", f"echo up; sleep {mark}"]
    with subprocess.Popen(["sh", "-c", '"$@" & wait', "sh", *inner], stdout=subprocess.PIPE) as outer:
        assert outer.stdout is not None
        if outer.stdout.readline() != b"up\n":
            pytest.skip("no namespaces here")
        assert any(mark.encode() in line for line in _command_lines())
        outer.kill()
    deadline = time.monotonic() + 20
    while any(mark.encode() in line for line in _command_lines()):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.02)


def test_those_who_work_at_the_same_time_do_not_count_on_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "memory_available", lambda: 8 << 30)
    memory = sandbox.Memory()
    for _ in range(2):  # what was promised is free again afterwards
        with memory.share() as one, memory.share() as two, memory.share() as three:
            assert (one, two, three) == (4 << 30, 2 << 30, 0)


def test_what_a_command_says_between_the_last_look_and_its_end_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"why it failed\n")
        os._exit(3)
    os.close(write)
    hand_on, looked = confine._hand_on, []

    def look_too_early(descriptor: int, left: int) -> tuple[int, bool]:
        looked.append(left)
        if len(looked) > 1:
            return hand_on(descriptor, left)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        return left, True

    monkeypatch.setattr(confine, "_hand_on", look_too_early)
    assert os.waitstatus_to_exitcode(confine._attend(child, read)) == 3
    os.close(read)
    assert capfd.readouterr().out == "why it failed\n"
