"""Whether a cluster fits into memory: what is refused, what is warned of, and what counts as available."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.description import Machine
from pipeline.errors import ClusterError
from pipeline.hosts import memory

GIB = 1024


class Host:
    """A machine with as much memory as one says, in MiB, and a control group with a limit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "groups/a/b").mkdir(parents=True)
        (folder / "cgroup").write_text("4:memory:/other\n0::/a/b\n")
        self.set(24 * GIB, 20 * GIB)

    def set(self, total: int, available: int, swap: int = 0) -> None:
        (self.folder / "meminfo").write_text(
            f"MemTotal: {total << 10} kB\nMemAvailable:  {available << 10} kB\nSwapTotal: {swap << 10} kB\n"
            f"SwapFree: {swap << 10} kB\nHugePages_Total:       0\n"
        )

    def limit(self, group: str, most: str, current: int = 0, file: int = 0) -> None:
        folder = self.folder / "groups" / group
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{current << 20}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {file << 20}\nactive_file 0\n")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "cgroup")
    return made


def machines(count: int, mib: int) -> list[Machine]:
    return [Machine(f"node{number}", "compute", number, mib, 1, 64, (), ()) for number in range(1, count + 1)]


def test_what_fits_is_not_worth_a_word(host: Host) -> None:
    assert memory.require(machines(12, 384), "tcg") == ""
    assert memory.require(machines(40, 384), "tcg") == ""


def test_what_cannot_fit_is_refused_with_numbers(host: Host) -> None:
    with pytest.raises(ClusterError) as caught:
        memory.require(machines(200, 384), "tcg")
    assert caught.value.message == (
        "not enough memory: 200 machines with 76800 MiB of memory and 23200 MiB for their "
        "QEMU need 100000 MiB at the least, 20480 MiB are available"
    )
    assert "fewer machines" in caught.value.hint


def test_what_need_not_fit_is_warned_of(host: Host) -> None:
    """Memory that no machine ever touches need not be there."""
    told = memory.require(machines(4, 8 * GIB), "kvm")
    assert told.startswith("memory is short: 4 machines with 32768 MiB of memory and 256 MiB for their QEMU, 20480 MiB")


def test_swap_counts_for_what_is_refused(host: Host) -> None:
    host.set(8 * GIB, 4 * GIB)
    with pytest.raises(ClusterError):
        memory.require(machines(12, 384), "tcg")
    host.set(8 * GIB, 4 * GIB, swap=4 * GIB)
    assert memory.require(machines(12, 384), "tcg") == ""


def test_one_machine_larger_than_this_one_is_refused(host: Host) -> None:
    with pytest.raises(ClusterError, match="node1 has 65536 MiB of memory, this machine has 24576"):
        memory.require(machines(1, 64 * GIB), "tcg")


def test_a_limit_on_a_control_group_counts_at_any_level(host: Host) -> None:
    host.limit("a/b", "max")
    assert memory.available_mib() == 20 * GIB
    host.limit("a", str(6 << 30), current=5 * GIB, file=GIB)  # what is only cached can be had
    assert memory.available_mib() == 2 * GIB
    host.limit("a/b", str(1 << 30))
    assert memory.available_mib() == GIB


def test_for_how_many_more_there_is_room(host: Host) -> None:
    assert memory.room(machines(1, 384)[0], "tcg") == 40


def test_this_machine_can_be_asked() -> None:
    assert memory.available_mib() > 0
