"""Runs on a VM container: sends what machines write to their consoles and reports, until standard input ends.

    python3 -c TEXT [LABEL FILE SEEN]...      each file from byte SEEN on

It is sent there as text and knows nothing but Python's own library.  What goes out are pieces: a line `LABEL LENGTH
SEEN`, the number of bytes that follow and where the next piece of that file begins, and then these bytes.  One
process writes all of them, so whatever the bytes are, no machine's can pass for another's.  What the container's own
kernel says is sent as if it came from a file of that name.

A file may be emptied, or set aside for a new one that begins where it ended (as virtlogd does).  Who writes faster than
one reads is passed over, and a file that got large is emptied once it has been sent, for xenconsoled would fill the
disk.
"""

from __future__ import annotations

import os
import resource
import select
import sys
from pathlib import Path
from typing import BinaryIO

#: Seconds between two looks; at whoever waits, consoles are looked at no more often.
INTERVAL = 0.25
#: Bytes of one piece, how far behind one may be, and what a file may have.
PIECE, BACKLOG, LIMIT = 64 * 1024, 1024 * 1024, 8 * 1024 * 1024

KERNEL = "console/_host"
#: An empty piece of that label follows when all has been sent that was there in the beginning.
CAUGHT_UP = "-"


class Log:
    """What one machine writes to one file."""

    def __init__(self, label: str, path: str, seen: int) -> None:
        self.label = label
        self.path = Path(path)
        self.seen = seen
        self.file: BinaryIO | None = None
        self.opened = os.stat_result((0,) * 10)

    def send(self, out: BinaryIO) -> bool:
        """Send the next piece; whether there is another one."""
        try:
            state = self.path.stat()
            if self.file is None:
                self.file, self.opened = self.path.open("rb", buffering=0), state
        except FileNotFoundError:  # nothing has been written yet, or the next one is about to come
            return False
        current = (state.st_dev, state.st_ino) == (self.opened.st_dev, self.opened.st_ino)
        size = state.st_size if current else os.fstat(self.file.fileno()).st_size
        if size < self.seen:  # the file was emptied
            self.seen = 0
        if size - self.seen > BACKLOG:
            self.seen = size - PIECE
        if size > self.seen:
            self.file.seek(self.seen)
            data = self.file.read(PIECE)
            self.seen += len(data)
            send(out, self.label, data, self.seen)
        elif not current:  # all that is in the older one has been sent
            self.file.close()
            self.file, self.seen = None, 0
            return True
        elif size > LIMIT:
            os.truncate(self.path, 0)
        return self.seen < size


class Kernel:
    """What the kernel says from now on, as `dmesg` shows it."""

    def __init__(self) -> None:
        self.descriptor = -1
        try:
            self.descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self.descriptor, 0, os.SEEK_END)
        except OSError:
            pass

    def send(self, out: BinaryIO) -> bool:
        """Send the next message; whether there may be another one."""
        if self.descriptor < 0:
            return False
        try:
            record = os.read(self.descriptor, 8192)
        except BlockingIOError:
            return False
        except BrokenPipeError:  # some have been overwritten before they were read
            return True
        head, _, text = record.partition(b"\n")[0].partition(b";")
        when = int(head.split(b",")[2])
        send(out, KERNEL, b"[%5d.%06d] %s\n" % (when // 10**6, when % 10**6, text), 0)
        return True


def send(out: BinaryIO, label: str, data: bytes, seen: int) -> None:
    """Send one piece."""
    out.write(f"{label} {len(data)} {seen}\n".encode() + data)
    out.flush()


def main(*words: str) -> None:
    """Until standard input ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a file stays open for as long as it is followed
    logs = [Log(words[place], words[place + 1], int(words[place + 2])) for place in range(0, len(words), 3)]
    kernel = Kernel()
    more, caught_up = False, False
    while not select.select([0], [], [], 0 if more else INTERVAL)[0]:
        sent = [log.send(sys.stdout.buffer) for log in logs]
        more = kernel.send(sys.stdout.buffer) or any(sent)
        if not more and not caught_up:
            caught_up = True
            send(sys.stdout.buffer, CAUGHT_UP, b"", 0)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BrokenPipeError:
        os._exit(0)
