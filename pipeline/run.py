"""The only place that starts a process.

Commands are argument lists, never shell text.  Standard input is closed, the environment is small and explicit,
every command has a deadline, and each runs in a process group of its own so that an interrupted run can end all
of them.  What has left its group, and what is there when this process is killed, is found by its mark (`strays`).
A failure shows the command as `shlex.join` does, ready to paste.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from pipeline import strays
from pipeline.errors import CommandError
from pipeline.talk import Talk

#: The environment commands start with: nothing of the caller's but where tools and the home folder are.
_INHERITED = ("HOME", "PATH", "TERM", "USER", "LOGNAME", "TMPDIR")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: The programs that may be started, None = any: see `permit_only`.
_permitted: frozenset[str] | None = None
#: What starts other programs and leaves no trace in what they make.
_STARTERS = frozenset({"setpriv", "unshare", "rm", "sh", Path(sys.executable).name})

#: Bytes of a line that are handed on at a time, and of complaints that are kept.
_PIECE, _KEPT = 1 << 20, 8192

#: Seconds that a command has to heed a signal.
_GRACE = 5.0

#: What all commands of this process are marked with, and what each of them has besides.
_mark = os.urandom(8).hex()
_numbers = itertools.count(1)

_running: dict[subprocess.Popen[bytes], _Started] = {}
#: Threads that clean up.
_cleaning: set[int] = set()
_guard: subprocess.Popen[bytes] | None = None
_lock = threading.Lock()


@dataclass(frozen=True)
class _Started:
    """What is known of a command that runs: its own mark, and the thread that has started it."""

    mark: str
    thread: int


@dataclass(frozen=True)
class Completed:
    """What a finished command left: exit status, and its output where that was captured."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The small environment that commands get, plus `extra`."""
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    path = [*env.get("PATH", "").split(":"), *_SYSTEM_PATH.split(":")]
    env["PATH"] = ":".join(dict.fromkeys(part for part in path if part))
    env["LC_ALL"] = "C.UTF-8"
    env.update(extra or {})
    return env


def which(tool: str, path: str = "") -> str | None:
    """The full path of `tool` on `path`, by default the one that commands get (`/usr/sbin` included), or None."""
    return shutil.which(tool, path=path or environment()["PATH"])


def permit_only(tools: Iterable[str]) -> None:
    """From now on this process starts no other programs: a builder's keys cover the versions of those it names."""
    global _permitted
    _permitted = _STARTERS | frozenset(tools)


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    input: bytes | None = None,
    timeout: float = 600,
    check: bool = True,
    hint: str = "",
    instead_of_exec: Callable[[], NoReturn] | None = None,
) -> Completed:
    """Run a command to its end.

    With `log`, standard output and error are appended to that file, else they are captured.  `timeout` is in
    seconds.  `instead_of_exec` does in the forked child what the command would do, and does not return; the command is
    started all the same where this process has other threads: a lock that one of those holds stays locked in a child.
    Raises CommandError when the command is missing, fails (unless `check` is false) or takes too long.
    """
    words = [str(word) for word in argv]
    with contextlib.ExitStack() as stack:
        sink: IO[bytes] | int = subprocess.PIPE
        if log is not None:
            sink = stack.enter_context(log.open("ab"))
            sink.write(f"$ {shlex.join(words)}\n".encode())
            sink.flush()
        process = stack.enter_context(
            spawn(
                words,
                env=env,
                cwd=cwd,
                stdin=subprocess.PIPE if input is not None else None,
                stdout=sink,
                stderr=subprocess.STDOUT if log is not None else subprocess.PIPE,
                instead_of_exec=instead_of_exec,
            )
        )
        with Talk(process, end) as talk:
            trouble = talk.hold(input or b"", timeout)
            if trouble:
                end(process)
                raise CommandError(f"{trouble}: {shlex.join(words)}", hint=hint, log=log, tail=_tail(log, talk.last))
    done = Completed(tuple(words), process.returncode, _text(talk.of(process.stdout)), _text(talk.of(process.stderr)))
    if check and done.status != 0:
        raise CommandError(
            f"{_ending(done.status)}: {shlex.join(words)}", hint=hint, log=log, tail=_tail(log, talk.last)
        )
    return done


def stream(argv: Sequence[str | Path], *, input: bytes, timeout: float) -> Iterator[bytes]:
    """Run a command with that input: what it prints, line by line as it comes, lines longer than _PIECE in pieces.

    Raises CommandError at the end of that when the command fails, or takes longer than `timeout` seconds.
    """
    words = [str(word) for word in argv]
    with tempfile.TemporaryFile() as given:
        given.write(input)
        given.seek(0)
        with (
            spawn(words, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
            _Attending(process, timeout) as attending,
        ):
            assert process.stdout is not None
            while line := process.stdout.readline(_PIECE):
                yield line
            process.wait()
    if attending.late:
        raise CommandError(f"no end after {timeout:g} s: {shlex.join(words)}", tail=attending.said)
    if process.returncode:
        raise CommandError(f"exit status {process.returncode}: {shlex.join(words)}", tail=attending.said)


class _Attending:
    """While somebody reads what a command prints: keeps the end of its complaints, and ends it when it is late."""

    def __init__(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        self.late = False
        self.said = ""
        self._process = process
        self._timer = threading.Timer(timeout, self._end)
        self._thread = threading.Thread(target=self._listen, name="complaints", daemon=True)

    def __enter__(self) -> _Attending:
        self._timer.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._process.poll() is None:  # nobody wants the rest
            end(self._process)
        self._thread.join(timeout=5)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        kept = b""
        while data := os.read(self._process.stderr.fileno(), _KEPT):
            kept = (kept + data)[-_KEPT:]
            self.said = _tail(None, kept)

    def _end(self) -> None:
        self.late = True
        end(self._process)


def _ending(status: int) -> str:
    """How a command ended, in words."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"


@contextlib.contextmanager
def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: IO[bytes] | int | None = None,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    pass_fds: Sequence[int] = (),
    lasting: bool = False,
    instead_of_exec: Callable[[], NoReturn] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process group of its own; leaving the block ends it if it still runs.

    However this process ends, the command and all that it starts end as well; not so one that is `lasting`, which
    has to know by itself when to end.
    """
    words = [str(word) for word in argv]
    if _permitted is not None and Path(words[0]).name not in _permitted:
        raise RuntimeError(f"{words[0]} is not among the tools of this step, so its version would be in no key")
    path = which(words[0])
    if path is None:
        raise CommandError(f"{words[0]}: command not found", hint="run ./bootstrap: it installs what is missing")
    mark = f"{_mark}.{next(_numbers)};"
    if not lasting:
        _watch_over()
    process = subprocess.Popen(  # but for the guard, the one and only
        [path, *words[1:]],
        env=environment(env) | ({} if lasting else _marked(mark)),
        cwd=cwd,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        pass_fds=pass_fds,
        preexec_fn=instead_of_exec if threading.active_count() == 1 else None,  # noqa: PLW1509
    )
    with _lock:
        _running[process] = _Started(mark, threading.get_ident())
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)
        with _lock:
            _running.pop(process, None)


def first_line(process: subprocess.Popen[bytes], within: float) -> bytes | None:
    """The first line that a command says on standard output; empty if it ends before, None after `within` seconds."""
    assert process.stdout is not None
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    return process.stdout.readline() if poll.poll(within * 1000) else None


def end(process: subprocess.Popen[bytes], grace: float = _GRACE) -> None:
    """End a command and all that it has started: SIGTERM to its group, and SIGKILL after `grace` seconds."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        _signal(process, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace)
            break
    if process in _running:
        strays.end(_running[process].mark)


@contextlib.contextmanager
def cleaning_up() -> Iterator[None]:
    """Within the block this thread tidies up after a failure or an interrupt: `end_all` spares its commands."""
    thread = threading.get_ident()
    with _lock:
        _cleaning.add(thread)
    try:
        yield
    finally:
        with _lock:
            _cleaning.discard(thread)


def cleans_up(thread: int) -> bool:
    """Whether that thread is cleaning up."""
    return thread in _cleaning


def end_all() -> None:
    """End every command that still runs, but for what cleans up; called when the whole run is interrupted."""
    with _lock:
        processes = [process for process, started in _running.items() if started.thread not in _cleaning]
    for process in processes:
        _signal(process, signal.SIGTERM)
    for process in processes:
        end(process)


def _signal(process: subprocess.Popen[bytes], sig: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, sig)


def _marked(mark: str) -> dict[str, str]:
    """The environment of what this process starts, which may be of a marked one itself."""
    return {strays.VARIABLE: f"{os.environ.get(strays.VARIABLE, '')}{mark}"}


def _watch_over() -> None:
    """Have somebody end all that is marked when this process ends, even by SIGKILL."""
    global _guard
    with _lock:
        if _guard is not None or os.getpid() == 1:  # the kernel itself ends all of a namespace with its process 1
            return
        _guard = subprocess.Popen(
            [sys.executable, "-I", "-S", strays.__file__, _mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        atexit.register(_dismiss, _guard)


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    """End all that is left, and the guard, which would do the same a moment later."""
    strays.end(_mark)
    guard.kill()
    guard.communicate()


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def _tail(log: Path | None, captured: bytes, lines: int = 12) -> str:
    if log is not None:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            captured = file.read()
    return "\n".join(_text(captured[-8192:]).splitlines()[-lines:])
