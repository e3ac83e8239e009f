"""Killing runs at random moments: builds, removals, collections, boots; with little room on the disk, two at a time."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.checkout import CLUSTER, Checkout
from benchmarks.measure import DOIT, say
from benchmarks.torturing import invariants
from benchmarks.torturing.invariants import Entries, Surroundings

_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
#: What is built after one file of an OPKG has changed, and about how many seconds that takes here.
_BUILDS = (
    (f"opkgs:{CLUSTER}/head", 2.5),
    (f"headnode:{CLUSTER}", 5.0),
    (f"disk:{CLUSTER}/head", 6.0),
    (f"image:{CLUSTER}", 7.0),
)
#: Seconds that a run may take to end after it was asked to.
_ORDERLY = 60
_LONGEST = 1800
_MIB = 1 << 20


@dataclass
class Tally:
    """What was done, and every breach of what must hold."""

    counts: dict[str, int] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def add(self, where: str, breaches: Sequence[str]) -> None:
        for breach in breaches:
            say(f"BREACH after {where}: {breach}")
            self.breaches.append(f"after {where}: {breach}")


class Victim:
    """A checkout whose runs are killed."""

    def __init__(self, made: Checkout, tally: Tally, seed: int) -> None:
        self.made = made
        self.tally = tally
        self.chance = random.Random(seed)
        self.entries = Entries(made.artifacts / "store")
        self.before = Surroundings.now()
        #: Who would end what this very program has started, if it were killed itself.
        self.ours = frozenset(invariants.descendants())
        self._edited = made.top / "recipes/opkgs/base/files/common-systemd/etc/torture"

    def edit(self) -> None:
        """Change one file of an OPKG, so that there is something to build."""
        self._edited.write_text(f"{secrets.token_hex(8)}\n")

    # --- builds, removals, collections

    def kill_a_build(self) -> None:
        """One act that is killed or that runs into a full disk; then all that must hold is looked at."""
        act = self.chance.choice(
            (self._build, self._build, self._build, self._collect, self._clean, self._two, self._full)
        )
        where = act()
        self.tally.add(
            where,
            [
                *invariants.processes_left(self.ours),
                *Surroundings.now().left_since(self.before),
                *self.entries.breaches(),
            ],
        )

    def _build(self) -> str:
        self.edit()
        task, seconds = self.chance.choice(_BUILDS)
        return self._killed([task], self.chance.uniform(0, seconds))

    def _collect(self) -> str:
        return self._killed(["gc", "--limit", f"{self.chance.uniform(0.3, 3):.2f}"], self.chance.uniform(0, 1.5))

    def _clean(self) -> str:
        self.edit()
        return self._killed(["clean", self.chance.choice(_BUILDS)[0]], self.chance.uniform(0, 0.6))

    def _two(self) -> str:
        """Two builds and a collection at once; one of them is killed."""
        self.edit()
        tasks = [self.chance.choice(_BUILDS)[0] for _ in range(2)]
        others = [self._start([tasks[1]]), self._start(["gc", "--limit", "0.5"])]
        where = self._killed([tasks[0]], self.chance.uniform(0.3, 4))
        for process in others:
            self._end(process, f"{where}, beside it", None)
        return f"{where}, beside another build and a collection"

    def _full(self) -> str:
        """A build on a disk with little room: it fails in plain words, or gets through."""
        self.edit()
        task, _ = self.chance.choice(_BUILDS)
        ballast = self.made.artifacts / "ballast"
        leave = self.chance.randrange(0, 200) * _MIB
        free = shutil.disk_usage(self.made.artifacts).free
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, free - leave))
        try:
            where = f"doit {task} with {leave // _MIB} MiB of room"
            output = self._end(self._start([task]), where, None)
            self.tally.count("full disks" if b"room" in output or b"space" in output else "disks that sufficed")
        finally:
            ballast.unlink()
        return where

    def next_run_passes(self, *tasks: str) -> None:
        """The state that all of it left is one from which everything can be built."""
        process = self._start(list(tasks) or [task for task, _ in _BUILDS])
        output, _ = process.communicate(timeout=_LONGEST)
        if process.returncode:
            self.tally.add("everything", [f"the next run fails: {output.decode(errors='replace')[-600:]}"])
        self.tally.count("runs that pass")
        self.tally.add("a run that passes", [*invariants.unclean(output), *self.entries.breaches()])

    # --- boots

    def kill_a_boot(self, seconds: float) -> None:
        """A cluster that is killed while it comes up leaves nothing; one that is up before stays up, and is ended."""
        where = self._killed([f"cluster:{CLUSTER}"], self.chance.uniform(0, seconds))
        self.tally.count("boots")
        if self._is_up():
            self._end(self._start([f"stop:{CLUSTER}"]), "doit stop", 0)
        self.tally.add(
            where,
            [
                *invariants.processes_left(self.ours),
                *Surroundings.now().left_since(self.before),
                *self.entries.breaches(),
            ],
        )

    def _is_up(self) -> bool:
        """Whether the run was through with a phase when it was killed, and with none half: what that brought up stays.

        The head node has said that it is ready then, and each node that it is ready or installed, or nothing yet.
        """
        reports = self.made.artifacts / "run" / CLUSTER / "report"
        said = {file.name: file.read_bytes() for file in reports.glob("*")} if reports.is_dir() else {}
        through = all(not text or b"READY" in text or b"DONE" in text for text in said.values())
        return bool(invariants.descendants(self.ours)) and b"READY" in said.get("head", b"") and through

    # --- one run

    def _start(self, words: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [DOIT, *words],
            env=self.made.env,
            cwd=self.made.top,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _killed(self, words: list[str], after: float) -> str:
        number = self.chance.choice(_SIGNALS)
        where = f"doit {' '.join(words)}, {number.name} after {after:.2f} s"
        process = self._start(words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=after)
        self.tally.count(f"{number.name} in time" if process.poll() is None else "ended before it was killed")
        process.send_signal(number)
        asked = time.monotonic()
        self._end(process, where, None)
        if time.monotonic() - asked > _ORDERLY:
            self.tally.add(where, [f"it ended {time.monotonic() - asked:.0f} s after the signal"])
        return where

    def _end(self, process: subprocess.Popen[bytes], where: str, status: int | None) -> bytes:
        """Wait for its end; what it printed must be fit for a person."""
        started = time.monotonic()
        try:
            output, _ = process.communicate(timeout=_LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            self.tally.add(where, [f"no end after {time.monotonic() - started:.0f} s"])
        if status is not None and process.returncode != status:
            self.tally.add(where, [f"status {process.returncode}: {output.decode(errors='replace')[-300:]}"])
        self.tally.add(where, invariants.unclean(output))
        return output


def summary(tally: Tally) -> str:
    counts = ", ".join(f"{number} {what}" for what, number in sorted(tally.counts.items()))
    return f"{counts}; breaches: {len(tally.breaches)}"
