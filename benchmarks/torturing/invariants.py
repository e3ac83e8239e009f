"""What must hold after whatever was done to a run.  Nothing here uses the product's own code: it is what is judged."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_MIB = 1 << 20
_PR_SET_CHILD_SUBREAPER = 36
#: Seconds that whoever ends what was killed, the kernel at last, may take on a busy machine.
_PATIENCE = 40.0
#: What no line for a person may hold: control characters but for the tab, and 8-bit controls of terminals.
_UNCLEAN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BUG = ("Traceback (most recent call last)", "this is a bug", "please report")


def adopt_orphans() -> None:
    """From now on whatever our descendants leave behind becomes a child of ours, so that nothing can hide."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


@dataclass(frozen=True)
class Surroundings:
    """What a machine has that runs might leave something of: mounts, network devices, folders of sockets.

    Namespaces end with their last process, or they are mounted somewhere.  Where others run as well, TMPDIR should be
    this program's own.
    """

    mounts: frozenset[str]
    devices: frozenset[str]
    temporary: frozenset[str]

    @classmethod
    def now(cls) -> Surroundings:
        mounts = frozenset(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
        return cls(
            mounts,
            frozenset(path.name for path in Path("/sys/class/net").iterdir()),
            frozenset(map(str, Path(tempfile.gettempdir()).glob("xen-oscar-*"))),
        )

    def left_since(self, before: Surroundings) -> list[str]:
        """What is there now and was not before."""
        pairs = (
            ("mount", self.mounts, before.mounts),
            ("network device", self.devices, before.devices),
            ("file", self.temporary, before.temporary),
        )
        return [f"{kind} left: {name}" for kind, now, then in pairs for name in sorted(now - then)]


def descendants(but: Collection[int] = ()) -> dict[int, str]:
    """Every living process that comes from this one, and not from those named: id -> command line."""
    children: dict[int, list[int]] = {}
    words: dict[int, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            pid = int(process.name)
            if state == "Z":
                continue
            words[pid] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
            children.setdefault(int(parent), []).append(pid)
    found: dict[int, str] = {}
    pending = list(children.get(os.getpid(), ()))
    while pending:
        pid = pending.pop()
        if pid not in but:
            found[pid] = words[pid]
            pending += children.get(pid, ())
    return found


def reap() -> None:
    """Take in the dead that were left to us."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def processes_left(ours: Collection[int], within: float = _PATIENCE) -> list[str]:
    """Processes that outlive the run they belonged to; they are ended, so that each is told once.

    `ours` are those of this program itself.
    """
    deadline = time.monotonic() + within
    while (left := descendants(ours)) and time.monotonic() < deadline:
        reap()
        time.sleep(0.05)
    told = [f"process left: {pid} {words}{_waiting_for(pid)}" for pid, words in left.items()]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    reap()
    return told


def _waiting_for(pid: int) -> str:
    """Where in the kernel a process is, and who has the other end of what it reads."""
    told = ""
    with contextlib.suppress(OSError):
        process = Path(f"/proc/{pid}")
        told += f"; state {(process / 'stat').read_text().rpartition(')')[2].split()[0]}"
        told += f", in {[line.split()[-1] for line in (process / 'stack').read_text().splitlines()[:4]]}"
        pipe = (process / "fd/0").readlink()
        told += f", reads {pipe} of {sorted(_who_has(pipe) - {pid})}"
    return told


def _who_has(file: Path) -> set[int]:
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if link.readlink() == file:
                found.add(int(link.parts[2]))
    return found


@dataclass
class Entries:
    """The entries of a store, hashed again by code of this module; what did not change since is not hashed twice."""

    store: Path
    _known: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def breaches(self, *, thorough: bool = False) -> list[str]:
        found = []
        for folder in self.store.glob("[0-9a-f]*"):
            found += [f"{folder.name[:12]}: {words}" for words in self._judge(folder, thorough)]
        return found

    def _judge(self, folder: Path, thorough: bool) -> Iterator[str]:
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
        except (OSError, ValueError) as error:
            yield f"no manifest: {error}"
            return
        told = {item["path"]: item for item in manifest["files"]}
        there = {
            str(path.relative_to(folder / "files"))
            for path in (folder / "files").rglob("*")
            if path.is_symlink() or not path.is_dir()
        }
        if told.keys() != there:
            yield f"has {sorted(there ^ told.keys())[:3]} that its manifest has not, or the other way round"
        for name in sorted(told.keys() & there):
            path = folder / "files" / name
            status = path.lstat()
            signature = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if not thorough and self._known.get(str(path)) == signature:
                continue
            if status.st_size != told[name]["size"] or _digest(path) != told[name]["digest"]:
                yield f"{manifest.get('task')}: {name} is not what its manifest says"
            self._known[str(path)] = signature


def _digest(path: Path) -> str:
    if path.is_symlink():
        return hashlib.sha256(os.readlink(path).encode()).hexdigest()
    if path.suffix != ".img":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256(b"%d\n" % path.stat().st_size)
    with path.open("rb") as file:
        for number in range(-(-path.stat().st_size // _MIB)):
            block = file.read(_MIB)
            if block.count(0) != len(block):
                digest.update(b"%d\n" % number + block)
    return digest.hexdigest()


def unclean(output: bytes) -> list[str]:
    """What of a run's output no terminal should see, or no person: control characters, tracebacks, "bugs"."""
    text = output.decode("utf-8", "replace")
    found = [f"control character in: {line[:100]!r}" for line in text.split("\n") if _UNCLEAN.search(line)]
    found += [f"told: {line[:160]}" for line in text.splitlines() if any(words in line for words in _BUG)]
    return found[:5]
