"""Torture: runs are killed at random moments, parsers are fed nonsense, and what must hold is looked at after each.

    python benchmarks/torture.py --kills 300 --boot-kills 30 --inputs 10000

Builds, removals and collections are killed (SIGKILL, SIGTERM, SIGHUP), two at a time, on a disk with little room;
boots of a whole cluster likewise.  Afterwards no process, mount, network or namespace may be left, every entry of the
store is hashed again by code of its own, terminals see nothing but text, and the next run passes.  What is fed to
parsers ends in a value or in an error for people, in good time.  Every breach is printed; status 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.checkout import CLUSTER, copy, folder
from benchmarks.measure import say, start
from benchmarks.torturing import inputs, invariants
from benchmarks.torturing.kills import Tally, Victim, summary
from pipeline import confine

_CLONE_NEWNS = 0x20000
#: Room for the store of one cluster and some changes; what is full is this and not the machine's disk.
_ROOM = "6g"
#: How often it is tried whether all can still be built, and how often everything is hashed again.
_EVERY = 10
#: Seconds in which a cluster with one node comes up here, emulated.
_BOOT = 110
#: What is not built here but taken over where it is there: none of it changes with an OPKG's files.
_READY = ("index", "lock", "fetch", "toolroot", "bootloader", "netboot", "root", "initrd", "packages")
_SMALL = "opkgs = []\n[compute]\ncount = 1\n"


def main() -> None:
    words = _arguments()
    tally = Tally()
    until = _end(words.seconds)
    seed = words.seed if words.seed is not None else random.SystemRandom().randrange(1 << 32)
    say(f"seed {seed}")
    if words.inputs:
        inputs.feed(words.inputs, seed, tally, until)
    if words.kills or words.boot_kills:
        invariants.adopt_orphans()
        _hear_signals()
        with _small_disk() as place, copy(_SMALL, kinds=_READY, place=place) as made:
            victim = Victim(made, tally, seed)
            victim.next_run_passes()
            until = _end(words.seconds)  # what is built first may take half a minute
            _repeat(words.kills, until, victim.kill_a_build, victim.next_run_passes, tally, "kills of builds")
            _repeat(words.boot_kills, until, lambda: victim.kill_a_boot(_BOOT), victim.next_run_passes, tally, "boots")
            if words.boot_kills:
                victim.next_run_passes(f"cluster:{CLUSTER}")
                victim.next_run_passes(f"stop:{CLUSTER}")
                tally.add("the end", invariants.processes_left(victim.ours))
            tally.add("the end", victim.entries.breaches(thorough=True))
    print(f"seed {seed}: {summary(tally)}")
    for breach in tally.breaches:
        print(f"  {breach}")
    if tally.breaches:
        raise SystemExit(1)


def _end(seconds: float) -> float:
    """When it is over that begins now, on the monotonic clock; no seconds: never."""
    return time.monotonic() + seconds if seconds else float("inf")


def _hear_signals() -> None:
    """What is ignored here (under nohup, in the background) would be ignored by all that is started."""
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _repeat(
    times: int, until: float, act: Callable[[], None], passes: Callable[[], None], tally: Tally, what: str
) -> None:
    for number in range(1, times + 1):
        if time.monotonic() > until:
            break
        act()
        if number % _EVERY == 0:
            passes()
            say(f"{number} {what}: {summary(tally)}")
    if times:
        passes()


@contextlib.contextmanager
def _small_disk() -> Iterator[Path]:
    """A file system of its own, which goes with this process; for an ordinary user a folder, on a disk with room."""
    if os.geteuid() != 0:
        with folder() as place:
            yield place
        return
    place = Path(tempfile.mkdtemp(prefix="torture-"))
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    confine.mount("none", "/", "none", confine.MS_REC | confine.MS_PRIVATE, "")
    confine.mount("tmpfs", str(place), "tmpfs", 0, f"size={_ROOM},mode=755")
    try:
        yield place
    finally:
        confine.unmount(str(place))
        place.rmdir()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="builds, removals and collections to kill")
    parser.add_argument("--boot-kills", type=int, default=0, metavar="N", help="boots of a cluster to kill")
    parser.add_argument("--inputs", type=int, default=0, metavar="N", help="inputs to feed to parsers")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0,
        metavar="S",
        help="begin nothing new after that time, counted anew for each kind",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="repeat what was done with this one")
    return parser.parse_args()


if __name__ == "__main__":
    start(main)
