"""Keeps what comes from a VM container of its machines' consoles, in the run folder, as QEMU's machines have it there.

It comes in pieces (`follow.py`).  Their names are looked up, never made a path; what machines write stays bytes until
a line of it is looked at; logs have bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from pipeline import foreign
from pipeline.hypervisor import logs
from pipeline.hypervisor.console import strip
from pipeline.hypervisor.growing import Lines
from pipeline.xenhost.follow import KERNEL, PIECE

#: A line of a report channel, which on Xen is the console as well, and what it surely has in it.
_SIGN = b"xen-oscar: "
_REPORT = re.compile(r"^(?:\[[ \d.]+\] )?xen-oscar: ((?:STATUS|READY|DONE|FAIL)\b.*)")

#: What stands before a piece: machine, bytes, and where the next one begins.
_HEADER = re.compile(rb"([!-~]{1,100}) ([0-9]{1,9}) ([0-9]{1,18})\n")


class _Machine:
    """Where what one machine writes is kept, and how much of it has come: so the next run goes on behind that."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self.name = name
        self.log = run_dir / "console" / f"{name}.log"
        self.report = run_dir / "report" / name
        self._seen = run_dir / "seen" / name
        self._lines = Lines()

    @property
    def seen(self) -> str:
        return self._seen.read_text() if self._seen.exists() else "0"

    def take(self, data: bytes, seen: int) -> None:
        # first how far it is: a run that is killed between the two loses a piece, and hears no READY twice
        self._seen.write_text(str(seen))
        logs.append(self.log, data)
        found = [_REPORT.match(strip(line)) for line in self._lines.take(data) if _SIGN in line]
        reported = [foreign.line(match[1]) + "\n" for match in found if match]
        if reported:
            logs.append(self.report, "".join(reported).encode())


class Keeper:
    """Keeps what these machines write, and what the container's kernel says."""

    def __init__(self, run_dir: Path, names: Sequence[str]) -> None:
        (run_dir / "seen").mkdir(exist_ok=True)
        self._names = names
        self._machines = {name: _Machine(run_dir, name) for name in (*names, KERNEL)}

    def begin(self) -> Iterator[str]:
        """Each machine's name, and from which byte on it is wanted."""
        for name in self._names:
            yield from (name, self._machines[name].seen)

    def take(self, pieces: IO[bytes]) -> None:
        """Keep all that comes.  Raises ValueError for what is no piece, OSError where nothing can be kept."""
        while header := pieces.readline(256):
            name, length, seen = _header(header)
            machine = self._machines.get(name)
            if machine is None or length > PIECE:
                raise ValueError(f"no piece: {header!r}")
            data = pieces.read(length)
            if len(data) == length:  # else it broke off, and comes again
                machine.take(data, seen)


def _header(line: bytes) -> tuple[str, int, int]:
    found = _HEADER.fullmatch(line)
    if not found:
        raise ValueError(f"no piece: {line!r}")
    return found[1].decode("ascii"), int(found[2]), int(found[3])
