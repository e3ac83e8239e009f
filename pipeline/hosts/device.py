"""Runs on a VM container: does something with a block device while it is nobody else's.

    python3 -c TEXT DEVICE COMMAND...

It is sent there as text and knows nothing but Python's own library.  Three kinds of users have to be asked for one by
one: the kernel's own (mounts, of whatever namespace, swap, volumes, RAIDs), which claim a device, and so does this
program until the command has ended; processes, which need not; and other domains, whose disks the kernel hands on
without claiming them.  Who has it open for a moment only, as udev does after a change, is waited for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds that a user may take to leave, and between two looks.
PATIENCE, INTERVAL = 3.0, 0.2

_BACKEND = re.compile(r'^/local/domain/0/backend/[^/]+/(\d+)/[^/]+/physical-device = "([0-9a-f]+):([0-9a-f]+)"$', re.M)


def claim(device: str) -> int:
    """A descriptor with which the device is this process's; -1 where the kernel has it."""
    try:
        return os.open(device, os.O_RDONLY | os.O_EXCL)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return -1


def output(*words: str) -> str:
    """What a command writes; it must not fail."""
    return subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True, errors="replace").stdout


def related(device: str, *options: str) -> set[int]:
    """The numbers of the device and of what lies on it (partitions, volumes); `--inverse`: of what it lies on."""
    said = output("lsblk", "--noheadings", "--raw", "--output", "MAJ:MIN", *options, device)
    return {os.makedev(*map(int, number.split(":"))) for number in said.split()}


def processes(numbers: set[int]) -> Iterator[str]:
    """The processes that have one of these devices open."""
    others = (process for process in Path("/proc").glob("[0-9]*") if process.name != str(os.getpid()))
    for process in others:
        with contextlib.suppress(OSError):  # it may end meanwhile
            if any(is_one_of(file, numbers) for file in (process / "fd").iterdir()):
                yield f"{(process / 'comm').read_text(errors='replace').strip()} (process {process.name}) has it open"


def is_one_of(file: Path, numbers: set[int]) -> bool:
    """Whether what a process has open there is one of these devices."""
    with contextlib.suppress(OSError):
        state = file.stat()
        return stat.S_ISBLK(state.st_mode) and state.st_rdev in numbers
    return False


def domains(numbers: set[int]) -> Iterator[str]:
    """The domains that have one of these devices as a disk."""
    for domain, major, minor in _BACKEND.findall(output("xenstore-ls", "-f", "/local/domain/0")):
        if os.makedev(int(major, 16), int(minor, 16)) in numbers:
            yield f"it is a disk of the domain {name_of(domain)}"


def name_of(domain: str) -> str:
    """Its name, or its number where it is about to end."""
    try:
        return output("xl", "domname", domain).strip()
    except subprocess.CalledProcessError:
        return domain


def users(device: str, claimed: bool) -> Iterator[str]:
    """Who uses the device: a domain also by having the whole of what this is a part of."""
    numbers = related(device)
    yield from domains(numbers | related(device, "--inverse"))
    yield from processes(numbers)
    if not claimed:
        yield "something holds it that does not show here: a mount elsewhere, swap, volumes or a RAID"


def main(device: str, *command: str) -> None:
    """Become the command, or end with the reason why not."""
    end = time.monotonic() + PATIENCE
    while True:
        claimed = claim(device)
        user = next(users(device, claimed >= 0), "")
        if not user:
            os.set_inheritable(claimed, True)
            os.execvp(command[0], command)
        if claimed >= 0:
            os.close(claimed)
        if time.monotonic() > end:
            sys.exit(user)
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main(*sys.argv[1:])
