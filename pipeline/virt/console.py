"""What a machine's console tells: lines without terminal control, and the ones after which waiting is pointless."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from pipeline import foreign
from pipeline.virt.growing import Growing

#: Patterns and how to say what they mean.
Signs = Sequence[tuple[re.Pattern[str], str]]


def signs(*given: tuple[str, str]) -> Signs:
    """Regular expressions, compiled, and the words for each."""
    return tuple((re.compile(pattern), words) for pattern, words in given)


#: What no machine recovers from, whatever its system, and how to say it.  The kernel's and programs' own full phrases,
#: so that a file name or a log line that speaks of such a thing is not taken for it.  No pattern may search to the end
#: of a line from many places in it: whoever writes the line would decide how long that takes.
FATAL = signs(
    (r"Kernel panic - not syncing: (.*)", "kernel panic: {0}"),
    (r"Out of memory: Killed process \d+ \(([^)]{0,40})\)", "out of memory: {0} was killed; give it more memory"),
    (r"^(?:\[[ \d.]+\] )?xen-oscar: FAIL ?(.*)", "{0}"),
    (r"VFS: (?:Unable to mount root fs|Cannot open root device) (.*)", "no root file system: {0}"),
    (r"ALERT!\s+(\S+) does not exist\.", "no root file system: {0} does not exist"),
    (r"^(?:error: .*)?Entering rescue mode|^grub rescue>", "the boot loader finds no system on the disk"),
    (r"^No bootable device", "neither disk nor network gave it a system"),
    (r"^Nothing to boot\b(.*)", "network boot: nothing to boot{0}"),
    (r"^(?:\[[ \d.]+\] )?BUG: unable to handle (.*)", "kernel fault: {0}"),
    (r"^(?:\[[ \d.]+\] )?general protection fault\b.*: \d+ \[#\d+\]", "kernel fault: general protection"),
)

#: What the kernel of a VM container says when all of its machines are in doubt.  On Xen in QEMU 7.2, general
#: protection faults of its programs were the first sign of a processor that computes wrongly.
FATAL_TO_ALL = signs(
    (r"Kernel panic - not syncing: (.*)", "kernel panic: {0}"),
    (r"Out of memory: Killed process \d+ \(([^)]{0,40})\)", "out of memory: {0} was killed"),
    (r"\bBUG: unable to handle (.*)", "kernel fault: {0}"),
    (r"\bgeneral protection fault\b.{0,200}: \d+ \[#\d+\]", "kernel fault: general protection"),
    (r"\btraps: (\S+)\[\d+\] general protection fault", "general protection fault in {0}"),
    (r"\bI/O error, dev (?!fd|sr)([^\s,]+)", "I/O error on {0}"),
)


def strip(data: bytes) -> str:
    """One line of console output as a person saw it: overwritten and erased text is gone."""
    return foreign.clean(data.replace(b"\n", b"").decode("utf-8", "replace")).rstrip()


def find_fatal(line: str, fatal: Signs) -> str:
    """Why this line means that the machine is lost, "" if it does not."""
    for pattern, words in fatal:
        found = pattern.search(line)
        if found:
            return words.format(*(group or "" for group in found.groups())).strip() or line
    return ""


class Console:
    """A machine's console as it grows: its last lines, and why the machine is lost once it is."""

    def __init__(self, path: Path, fatal: Signs, *, keep: int = 15) -> None:
        self._file = Growing(path)
        self._fatal = fatal
        self._file.skip()
        self._last: deque[str] = deque(maxlen=keep)
        self._lost = ""

    @property
    def passed_over(self) -> int:
        """Bytes that it wrote and nobody has looked at."""
        return self._file.passed_over

    @property
    def behind(self) -> bool:
        """Whether there is more than one look takes."""
        return self._file.behind

    def begin(self) -> None:
        """A new phase begins: what was said before does not explain what happens from now on."""
        self._last.clear()
        self._lost = ""

    def read(self) -> str:
        """Take in what is new; the reason why the machine is lost, "" if nothing has said so yet."""
        for data in self._file.lines():
            self._take(strip(data))
        return self._lost or find_fatal(strip(self._file.unfinished), self._fatal)

    def _take(self, line: str) -> None:
        # the lines that led to the end tell more than the register dump after it
        if line and not self._lost:
            self._last.append(line)
            self._lost = find_fatal(line, self._fatal)

    @property
    def tail(self) -> str:
        """The last lines, up to the one with which all was lost."""
        unfinished = "" if self._lost else strip(self._file.unfinished)
        return "\n".join([*self._last, unfinished] if unfinished else self._last)
