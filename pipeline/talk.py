"""The talk with a command: what is written to it and what it says, for as long as it runs and no longer.

What a command has started and left behind may keep its pipes open; nobody waits for that.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import IO

#: Bytes that are written to a pipe or read from it at a time.
_PIPE = 1 << 16
#: Bytes of output that are kept of one command; one that says more is ended.
_MOST = 256 << 20
#: Seconds in which output may still come once a command has ended.
_GRACE = 5.0


class Talk:
    """What is written to a command and what it says, for as long as it runs and no longer."""

    def __init__(self, process: subprocess.Popen[bytes], end: Callable[[subprocess.Popen[bytes]], None]) -> None:
        """`end` ends the command with all that it has started."""
        self._process = process
        self._end = end
        self._said = {pipe: bytearray() for pipe in (process.stdout, process.stderr) if pipe is not None}
        self._pipes = selectors.DefaultSelector()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipes.close()
        for pipe in (self._process.stdin, *self._said):
            if pipe is not None:
                pipe.close()

    def of(self, pipe: IO[bytes] | None) -> bytes:
        """What came through a pipe."""
        return bytes(self._said[pipe]) if pipe is not None else b""

    @property
    def last(self) -> bytes:
        """What explains a failure best."""
        return self.of(self._process.stderr) or self.of(self._process.stdout)

    def hold(self, input: bytes, timeout: float) -> str:
        """Talk until the command has ended; "", or why it must be ended: it takes too long, or says too much.

        What it has started and left behind may keep its pipes open; that is ended soon.
        """
        deadline = time.monotonic() + timeout
        left = memoryview(input)
        for pipe in self._said:
            self._pipes.register(pipe, selectors.EVENT_READ, pipe)
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)
            self._pipes.register(self._process.stdin, selectors.EVENT_WRITE)
        with _ended(self._process) as ended:
            self._pipes.register(ended, selectors.EVENT_READ)
            while self._pipes.get_map():
                ready = self._pipes.select(max(0.0, deadline - time.monotonic()))
                if not ready and ended in self._pipes.get_map():
                    return f"no end after {timeout:g} s"
                if not ready:
                    self._end(self._process)
                    break
                for key, _ in ready:
                    if key.fileobj == ended:
                        self._pipes.unregister(ended)
                        deadline = min(deadline, time.monotonic() + _GRACE)
                    elif key.fileobj is self._process.stdin:
                        left = self._write(left)
                    elif not self._read(key.data):
                        self._pipes.unregister(key.fileobj)
                if sum(map(len, self._said.values())) > _MOST:
                    return f"more than {_MOST >> 20} MiB of output"
        self._process.wait()
        return ""

    def _write(self, left: memoryview) -> memoryview:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has read what it wanted
            left = left[os.write(self._process.stdin.fileno(), left[:_PIPE]) :]
            if left:
                return left
        self._pipes.unregister(self._process.stdin)
        self._process.stdin.close()
        return left

    def _read(self, pipe: IO[bytes]) -> bool:
        """Take what has come; false at the end."""
        data = os.read(pipe.fileno(), _PIPE)
        self._said[pipe] += data
        return bool(data)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """A descriptor that becomes readable when the process ends."""
    descriptor = os.pidfd_open(process.pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
