"""Runs on a VM container: sends what machines write to their consoles, until standard input ends.

    python3 -c TEXT FOLDER PREFIX [NAME SEEN]...      files FOLDER/PREFIX-NAME.log, each from byte SEEN on

It is sent there as text and knows nothing but Python's own library.  What goes out are pieces: a line `NAME LENGTH
SEEN`, the number of bytes that follow and where the next piece of that machine begins, and then these bytes.  One
process writes all of them, so whatever the bytes are, no machine's can pass for another's.  What the container's own
kernel says is sent as if a machine "_dom0" had written it.

Who writes faster than one reads is passed over, and a file that got large is emptied once it has been sent, for
xenconsoled would fill the disk.
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from typing import BinaryIO

#: Seconds between two looks; at whoever waits, consoles are looked at no more often.
INTERVAL = 0.25
#: Bytes of one piece, how far behind one may be, and what a file may have.
PIECE, BACKLOG, LIMIT = 64 * 1024, 1024 * 1024, 8 * 1024 * 1024

KERNEL = "_dom0"


class Log:
    """What one machine writes."""

    def __init__(self, name: str, path: str, seen: int) -> None:
        self.name = name
        self.path = Path(path)
        self.seen = seen

    def send(self, out: BinaryIO) -> bool:
        """Send the next piece; whether there is another one."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:  # it has not written yet
            return False
        if size < self.seen:  # the file was emptied
            self.seen = 0
        if size - self.seen > BACKLOG:
            self.seen = size - PIECE
        if size > self.seen:
            with self.path.open("rb") as file:
                file.seek(self.seen)
                data = file.read(PIECE)
            self.seen += len(data)
            send(out, self.name, data, self.seen)
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


def send(out: BinaryIO, name: str, data: bytes, seen: int) -> None:
    """Send one piece."""
    out.write(f"{name} {len(data)} {seen}\n".encode() + data)
    out.flush()


def main(folder: str, prefix: str, *words: str) -> None:
    """Until standard input ends."""
    logs = [Log(words[place], f"{folder}/{prefix}-{words[place]}.log", int(words[place + 1]))
            for place in range(0, len(words), 2)]
    kernel = Kernel()
    more = False
    while not select.select([0], [], [], 0 if more else INTERVAL)[0]:
        sent = [log.send(sys.stdout.buffer) for log in logs]
        more = kernel.send(sys.stdout.buffer) or any(sent)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BrokenPipeError:
        os._exit(0)
