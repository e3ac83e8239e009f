"""A file that a machine fills, read line by line as it grows.

Whoever fills it may write faster than anybody reads, lines without an end, or both.  So one look takes a bounded
amount, of a long line the beginning and the end are kept, and what was passed over is counted.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

from inotify_simple import INotify
from inotify_simple import flags as inotify

from pipeline.virt import logs

#: Bytes that one look takes from the file.
_LOOK = 128 * 1024
#: Further behind than this, it goes on near the file's end.
_BACKLOG = 1024 * 1024
#: Of one line: all that is kept, and how much of that is its end, in which a kernel may have said its last words.
_LINE, _LINE_END = 64 * 1024, 4 * 1024

_CHANGES = inotify.CREATE | inotify.MODIFY | inotify.MOVED_TO


class Changes:
    """Tells by its descriptor that files of a folder have changed; before `due` it is not worth asking again."""

    def __init__(self, folder: Path, interval: float) -> None:
        self.due = 0.0
        self._interval = interval
        self._inotify = INotify()
        self._inotify.add_watch(folder, _CHANGES)

    def fileno(self) -> int:
        return int(self._inotify.fileno())

    def take(self) -> None:
        """Begin anew."""
        self._inotify.read(timeout=0)
        self.due = time.monotonic() + self._interval

    def close(self) -> None:
        self._inotify.close()


class Lines:
    """Lines in bytes that come in pieces.  `passed_over`: bytes of lines that were too long to be kept."""

    def __init__(self) -> None:
        self.passed_over = 0
        self.unfinished = b""

    def take(self, data: bytes) -> list[bytes]:
        """The lines that end in the next piece."""
        *ended, self.unfinished = map(self._shorten, (self.unfinished + data).split(b"\n"))
        return ended

    def break_off(self) -> list[bytes]:
        """The line that has not ended and will not, if there is one."""
        line, self.unfinished = self.unfinished, b""
        return [line] if line else []

    def _shorten(self, line: bytes) -> bytes:
        if len(line) <= _LINE:
            return line
        # what has been overwritten nobody would see, as the percentages of a long copy
        line = line[line.rstrip(b"\r").rfind(b"\r") + 1 :]
        over = max(0, len(line) - _LINE)
        self.passed_over += over
        return line[: _LINE - _LINE_END] + line[-_LINE_END:] if over else line


class Growing:
    """Lines of a file, which may be truncated or replaced meanwhile.

    `behind`: there was more than one look takes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = Lines()
        self._jumped = 0
        self.restart()

    def restart(self) -> None:
        """Begin with the file's first line, whatever has been read so far."""
        self._offset, self._inode, self.behind = 0, 0, False
        self._lines.break_off()

    def skip(self) -> None:
        """Pass over what stands in it now."""
        self.restart()
        if self._path.exists():
            state = self._path.stat()
            self._offset, self._inode = state.st_size, state.st_ino

    @property
    def passed_over(self) -> int:
        """Bytes that stood in it and were not looked at, because there were too many."""
        return self._jumped + self._lines.passed_over

    @property
    def unfinished(self) -> bytes:
        """The beginning of a line that has not ended yet: a prompt, or half of a message."""
        return self._lines.unfinished

    def lines(self) -> list[bytes]:
        """The lines that have ended since the last call."""
        try:
            with self._path.open("rb", buffering=0) as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode == self._inode:
                    return self._read(file)
                ended = self._end_of_older()
                if not self.behind:
                    self._offset, self._inode = 0, inode
                    self._lines.break_off()
                    ended += self._read(file)
                return ended
        except FileNotFoundError:
            return []

    def _end_of_older(self) -> list[bytes]:
        """What has come into the file since the last look, if it was set aside meanwhile and not just replaced."""
        try:
            with logs.older(self._path).open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_ino == self._inode:
                    ended = self._read(file)
                    return ended if self.behind else ended + self._lines.break_off()
        except FileNotFoundError:
            pass
        return []

    def _read(self, file: IO[bytes]) -> list[bytes]:
        size = os.fstat(file.fileno()).st_size
        if size < self._offset:  # it was truncated
            self._offset = 0
            self._lines.break_off()
        file.seek(self._offset)
        data = file.read(_LOOK)
        self._offset += len(data)
        ended = self._lines.take(data)
        if size - self._offset > _BACKLOG:
            ended += [*self._lines.break_off(), *self._jump(file, size - _LOOK)]
        self.behind = size > self._offset
        return ended

    def _jump(self, file: IO[bytes], offset: int) -> list[bytes]:
        """Go on with the first whole line behind `offset`."""
        file.seek(offset)
        data = file.read(_LOOK)
        begin = data.find(b"\n") + 1
        self._jumped += offset + begin - self._offset
        self._offset = offset + len(data)
        return self._lines.take(data[begin:])
