"""Starting workers: one process of ours forks them all (`nursery`), for as long as its modules are what they were.

A builder's key is a hash over the source of its modules.  So a process that had imported them before they were changed
last forks no worker for it: another one is started.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pipeline import sandbox, signature
from pipeline.errors import BuildError, UserError
from pipeline.run import spawn

_TOP = Path(__file__).resolve().parents[1]

#: Seconds in which a worker is forked; a second, on a machine that has much to do.
_PATIENCE = 60.0


class Worker:
    """A worker that runs: what it says is read from `said`."""

    def __init__(self, said: IO[bytes], process: int, answer: socket.socket) -> None:
        self.said = said
        self._process = process
        self._answer = answer

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit status; a signal's number below zero, and SIGKILL's where nobody is left to tell."""
        return int(self._answer.recv(16) or -signal.SIGKILL)

    def close(self) -> None:
        """It ends, if it still runs."""
        self.kill()
        self.said.close()
        self._answer.close()
        os.close(self._process)


@contextlib.contextmanager
def started(module: str, changed: int, order: Mapping[str, Any], job: bytes, *, log: IO[bytes]) -> Iterator[Worker]:
    """A worker that is given a job; leaving the block ends it.

    `module` is its builder's, and `changed` when that or a module which it imports was changed last (time.time_ns()).
    `order` is what `nursery` reads: memory, environment and the plan of its namespaces.
    """
    with contextlib.ExitStack() as stack:
        given = stack.enter_context(contextlib.closing(os.fdopen(os.memfd_create("job"), "r+b")))
        given.write(json.dumps(order).encode() + b"\n" + job)
        given.flush()
        worker = _asked(module, changed, given.fileno(), log)
        stack.callback(worker.close)
        yield worker


def prepare() -> None:
    """Have the first workers begin sooner: somebody is about to want some, and this process is busy until then."""
    threading.Thread(target=_prepare, name="prepare", daemon=True).start()


def _prepare() -> None:
    with contextlib.suppress(OSError, UserError):  # told to who wants a worker
        _nursery.prepare()
        sandbox.identity()


def _asked(module: str, changed: int, given: int, log: IO[bytes]) -> Worker:
    """Ask twice: who is asked may just have ended, for want of something to do."""
    for anew in (False, True):
        with contextlib.ExitStack() as failing:
            os.lseek(given, 0, os.SEEK_SET)
            read, write = os.pipe()
            said = failing.enter_context(os.fdopen(read, "rb"))
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failing.callback(ours.close)
            with contextlib.closing(theirs), contextlib.closing(os.fdopen(write, "wb")):
                _nursery.ask(module, changed, [given, write, log.fileno(), theirs.fileno()], anew=anew)
            process = _answer(ours)
            if process is not None:
                failing.pop_all()
                return Worker(said, process, ours)
    complaints = Path(log.name)
    raise BuildError(
        "no process can be started for a builder",
        hint="`doit doctor` says what this machine forbids",
        log=complaints,
        tail=complaints.read_text(errors="replace"),
    )


def _answer(answer: socket.socket) -> int | None:
    """The descriptor of a worker's process, or None."""
    answer.settimeout(_PATIENCE)
    try:
        process = socket.recv_fds(answer, 1, 1)[1]
    except (TimeoutError, ConnectionResetError):
        return None
    answer.settimeout(None)
    return process[0] if process else None


class _Nursery:
    """The process that forks workers, when there is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = 0
        self._socket: socket.socket | None = None
        self._has_ended: Callable[[], bool] = lambda: True
        self._held = contextlib.ExitStack()
        atexit.register(self._held.close)

    def prepare(self) -> None:
        with self._lock:
            if self._has_ended():
                self._start(subprocess.DEVNULL)  # where it cannot run, it is started anew for who wants it, and tells

    def ask(self, module: str, changed: int, descriptors: list[int], *, anew: bool) -> None:
        """Have a worker forked, by a new process if the one that is there has ended or the modules are younger.

        One that is left behind ends by itself when its workers have.
        """
        with self._lock:
            if anew or self._has_ended() or not signature.is_before(changed, self._began):
                self._start(descriptors[2])
            assert self._socket is not None
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # then nobody answers
                socket.send_fds(self._socket, [module.encode()], descriptors)

    def _start(self, log: int) -> None:
        """In an ordinary user's namespace, where it is root; it complains to the log of who wants it first."""
        prefix = sandbox.AS_ROOT_INSIDE if os.geteuid() != 0 else ()
        self._began = time.time_ns()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._held.callback(self._socket.close)
        with contextlib.closing(theirs):
            process = self._held.enter_context(
                spawn(
                    [*prefix, sys.executable, "-m", "pipeline.nursery"],
                    env={"PYTHONPATH": str(_TOP)},
                    cwd=Path("/"),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                )
            )
        self._has_ended = lambda: process.poll() is not None


_nursery = _Nursery()
