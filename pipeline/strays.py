"""What a run has started and what is left of it: found by a mark in its environment, wherever it has gone to.

A process group ends with its leader's signal, but not what has left it: daemons, and what a program puts into a
session of its own.  Every command carries a mark that all its descendants inherit.  Nothing but SIGKILL of the run
itself needs more: `guard` starts a small process that waits for the run's end, however it comes, and ends what is left.

The guard starts this file by its name and without any of ours, so that it is small and there at once.
"""

# Importing pathlib would take longer than all else that the guard does.
# ruff: noqa: PTH208

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

#: The environment variable with the marks of all runs that a process descends from.
VARIABLE = "XEN_OSCAR_RUN"

#: How often what does not end is looked for again, and the seconds between.
_ROUNDS, _PAUSE = 100, 0.1


def end(mark: str) -> None:
    """Kill every process that carries `mark`; returns when none is left."""
    end_all(lambda pid: mark.encode() in _environment(pid))


def end_all(belongs: Callable[[int], bool]) -> None:
    """Kill every process but this one that `belongs`, and what those start meanwhile; returns when none is left.

    `belongs` may raise OSError for one that has ended, or is not ours.
    """
    for _ in range(_ROUNDS):
        found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        if not [pid for pid in found if pid != os.getpid() and _killed(pid, belongs)]:
            return
        time.sleep(_PAUSE)


def _killed(pid: int, belongs: Callable[[int], bool]) -> bool:
    """Kill a process if it belongs; looked at through a descriptor, so that it can't become another one meanwhile."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if belongs(pid):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return True
        finally:
            os.close(descriptor)
    return False


def _environment(pid: int) -> bytes:
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()


def main(mark: str) -> None:
    """Wait until standard input ends, which it does with the process that holds its other end."""
    os.read(0, 1)
    end(mark)


if __name__ == "__main__":
    main(sys.argv[1])
