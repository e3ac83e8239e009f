"""What the host knows of a cluster's namespaces: `init.pid`, and what stands in the way of making them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.description import Network
from pipeline.errors import ClusterError, UserError
from pipeline.hosts import namespace, obstacles

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write(run_dir: Path, pid: int, start: int | None, boot: str = BOOT) -> None:
    run_dir.mkdir(exist_ok=True)
    (run_dir / "init.pid").write_text(f"{pid} {start} {boot}\n")


def test_alive_needs_process_start_time_and_boot(tmp_path: Path) -> None:
    me, start = os.getpid(), namespace._start_time(os.getpid())
    assert start is not None
    assert namespace.alive(tmp_path) is None
    write(tmp_path, me, start)
    found = namespace.alive(tmp_path)
    assert found is not None and (found.pid, found.start, found.cluster) == (me, start, tmp_path.name)
    write(tmp_path, me, start + 1)  # the process id has been given to another process since
    assert namespace.alive(tmp_path) is None
    write(tmp_path, me, start, boot="another")
    assert namespace.alive(tmp_path) is None
    (tmp_path / "init.pid").write_text("damaged")
    assert namespace.alive(tmp_path) is None


def test_alive_is_quick(tmp_path: Path) -> None:
    write(tmp_path, os.getpid(), namespace._start_time(os.getpid()))
    best = min(timed(tmp_path) for _ in range(20))
    assert best < 0.001


def timed(run_dir: Path) -> float:
    begin = time.perf_counter()
    namespace.alive(run_dir)
    return time.perf_counter() - begin


def test_what_is_left_of_a_process_is_not_alive(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        write(tmp_path, process.pid, namespace._start_time(process.pid))
        found = namespace.alive(tmp_path)
        assert found is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie until it is waited for
        assert namespace.alive(tmp_path) is None
        with pytest.raises(ProcessLookupError):
            found.pidfd()


def test_a_name_that_looks_like_fields_is_no_trouble(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as process:
        start = namespace._start_time(process.pid)
        assert start is not None and start >= (namespace._start_time(os.getpid()) or 0)
        process.kill()


def test_stop_leaves_a_process_alone_that_only_has_the_same_id(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        write(tmp_path, process.pid, (namespace._start_time(process.pid) or 0) + 1)
        assert namespace.stop(tmp_path) is False
        assert process.poll() is None
        process.kill()
    assert not (tmp_path / "init.pid").exists()


def test_stop_of_what_never_ran(tmp_path: Path) -> None:
    assert namespace.stop(tmp_path / "none") is False
    assert not (tmp_path / "none").exists()


def test_two_runs_at_once(tmp_path: Path) -> None:
    with namespace._exclusive(tmp_path), pytest.raises(ClusterError, match="by another run"):
        namespace.stop(tmp_path)


def test_command_of_a_cluster_that_has_ended(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="has ended"):
        namespace.Namespace(tmp_path, 2**22 + 1, 1).command(["true"])


def test_bridges() -> None:
    assert namespace._bridge(Network("public", "10.4.0.0/24", "10.4.0.1")) == "public=10.4.0.1/24"
    assert namespace._bridge(Network("private", "10.5.0.0/24", "")) == "private"
    with pytest.raises(UserError, match="at most 15 characters"):
        namespace._bridge(Network("a-name-too-long-1", "10.5.0.0/24", ""))


def test_obstacles_are_told_with_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tun = tmp_path / "tun"
    monkeypatch.setattr(obstacles, "_TUN", tun)
    missing = obstacles.find()
    assert missing is not None and "modprobe tun" in missing.hint
    tun.touch(mode=0o000)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tun)
    forbidden = obstacles.find()
    assert forbidden is not None and "chmod 0666" in forbidden.hint
    monkeypatch.setattr(obstacles, "which", lambda tool: None if tool == "libvirtd" else f"/bin/{tool}")
    tool = obstacles.find()
    assert tool is not None and tool.message.endswith(": libvirtd") and "bootstrap" in tool.hint


@pytest.mark.parametrize(
    ("tail", "hint"),
    [
        ("unshare: unshare failed: Operation not permitted", "seccomp"),
        ('unshare: no line matching user "x" in /etc/subuid', "--add-subuids"),
        ("newuidmap: uid range [1-65536) -> [100000-165536) not allowed", "--add-subuids"),
        ("Error: Unknown device type.", "modprobe bridge"),
        ("mount: /run: permission denied.", "SYS_ADMIN"),
        ("libvirtd: something else", ""),
    ],
)
def test_hints(tail: str, hint: str) -> None:
    found = namespace._hint(tail)
    assert (hint in found) if hint else not found
