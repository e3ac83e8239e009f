"""Memory and disk that a cluster of a head node and two compute nodes takes.

Memory is the sum of the proportional set sizes (PSS) of every process in the cluster's namespaces, libvirt included,
sampled from boot to verdict: what the cluster really takes from this machine, shared pages counted once.  Disk is what
files occupy, holes not counted.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.checkout import CLUSTER, MACHINES, Checkout, Event, copy
from benchmarks.measure import ARTIFACTS, Row, machine, report, say, start
from pipeline.errors import CommandError
from pipeline.hosts import namespace

_GOAL_MIB = 2048
_INTERVAL = 1.0
_MIB = 1 << 20


class Sampler:
    """Samples the memory of a cluster in a thread, and keeps the highest sum for each task of the run."""

    def __init__(self, run_dir: Path) -> None:
        self.peaks: dict[str, dict[str, int]] = {}
        self.samples = 0
        self._run_dir = run_dir
        self._task = "boot"
        self._over = threading.Event()

    def hear(self, event: Event) -> None:
        """Follow which task runs."""
        if event["event"] == "started":
            self._task = str(event["task"]).partition(":")[0]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _sample(self) -> None:
        while not self._over.wait(_INTERVAL):
            home = namespace.alive(self._run_dir)
            if home is None:
                continue
            found = _memory(home.pid)
            self.samples += 1
            if sum(found.values()) > sum(self.peaks.get(self._task, {}).values()):
                self.peaks[self._task] = found


def main() -> None:
    before = machine()
    with copy() as made:
        say("making all artifacts")
        made.doit(*MACHINES)
        sampler = Sampler(made.artifacts / "run" / CLUSTER)
        say("booting, installing, verifying")
        notes = []
        with sampler.running():
            try:
                made.doit("--fresh", f"verify:{CLUSTER}", hear=sampler.hear)
            except CommandError as error:  # what it took until then still counts, but must not pass for a verified one
                notes = ["NOT VERIFIED, so the peak may be too low:", *error.render().splitlines()]
        time.sleep(5)
        home = namespace.alive(made.artifacts / "run" / CLUSTER)
        idle = _memory(home.pid) if home else {}
        disks = _disks(made)
    highest = max(sampler.peaks.values(), key=lambda found: sum(found.values()), default={})
    rows = [
        Row("peak of head node + 2 compute nodes", sum(highest.values()) / _MIB, "MiB", _GOAL_MIB, _list(highest)),
        *(Row(f"  peak during {task}", sum(found.values()) / _MIB, "MiB") for task, found in sampler.peaks.items()),
        Row("  5 s after the end", sum(idle.values()) / _MIB, "MiB", detail=_list(idle)),
        *disks,
    ]
    report("footprint", "Memory and disk", rows, before, [f"{sampler.samples} samples of PSS", *notes])


def _memory(init: int) -> dict[str, int]:
    """Bytes of all processes in the network namespace of that process, by program."""
    inside = os.readlink(f"/proc/{init}/ns/net")
    found: dict[str, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if os.readlink(folder / "ns" / "net") != inside:
                continue
            name = (folder / "comm").read_text().strip()
            pss = next(line for line in (folder / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
            found[name] = found.get(name, 0) + int(pss.split()[1]) * 1024
    return found


def _list(found: dict[str, int]) -> str:
    return ", ".join(
        f"{name} {size / _MIB:.0f}" for name, size in sorted(found.items(), key=lambda item: -item[1]) if size >= _MIB
    )


def _disks(made: Checkout) -> list[Row]:
    """What overlays, artifacts and caches take."""
    run_dir = made.artifacts / "run" / CLUSTER
    overlays = {path.name: _taken(path) for path in sorted((run_dir / "disks").glob("*.qcow2"))}
    of_cluster = sum(_taken(link.resolve()) for link in (made.artifacts / CLUSTER).iterdir())
    return [
        Row("overlays of the running cluster", sum(overlays.values()) / _MIB, "MiB", detail=_list(overlays)),
        Row("artifacts of one cluster, packages and layers included", of_cluster / _MIB, "MiB"),
        Row("whole store here, every cluster and version", _taken(ARTIFACTS / "store") / _MIB, "MiB"),
        Row("pool of packages (the store links to it)", _taken(ARTIFACTS / "pool") / _MIB, "MiB"),
        Row("layers extracted in memory", _taken(Path(f"/dev/shm/xen-oscar-{os.getuid()}")) / _MIB, "MiB"),
    ]


def _taken(path: Path) -> int:
    """Bytes on disk of a file or of all files below a folder, each inode once."""
    seen: dict[tuple[int, int], int] = {}
    for file in path.rglob("*") if path.is_dir() else [path]:
        with contextlib.suppress(OSError):
            found = file.lstat()
            seen[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(seen.values())


if __name__ == "__main__":
    start(main)
