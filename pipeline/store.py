"""The content-addressed store: get, put, verify, collect.

The store is the truth: a step is up to date when the store holds its key.  Life of an entry:

1. `building(key)` takes the key's lock (a second run that wants the same artifact waits for the first) and gives an
   empty folder `store/.building/KEY`.
2. The builder fills it.  A failure moves it to `failed/`, for a look; a kill leaves it, and the next build of that
   key starts afresh.
3. `publish` hashes the files, writes `manifest.json`, brings all of it to disk and renames the folder to `store/KEY`:
   an entry is there whole or not at all.
4. `get` compares sizes and times with the manifest; a file that was touched is hashed again, and an entry that is
   corrupt is set aside in `store/.corrupt` and counts as missing.
5. `collect` removes least recently used entries that nobody refers to.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import sandbox
from pipeline.errors import BuildError, UserError
from pipeline.run import run

_CHUNK = 1 << 20
_ZERO = bytes(_CHUNK)


def canonical(value: Any) -> bytes:
    """Canonical JSON: what is hashed and compared."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def file_digest(path: Path) -> str:
    """SHA-256 of a file as hex; of a disk image (`*.img`) over its non-zero MiBs, so that holes cost nothing.

    The image's digest is SHA-256 over the size and then, for each MiB that is not all zero, its number and its bytes.
    It does not depend on which zeros the file system stores as holes.
    """
    if path.suffix != ".img":
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    digest = hashlib.sha256(b"%d\n" % size)
    with path.open("rb", buffering=0) as image:
        position = 0
        while position < size:
            try:
                data = os.lseek(image.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole up to the end
                break
            position = data - data % _CHUNK
            os.lseek(image.fileno(), position, os.SEEK_SET)
            chunk = image.read(_CHUNK)
            if chunk != _ZERO[: len(chunk)]:
                digest.update(b"%d\n" % (position // _CHUNK))
                digest.update(chunk)
            position += _CHUNK
    return digest.hexdigest()


@dataclass(frozen=True)
class Entry:
    """A published artifact."""

    key: str
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The folder its files lie in."""
        return self.folder / "files"

    @property
    def digest(self) -> str:
        return str(self.manifest["digest"])

    def part(self, name: str) -> str:
        """The digest of one file of it."""
        return str(self.files[name]["digest"])

    @cached_property
    def files(self) -> dict[str, dict[str, Any]]:
        return {item["path"]: item for item in self.manifest["files"]}

    @property
    def size(self) -> int:
        """Bytes that it takes on disk."""
        return sum(int(item["stored"]) for item in self.manifest["files"])


class Store:
    """The store of one `artifacts/` folder; several checkouts may share it."""

    def __init__(self, artifacts: Path) -> None:
        self.artifacts = artifacts
        self.root = artifacts / "store"

    # --- reading

    def get(self, key: str) -> Entry | None:
        """The entry with this key, or None; a corrupt one is set aside and counts as missing."""
        folder = self.root / key
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
            entry = Entry(key, folder, manifest)
            damage = self._damage(entry, thorough=False)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            damage = ["manifest.json is not readable"]
        if damage:
            self.set_aside(key)
            return None
        return entry

    def entries(self) -> Iterator[Entry]:
        """Every entry, whole or not."""
        for folder in sorted(self.root.glob("[0-9a-f]*")):
            with contextlib.suppress(OSError, ValueError):
                yield Entry(folder.name, folder, json.loads((folder / "manifest.json").read_bytes()))

    def damage(self, entry: Entry) -> list[str]:
        """Hash all of an entry: what differs from its manifest, in words."""
        return self._damage(entry, thorough=True)

    def _damage(self, entry: Entry, *, thorough: bool) -> list[str]:
        found = []
        for name, item in entry.files.items():
            path = entry.path / name
            try:
                stat = path.lstat()
            except OSError:
                found.append(f"{name}: missing")
                continue
            if stat.st_size != item["size"]:
                found.append(f"{name}: {stat.st_size} bytes instead of {item['size']}")
            elif (thorough or stat.st_mtime_ns != item["mtime_ns"]) and _content(path) != item["digest"]:
                found.append(f"{name}: content differs")
        return found

    # --- writing

    @contextlib.contextmanager
    def building(self, key: str, *, waiting: Callable[[], None] | None = None, timeout: float = 7200) -> Iterator[Path]:
        """Hold the key's lock and give an empty folder to build in.

        `waiting` is called once if another run holds the lock; after `timeout` seconds of that it is an error.
        """
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / key).open("w") as lock:
            _lock(lock.fileno(), waiting, timeout, key)
            folder = self.root / ".building" / key
            remove(folder)
            folder.mkdir(parents=True)
            try:
                yield folder
            except BaseException:
                remove(folder)
                raise

    def publish(self, key: str, folder: Path, facts: Mapping[str, Any]) -> Entry:
        """Make `folder/files` the entry `key`; `facts` go into its manifest.  Atomic, and on disk when it returns."""
        files = []
        for path in sorted(item for item in (folder / "files").rglob("*") if item.is_symlink() or not item.is_dir()):
            _sync(path)
            stat = path.lstat()
            files.append({"path": path.relative_to(folder / "files").as_posix(), "digest": _content(path),
                          "size": stat.st_size, "stored": stat.st_blocks * 512, "mtime_ns": stat.st_mtime_ns})
        if not files:
            raise BuildError(f"{facts.get('task', key)}: the builder made no file")
        digest = hashlib.sha256(canonical([[item["path"], item["digest"]] for item in files])).hexdigest()
        before = self.get(key)
        if before is not None and before.digest != digest:
            raise BuildError(f"{facts.get('task', key)}: built again from the same inputs, it came out different",
                             hint="something reaches the output that the key does not cover; this is a bug")
        manifest = {**facts, "key": key, "digest": digest, "files": files}
        target = self.root / key
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))
        _sync(folder / "manifest.json")
        self.remove(key)
        folder.rename(target)
        _sync(self.root)
        return Entry(key, target, manifest)

    def set_aside(self, key: str) -> None:
        """Move a corrupt entry away, so that it is built anew and can still be looked at."""
        aside = self.root / ".corrupt" / key
        aside.parent.mkdir(parents=True, exist_ok=True)
        remove(aside)
        with contextlib.suppress(FileNotFoundError):
            (self.root / key).rename(aside)

    def remove(self, key: str) -> None:
        """Take an entry out: first out of sight, then away."""
        gone = self.root / ".building" / f"{key}.gone"
        gone.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.root / key).rename(gone)
            remove(gone)

    # --- links that a person can follow

    def link_path(self, task: str) -> Path:
        """`artifacts/NAME/KIND`: where a person finds the newest output of a task."""
        kind, _, name = task.partition(":")
        first, *rest = name.split("/")
        return self.artifacts / first / "-".join([kind, *rest])

    def link(self, task: str, entry: Entry) -> None:
        """Point the task's link at `entry`, and mark the entry as used now."""
        path = self.link_path(task)
        target = os.path.relpath(entry.folder, path.parent)
        if not (path.is_symlink() and os.readlink(path) == target):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
            temporary.rename(path)
        with contextlib.suppress(PermissionError):  # a store of somebody else's, shared read-only
            os.utime(entry.folder)

    def linked(self, task: str) -> Entry | None:
        """The entry that the task's link points at: what it made last."""
        try:
            return self.get(self.link_path(task).readlink().name)
        except OSError:
            return None

    def collect(self, limit: int, keep: Iterable[str]) -> list[Entry]:
        """Remove least recently used entries, but those in `keep`, until all take at most `limit` bytes."""
        kept = set(keep)
        entries = sorted(self.entries(), key=lambda entry: entry.folder.stat().st_mtime)
        total = sum(entry.size for entry in entries)
        gone = []
        for entry in entries:
            if total <= limit:
                break
            if entry.key in kept:
                continue
            self.remove(entry.key)
            total -= entry.size
            gone.append(entry)
        for place in (".building", ".corrupt"):
            for folder in (self.root / place).glob("*"):
                if not self._locked(folder.name.removesuffix(".gone")):
                    remove(folder)
        return gone

    def _locked(self, key: str) -> bool:
        """Whether a run holds the key's lock now."""
        with contextlib.suppress(FileNotFoundError), (self.root / ".locks" / key).open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def remove(path: Path) -> None:
    """Remove a file or a tree, whatever the modes of its folders."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)
        shutil.rmtree(path)
    except PermissionError:  # what a build left may belong to a user's subordinate ids
        run([*sandbox.namespace(network=False), "rm", "-rf", "--one-file-system", path])


def _content(path: Path) -> str:
    if path.is_symlink():
        return hashlib.sha256(os.readlink(path).encode()).hexdigest()
    return file_digest(path)


def _sync(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, waiting: Callable[[], None] | None, timeout: float, key: str) -> None:
    """Take an exclusive lock; flock has no deadline of its own, so ask again and again, seldom."""
    deadline = time.monotonic() + timeout
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if waiting and not told:
                waiting()
                told = True
            if time.monotonic() > deadline:
                raise UserError(f"another run has been building {key[:12]} for {timeout:.0f} s",
                                hint="look for a second doit; end it, and run again") from None
            time.sleep(0.2)
