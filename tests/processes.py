"""Processes as tests look at them: by what the kernel says, and held by descriptors, so that no id is taken twice."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

#: Seconds for what takes a moment, on a busy machine.
PATIENCE = 20.0


def descendants(pid: int) -> list[int]:
    """All that a process has started and what that has started, as far as nobody on the way has ended."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            found.extend(map(int, file.read_text().split()))
    return [*found, *(item for child in found for item in descendants(child))]


@contextlib.contextmanager
def must_end(pids: Iterable[int]) -> Iterator[None]:
    """When the block is left these processes, which live before it, end soon."""
    held = {pid: os.pidfd_open(pid) for pid in pids}
    try:
        yield
        deadline = time.monotonic() + PATIENCE
        for pid, descriptor in held.items():
            left = max(0.0, deadline - time.monotonic())
            assert select.select([descriptor], [], [], left)[0], f"still there: {command(pid)}"
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def command(pid: int) -> str:
    """The command line of a process, "" where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def until(happened: Callable[[], object], within: float = PATIENCE) -> None:
    """Wait for what has no event of its own."""
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
