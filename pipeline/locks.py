"""Locks on files.  The kernel lets go of one when whoever holds it ends, however that ends: nothing stays locked.

Lock files may be removed by whoever holds them alone, so a lock counts only while its file still has its name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

#: flock(2) has no deadline of its own, so one asks again and again, seldom.
_INTERVAL = 0.2


class Busy(Exception):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def locked(
    file: Path, *, shared: bool = False, within: float | None = None, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the lock in the block: alone, or together with others who share it.

    It is waited for, for `within` seconds at most where that is given (0: not at all); then it is Busy.  `waiting` is
    called once when one has to wait.
    """
    deadline = None if within is None else time.monotonic() + within
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _take(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, deadline, waiting)
            if _is(file, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _take(descriptor: int, how: int, deadline: float | None, waiting: Callable[[], None] | None) -> None:
    while True:
        try:
            fcntl.flock(descriptor, how if deadline is None and waiting is None else how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                raise Busy from None
            if waiting is not None:
                waiting()
                waiting = None
            time.sleep(_INTERVAL)


def _is(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
