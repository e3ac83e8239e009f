"""Disks for data, written by real machines: what is kept is there after whatever befalls a cluster, by its checksum."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.description import Cluster, DataDisk
from pipeline.errors import ClusterError
from pipeline.hosts import namespace
from pipeline.hosts.private import PrivatePlace
from pipeline.virt.connection import connect
from pipeline.virt.watch import watch
from tests.boot.acts import Ask, Terminal
from tests.boot.test_namespace import (  # noqa: F401  (fixtures)
    MEMORY_MIB,
    PATIENCE,
    Lab,
    cache,
    processes_of,
    ramdisk,
    wait_gone,
)
from tests.samples import cluster

pytestmark = pytest.mark.boot

DATA, SCRATCH = DataDisk("data", 8, "kept"), DataDisk("scratch", 4, "throwaway")
#: Of nothing but zeros, by MiB.
EMPTY = {4: "b5cfa9d6c8febd618f91ac2843d50a1c", 8: "96995b58d4cbf6aaa9041b4f00c7f6ae"}


def described(*disks: DataDisk) -> Cluster:
    """A cluster whose node1 has these disks."""
    made = cluster("one", memory_mib=MEMORY_MIB)
    return dataclasses.replace(made, nodes=(dataclasses.replace(made.nodes[0], disks=disks), *made.nodes[1:]))


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run" / "one"
    yield folder
    namespace.stop(folder)


class Lives:
    """One cluster, started again and again; each time its run folder is made anew, as runs do it."""

    def __init__(self, run_dir: Path, cache: Path, ramdisk: Path) -> None:  # noqa: F811
        self.run_dir = run_dir
        self._cache = cache
        self._ramdisk = ramdisk

    @contextlib.contextmanager
    def up(self, *disks: DataDisk) -> Iterator[Ask]:
        """Within the block node1 runs with these disks, and its shell answers."""
        found = described(*disks)
        place = PrivatePlace(found, self.run_dir, self._cache)
        place.stop()
        shutil.rmtree(self.run_dir, ignore_errors=True)
        home = namespace.start(self.run_dir, found.networks, cache=self._cache, store=self._ramdisk.parent)
        place.provide(home, found.machine("node1"))
        with connect(home.libvirt_uri) as connection:
            lab = Lab(home, connection, self._ramdisk, found)
            with watch(home, connection) as watching:
                watching.expect("node1", "boot", {"READY"}, within=PATIENCE)
                lab.start("node1", "ready")
                watching.wait()
            log = self.run_dir / "console/node1.log"
            yield Terminal(connection, "one-node1", log, patience=PATIENCE).ask


@pytest.fixture
def lives(run_dir: Path, cache: Path, ramdisk: Path) -> Lives:  # noqa: F811
    return Lives(run_dir, cache, ramdisk)


def sums(ask: Ask) -> list[str]:
    """The checksums of the disks behind the first one."""
    return ask("for disk in /dev/vd[b-z]; do md5sum < $disk; done").replace(" -", "").split()


def test_what_is_kept_outlives_its_cluster_and_what_is_thrown_away_does_not(lives: Lives) -> None:
    with lives.up(DATA, SCRATCH) as ask:
        assert sums(ask) == [EMPTY[8], EMPTY[4]]
        assert ask("cat /sys/block/vdb/serial; echo; cat /sys/block/vdc/serial").split() == ["data", "scratch"]
        ask("dd if=/dev/urandom of=/dev/vdb bs=1M count=8; dd if=/dev/urandom of=/dev/vdc bs=1M count=4; sync")
        written = sums(ask)
        assert EMPTY[8] not in written
        # as when the machine on which it runs goes down: nobody ends anything in order
        home = namespace.alive(lives.run_dir)
        assert home is not None
        gone = processes_of(home)
        os.kill(home.pid, signal.SIGKILL)
        wait_gone(gone)
    with lives.up(DATA, SCRATCH) as ask:
        assert sums(ask) == [written[0], EMPTY[4]]
    larger = DataDisk("data", 12, "kept")
    with lives.up(larger) as ask:
        assert ask("dd if=/dev/vdb bs=1M count=8 | md5sum").split()[0] == written[0]
        assert ask("cat /sys/block/vdb/size") == str(12 << 11)
    with pytest.raises(ClusterError, match=r"node1\.data\.img has 12 MiB, and the recipe says 8"), lives.up(DATA):
        raise AssertionError("it started")


def test_a_disk_that_is_no_longer_to_be_kept_begins_empty_and_the_kept_one_stays(lives: Lives) -> None:
    with lives.up(DATA) as ask:
        ask("echo kept > /dev/vdb; sync")
        place = PrivatePlace(described(dataclasses.replace(DATA, kind="throwaway")), lives.run_dir, lives.run_dir)
        home = namespace.alive(lives.run_dir)
        assert home is not None
        place.provide(home, described(dataclasses.replace(DATA, kind="throwaway")).machine("node1"))
        place.remove(home, ["node1"])
    kept = lives.run_dir.parents[1] / "kept/one/node1.data.img"
    assert kept.read_bytes()[:5] == b"kept\n"
    with lives.up(DATA) as ask:
        assert ask("head -c 4 /dev/vdb") == "kept"
