"""Commands: they end in time, whatever they leave behind, and nothing of them outlives the run that started them."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import talk
from pipeline.errors import CommandError
from pipeline.run import run, spawn, stream
from pipeline.virt import accelerator
from tests.processes import PATIENCE, command, descendants, must_end, until

TOP = Path(__file__).resolve().parents[1]


@pytest.fixture
def seconds() -> Iterator[str]:
    """For how long this test's own processes sleep, by which they are known; none of them is left."""
    mark = f"1{secrets.randbelow(10**8):08}"
    yield mark
    for pid in sleepers(mark):
        os.kill(pid, signal.SIGKILL)


def sleepers(seconds: str) -> list[int]:
    """Who sleeps for that time, wherever."""
    found = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in found if command(pid) == f"sleep {seconds}"]


@contextlib.contextmanager
def a_run(code: str, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this project's that runs `code`, in a session of its own."""
    with subprocess.Popen([sys.executable, "-c", code, *map(str, words)], cwd=TOP, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


# --- one command


def test_what_goes_in_comes_out_however_much_it_is() -> None:
    much = os.urandom(3 << 20).hex()
    done = run(["tee", "/dev/stderr"], input=much.encode())
    assert done.stdout == much and done.stderr == much


def test_input_that_nobody_reads_is_no_failure() -> None:
    assert run(["true"], input=bytes(1 << 20)).status == 0


def test_a_failure_tells_how_it_ended_and_its_last_lines() -> None:
    with pytest.raises(CommandError, match=r"^exit status 3: sh -c") as caught:
        run(["sh", "-c", "echo the reason >&2; exit 3"])
    assert caught.value.tail == "the reason"
    with pytest.raises(CommandError, match=r"^signal SIGKILL: sh"):
        run(["sh", "-c", "kill -KILL $$"])
    with pytest.raises(CommandError, match=r"^signal 40: sh"):
        run(["sh", "-c", "kill -40 $$"])


@pytest.mark.parametrize("escape", ["", "setsid "])
def test_a_deadline_holds_against_a_grandchild_that_keeps_the_pipe(seconds: str, escape: str) -> None:
    started = time.monotonic()
    script = f"{escape}sh -c 'trap \"\" TERM; echo said; exec sleep {seconds}' & wait"
    with pytest.raises(CommandError, match=r"no end after 0\.5 s") as caught:
        run(["sh", "-c", script], timeout=0.5)
    assert time.monotonic() - started < PATIENCE
    assert caught.value.tail == "said"
    assert not sleepers(seconds)


def test_a_deadline_holds_for_what_is_read_line_by_line_as_well(seconds: str) -> None:
    started = time.monotonic()
    with pytest.raises(CommandError, match=r"^no end after 1 s"):
        list(stream(["sh", "-c", f"setsid sleep {seconds} & echo said; wait"], input=b"", timeout=1))
    assert time.monotonic() - started < PATIENCE
    assert not sleepers(seconds)


def test_a_command_that_leaves_somebody_with_the_pipe_has_ended_all_the_same(
    seconds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "_GRACE", 0.2)
    assert run(["sh", "-c", f"(setsid sleep {seconds} &); echo done"], timeout=PATIENCE).stdout == "done\n"
    assert not sleepers(seconds)


def test_a_command_that_says_no_end_of_things_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "_MOST", 1 << 20)
    with pytest.raises(CommandError, match=r"^more than 1 MiB of output: yes") as caught:
        run(["yes"])
    assert caught.value.tail.splitlines()[-1] == "y"


def test_ending_a_command_ends_what_is_deaf_in_its_group(seconds: str) -> None:
    with spawn(["sh", "-c", f"trap 'exit 0' TERM; sh -c 'trap \"\" TERM; exec sleep {seconds}' & wait"]):
        until(lambda: sleepers(seconds))
    assert not sleepers(seconds)


# --- a whole run

#: What a run does when it is killed: a plain command, one that went into a session of its own and let go of all, and
#: one with a process of its own in between, as rsync has ssh.
COMMANDS = {
    "plain": "sleep SECONDS",
    "daemon": "(setsid sh -c 'exec sleep SECONDS </dev/null >/dev/null 2>&1 3>&-' &) ; sleep SECONDS",
    "deaf": "trap '' HUP TERM INT; sh -c 'trap \"\" HUP TERM INT; sleep SECONDS; :'; :",
}


@pytest.mark.parametrize("what", COMMANDS)
@pytest.mark.parametrize("thread", [False, True])
def test_kill_9_of_a_run_leaves_nothing_of_its_commands(seconds: str, what: str, thread: bool) -> None:
    start = "threading.Thread(target=work).start()" if thread else "work()"
    code = f"import sys, threading\nfrom pipeline.run import run\nwork = lambda: run(sys.argv[1:])\n{start}"
    script = COMMANDS[what].replace("SECONDS", seconds)
    with a_run(code, "sh", "-c", script) as killed:
        until(lambda: len(sleepers(seconds)) == script.count("sleep"))
        with must_end({*descendants(killed.pid), *sleepers(seconds)}):
            killed.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("how", ["pass", "1 / 0", "import os; os.kill(os.getpid(), 15)"])
def test_every_other_end_of_a_run_leaves_nothing_either(seconds: str, how: str) -> None:
    code = f"import sys\nfrom pipeline.run import run\nrun(['sh', '-c', sys.argv[1]])\nsys.stderr.close()\n{how}\n"
    script = f"setsid sleep {seconds} >/dev/null 2>&1 & echo"
    with a_run(code, script) as ended:
        ended.wait(timeout=PATIENCE)
    until(lambda: not sleepers(seconds))


def test_what_is_to_last_is_left_alone(seconds: str) -> None:
    code = """
import sys
from pipeline.run import run, spawn, stream
run(["true"])
with spawn(["sh", "-c", sys.argv[1]], lasting=True, stdin=-1) as process:
    process.wait()
"""
    with a_run(code, f"setsid sleep {seconds} >/dev/null 2>&1 & read _ || :") as killed:
        until(lambda: sleepers(seconds))
        with must_end(pid for pid in descendants(killed.pid) if "strays" in command(pid)):
            killed.send_signal(signal.SIGKILL)
    assert sleepers(seconds)


def test_a_run_within_a_run_is_ended_with_it(seconds: str) -> None:
    inner = f"from pipeline.run import run; run(['sh', '-c', 'setsid sleep {seconds}; :'])"
    code = f"import sys\nfrom pipeline.run import run\nrun([sys.executable, '-c', {inner!r}])"
    with a_run(code) as killed:
        until(lambda: sleepers(seconds))
        with must_end([*descendants(killed.pid), *sleepers(seconds)]):
            killed.send_signal(signal.SIGKILL)


# --- runs as they are


def test_kill_9_ends_a_machine_that_is_tried_and_hangs() -> None:
    """An accelerator in which a kernel hangs would keep a processor busy for good."""
    kernel = accelerator.host_kernel()
    code = """
import sys
from pathlib import Path
from pipeline.virt import accelerator
accelerator._boot(Path(sys.argv[1]), "tcg", within=1000)
"""
    with a_run(code, kernel) as killed:
        until(lambda: any("qemu-system" in command(pid) for pid in descendants(killed.pid)))
        seen = descendants(killed.pid)
        for pid in seen:
            if "qemu-system" in command(pid):
                os.kill(pid, signal.SIGSTOP)
        with must_end(seen):
            killed.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_kill_9_ends_the_machine_that_looks_into_a_disk(tmp_path: Path) -> None:
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(1 << 20)
    code = """
import sys
from pathlib import Path
from pipeline import appliance
disk = Path(sys.argv[1])
appliance.inspect(disk, "raw", cache=disk.with_name("cache"))
"""
    with a_run(code, tmp_path / "disk.img") as killed:
        until(lambda: any(" -append " in command(pid) for pid in descendants(killed.pid)), within=120)
        with must_end(descendants(killed.pid)):
            killed.send_signal(signal.SIGKILL)


def test_kill_9_ends_an_upload_on_both_sides_of_its_connection(tmp_path: Path, seconds: str) -> None:
    (tmp_path / "ssh").write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ] && [ "$1" != there ]; do shift; done\n'
        f'shift\nsleep {seconds} &\nexec sh -c "sleep {seconds}; $*"\n'
    )
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "disk").write_text("x")
    code = """
import sys
from pathlib import Path
from pipeline.hosts import access
way = access.of(f"xen+ssh://admin@there/system?command={sys.argv[1]}/ssh")
way.upload(Path(sys.argv[1], "disk"), "/nowhere")
"""
    with a_run(code, tmp_path) as killed:
        until(lambda: len(sleepers(seconds)) == 2)
        seen = descendants(killed.pid)
        assert any(command(pid).startswith("/usr/bin/rsync") for pid in seen)
        with must_end(seen):
            killed.send_signal(signal.SIGKILL)
