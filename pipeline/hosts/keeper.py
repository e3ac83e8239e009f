"""Keeps what machines on a VM container write, in the run folder, as machines in a place of the cluster's own have it.

It comes in pieces (`follow.py`).  Their labels are looked up, never made a path; what machines write stays bytes until
a line of it is looked at; logs have bounds.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from pipeline import foreign
from pipeline.hosts.follow import CAUGHT_UP, KERNEL, PIECE
from pipeline.virt import logs
from pipeline.virt.console import strip
from pipeline.virt.growing import Lines

#: A line of a report channel, where that is the console as well, and what it surely has in it.
_SIGN = b"xen-oscar: "
_REPORT = re.compile(r"^(?:\[[ \d.]+\] )?xen-oscar: ((?:STATUS|READY|DONE|FAIL)\b.*)")

#: What stands before a piece: label, bytes, and where the next one begins.
_HEADER = re.compile(rb"([!-~]{1,100}) ([0-9]{1,9}) ([0-9]{1,18})\n")


class _File:
    """What one file of a machine has said: `keep` takes it.  How much of it has come is noted, so the next run goes on
    behind that."""

    def __init__(self, run_dir: Path, label: str, keep: Callable[[bytes], None]) -> None:
        self._seen = run_dir / "seen" / label
        self._seen.parent.mkdir(parents=True, exist_ok=True)
        self._keep = keep

    @property
    def seen(self) -> str:
        return self._seen.read_text() if self._seen.exists() else "0"

    def take(self, data: bytes, seen: int) -> None:
        # first how far it is: a run that is killed between the two loses a piece, and hears no READY twice
        self._seen.write_text(str(seen))
        self._keep(data)


class _Mixed:
    """A console that is the machine's report channel as well."""

    def __init__(self, log: Path, report: Path) -> None:
        self._log = log
        self._report = report
        self._lines = Lines()

    def keep(self, data: bytes) -> None:
        logs.append(self._log, data)
        found = [_REPORT.match(strip(line)) for line in self._lines.take(data) if _SIGN in line]
        reported = [foreign.line(match[1]) + "\n" for match in found if match]
        if reported:
            logs.append(self._report, "".join(reported).encode())


class Keeper:
    """Keeps what these machines write, and what the container's kernel says.  `reports`: they have report channels."""

    def __init__(self, run_dir: Path, names: Sequence[str], *, reports: bool) -> None:
        def log_of(label: str) -> Path:
            return run_dir / f"{label}.log"

        self.caught_up = threading.Event()
        """Set when all has come that was there in the beginning."""
        self._files: dict[str, _File] = {}
        for name in names:
            console, report = f"console/{name}", f"report/{name}"
            if reports:
                self._files[console] = _File(run_dir, console, partial(logs.append, log_of(console)))
                self._files[report] = _File(run_dir, report, partial(logs.append, run_dir / report))
            else:
                self._files[console] = _File(run_dir, console, _Mixed(log_of(console), run_dir / report).keep)
        self._wanted = list(self._files)
        self._files[KERNEL] = _File(run_dir, KERNEL, partial(logs.append, log_of(KERNEL)))

    def begin(self) -> Iterator[str]:
        """Each file's label, and from which byte on it is wanted."""
        for label in self._wanted:
            yield from (label, self._files[label].seen)

    def take(self, pieces: IO[bytes]) -> None:
        """Keep all that comes.  Raises ValueError for what is no piece, OSError where nothing can be kept."""
        while header := pieces.readline(256):
            label, length, seen = _header(header)
            if label == CAUGHT_UP and not length:
                self.caught_up.set()
                continue
            file = self._files.get(label)
            if file is None or length > PIECE:
                raise ValueError(f"no piece: {header!r}")
            data = pieces.read(length)
            if len(data) == length:  # else it broke off, and comes again
                file.take(data, seen)


def _header(line: bytes) -> tuple[str, int, int]:
    found = _HEADER.fullmatch(line)
    if not found:
        raise ValueError(f"no piece: {line!r}")
    return found[1].decode("ascii"), int(found[2]), int(found[3])
