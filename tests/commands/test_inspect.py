"""`doit inspect`: whoever wrote the disk may have written anything."""

from __future__ import annotations

from pipeline.appliance import Inspection, Volume
from pipeline.commands.inspect import describe

HOSTILE = "\x1b]52;c;cm0=\x07\x1b[2J\u202e[bold]x\nsystem: another\r"


def test_what_a_disk_says_makes_no_lines_of_its_own_and_steers_nothing() -> None:
    found = Inspection(
        "gpt",
        (Volume("/dev/sda1", "ext4", HOSTILE, HOSTILE, 1 << 30),),
        (("/", HOSTILE),),
        HOSTILE,
        HOSTILE,
        ((HOSTILE, "1.0" * 100_000),),
        (("journal", f"{HOSTILE}\n" * 100_000),),
        (("/etc/fstab", "x" * 1_000_000),),
    )
    lines = list(describe(found, packages=True))
    assert not set("".join(lines)) & {"\x1b", "\x07", "\u202e", "\r"}
    head, (fstab, content, journal, messages) = lines[:-4], lines[-4:]
    assert len(head) == 5 and not any("\n" in line for line in head)
    assert [line.split()[0] for line in head] == ["partition", "/dev/sda1", "system:", "/", "\ufffd[bold]x"]
    assert (fstab, journal) == ("--- /etc/fstab", "--- journal")
    assert content.endswith("(999000 more characters)")
    assert len(messages.split("\n")) == 60


def test_a_disk_without_a_system() -> None:
    assert list(describe(Inspection("none", (), (), "", "", (), (), ()), packages=True)) == [
        "partition table: none",
        "no operating system was found on it",
    ]
