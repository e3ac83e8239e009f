"""What was seen on the machines: the collector's sections, and what they mean.

Sections are kept as text and read only when a check asks for them.  So one section that cannot be read spoils
the checks that need it and no others.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pipeline.inventory import Entry, Tree

#: Characters that one machine may say about itself; a usual one says a million.
_MOST = 64 << 20
#: What a section takes besides.
_SECTION = 256
_SUM = re.compile(r"([0-9a-f]{32}|-) (\S+)")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


class FactsError(ValueError):
    """A fact that a check needs is not there or cannot be read; the text says which and why."""


@dataclass(frozen=True)
class Block:
    """A disk (`number` 0) or a partition: its disk's name, device number as `254:1`, and size in bytes."""

    name: str
    disk: str
    device: str
    size: int
    number: int


@dataclass(frozen=True)
class Mount:
    """A mounted file system."""

    point: str
    device: str
    type: str
    writable: bool


@dataclass(frozen=True)
class Facts:
    """The sections of one machine."""

    machine: str
    sections: Mapping[str, str]

    def text(self, section: str) -> str:
        if section not in self.sections:
            raise FactsError(f"the collector brought nothing about {section}")
        return self.sections[section]

    @property
    def complete(self) -> bool:
        """Whether the collector came to its end."""
        return "end" in self.sections

    @property
    def hostname(self) -> str:
        return self.text("hostname").strip()

    @property
    def kernel(self) -> str:
        return self.text("kernel").strip()

    @property
    def cpus(self) -> int:
        return self._number("hardware", r"^(\d+)$")

    @property
    def memory_mib(self) -> int:
        return self._number("hardware", r"^MemTotal:\s+(\d+) kB$") // 1024

    @property
    def clock(self) -> tuple[float, float]:
        """The least and the most seconds that this machine's clock can be ahead of the head node's."""
        readings = self._match("clock", r"^([\d.]+ [\d.]+ [\d.]+)$")
        with _reading("clock", readings):
            before, head, after = map(float, readings.split())
        return before - head, after - head

    @property
    def elapsed(self) -> int:
        """Seconds that comparing the files took."""
        return self._number("elapsed", r"^(\d+) \d+$")

    @property
    def summed(self) -> int:
        """How many files are as they were made, or have had their checksums taken."""
        return self._number("elapsed", r"^\d+ (\d+)$")

    @cached_property
    def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """IPv4 addresses with prefix length by interface, without the loopback's."""
        found: dict[str, tuple[str, ...]] = {}
        for name, address in re.findall(r"^\d+: (\S+)\s+inet (\S+)", self.text("addresses"), re.MULTILINE):
            if name != "lo":
                found[name] = (*found.get(name, ()), address)
        if not found and "inet 127." not in self.text("addresses"):
            raise FactsError(f"addresses cannot be read: {_first(self.text('addresses'))}")
        return found

    @cached_property
    def macs(self) -> Mapping[str, str]:
        return dict(line.split() for line in self.text("macs").splitlines() if len(line.split()) == 2)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        found = []
        for line in self.text("blocks").splitlines():
            name, disk, device, sectors, number = self._fields("blocks", line, 5)
            with _reading("blocks", line):
                found.append(Block(name, disk, device, int(sectors) * 512, int(number)))
        return tuple(found)

    def block(self, device: str) -> Block:
        """The disk or partition with that device number or name."""
        for block in self.blocks:
            if device in (block.device, block.name):
                return block
        raise FactsError(f"there is no disk or partition {device}")

    @cached_property
    def partition_types(self) -> Mapping[tuple[str, int], int]:
        """The type of each primary partition by (disk, number), as it stands in the DOS label."""
        found = {}
        for line in self.text("labels").splitlines():
            disk, label = self._fields("labels", line, 2)
            raw = bytes.fromhex(label)
            if len(raw) != 512 or raw[510:] != b"\x55\xaa":
                raise FactsError(f"{disk} has no DOS label")
            for number in range(1, 5):
                kind = raw[446 + 16 * (number - 1) + 4]
                if kind:
                    found[disk, number] = kind
        return found

    @cached_property
    def mounts(self) -> Mapping[str, Mount]:
        """What is mounted, by mount point; of several on one point the last, which hides the others."""
        found = {}
        for line in self.text("mounts").splitlines():
            before, _, after = line.partition(" - ")
            with _reading("mounts", line):
                _, _, device, _, point, options, *_ = before.split(" ")
                kind, _, super_options, *_ = after.split(" ")
            writable = "rw" in options.split(",") and "rw" in super_options.split(",")
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)
            found[point] = Mount(point, device, kind, writable)
        return found

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Sizes of mounted file systems in bytes, by mount point."""
        rows = re.findall(r"^\S.*?\s(\d+)\s+\d+\s+-?\d+\s+(?:\d+%|-)\s+(/.*)$", self.text("sizes"), re.MULTILINE)
        with _reading("sizes", self.text("sizes")):
            return {point: int(kib) * 1024 for kib, point in rows}

    @cached_property
    def swaps(self) -> tuple[tuple[str, int], ...]:
        """(device name, bytes) of each active swap area."""
        rows = [self._fields("swaps", line, 5) for line in self.text("swaps").splitlines()[1:] if line.strip()]
        with _reading("swaps", self.text("swaps")):
            return tuple((row[0].removeprefix("/dev/"), int(row[2]) * 1024) for row in rows)

    @cached_property
    def packages(self) -> Mapping[str, tuple[str, str]]:
        """(version, state) by name; "whole" is the state of those with which nothing is amiss.  A package for several
        architectures has all of their versions (`lock.versions`)."""
        found: dict[str, tuple[str, str]] = {}
        for line in self.text("packages").splitlines():
            name, version, state = self._fields("packages", line, 3)
            if name in found:
                others, worse = found[name]
                version, state = " ".join(sorted((*others.split(), version))), state if worse == "whole" else worse
            found[name] = (version, state)
        if not found:
            raise FactsError("there is no package database")
        return found

    @property
    def failed_services(self) -> tuple[str, ...]:
        rows = [line.split() for line in self.text("services").splitlines() if line.strip()]
        if any(len(row) != 2 or row[0] != "failed" for row in rows):
            raise FactsError(f"services cannot be read: {_first(self.text('services'))}")
        return tuple(row[1] for row in rows)

    @cached_property
    def tree(self) -> Tree:
        return parse_tree(self.text("tree"))

    @cached_property
    def sums(self) -> Mapping[str, str]:
        """MD5 by path; of a compute node only what differs from the image's.  "-" where a file could not be read."""
        found = {}
        for line in self.text("sums").splitlines():
            if not (match := _SUM.fullmatch(line)):
                raise FactsError(f"checksums cannot be read: {line}")
            found[path_of(match[2])] = match[1]
        return found

    def _match(self, section: str, pattern: str) -> str:
        match = re.search(pattern, self.text(section), re.MULTILINE)
        if match is None:
            raise FactsError(f"{section} cannot be read: {_first(self.text(section))}")
        return match[1]

    def _number(self, section: str, pattern: str) -> int:
        text = self._match(section, pattern)
        with _reading(section, text):  # Python reads no numbers of thousands of digits
            return int(text)

    @staticmethod
    def _fields(section: str, line: str, count: int) -> list[str]:
        fields = line.split()
        if len(fields) != count:
            raise FactsError(f"{section} cannot be read: {line}")
        return fields


@contextlib.contextmanager
def _reading(section: str, text: str) -> Iterator[None]:
    """What is no number, or too few words, is a fact that cannot be read."""
    try:
        yield
    except ValueError:
        raise FactsError(f"{section} cannot be read: {_first(text)}") from None


def parse(lines: Iterable[str], mark: str, inner: str) -> Iterator[Facts]:
    """The facts of one machine after the other, from what `fanout.sh` prints.

    Sections begin with `mark`, or with `inner` where a machine tells them itself, which is to say no more than
    _MOST characters: of the rest nothing is kept, and the machine counts as one that did not come to its end.
    """
    machine, said = "", _Said()
    for line in lines:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == mark and (rest == "over" or rest.startswith("machine ")):
            if machine:
                yield Facts(machine, said.sections())
            machine, said = rest.removeprefix("machine ") if rest != "over" else "", _Said()
        elif machine and word in (mark, inner):
            said.begin(rest)
        elif machine:
            said.add(line)
    if machine:
        yield Facts(machine, said.sections())


class _Said:
    """The sections of one machine as they come."""

    def __init__(self) -> None:
        self._sections: dict[str, list[str]] = {}
        self._current: list[str] = []
        self._size = 0

    def begin(self, section: str) -> None:
        self._size += _SECTION + len(section)
        if self._size <= _MOST:
            self._current = self._sections.setdefault(section, [])

    def add(self, line: str) -> None:
        self._size += len(line)
        if self._size <= _MOST:
            self._current.append(line)

    def sections(self) -> dict[str, str]:
        # before each section's first line there is an end of line that is none of the section before
        found = {name: "".join(lines).removesuffix("\n") for name, lines in self._sections.items()}
        if self._size > _MOST:
            found.pop("end", None)
            found["status"] = ""
            found["err"] = f"it said more than {_MOST >> 20} MiB about itself, the rest was not read"
        return found


def parse_tree(text: str) -> Tree:
    """What tree.pl tells of names."""
    found = {}
    for line in text.splitlines():
        try:
            path, entry = _entry(*line.split(" "))
        except (TypeError, ValueError):
            raise FactsError(f"a tree cannot be read: {line}") from None
        found[path] = entry
    return found


def _entry(
    kind: str,
    mode: str,
    uid: str,
    gid: str,
    size: str,
    mtime: str,
    blocks: str,
    names: str,
    inode: str,
    path: str,
    *more: str,
) -> tuple[str, Entry]:
    words = dict(word.split("=") for word in more)
    target = _unescaped(words.pop("target", ""))
    is_file = kind == "f"
    holes = max(0, int(size) - 512 * int(blocks)) if is_file else 0
    seconds = int(mtime.partition(".")[0])  # find tells fractions as well
    return path_of(path), Entry(
        kind,
        int(mode, 8),
        int(uid),
        int(gid),
        seconds,
        int(size) if is_file else 0,
        target,
        "",
        inode if int(names) > 1 and kind in ("f", "p") else "",
        holes,
        {_unescaped(name): value for name, value in words.items()},
    )


def path_of(text: str) -> str:
    """A path without the slash in front; the root itself is empty."""
    return _unescaped(text).removeprefix("/")


def _unescaped(text: str) -> str:
    r"""Of \xHH and printable characters, the name; bytes that are no UTF-8 are as everywhere in Python."""
    if "\\" not in text:
        return text
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode()))


def _first(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "nothing")
