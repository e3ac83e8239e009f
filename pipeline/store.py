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
5. `hold` keeps it for as long as this process lives, a running cluster by a holder of its own (`holding`).
6. `remove` takes it out of sight, unless somebody holds it, and then away.  `collecting` says what goes when.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import sandbox
from pipeline.digests import canonical, content_digest
from pipeline.errors import BuildError, UserError
from pipeline.files import write_whole
from pipeline.holding import Holder, changing, in_use
from pipeline.locks import Busy, locked
from pipeline.run import cleaning_up, run


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
    """The store of one `artifacts/` folder; several checkouts may share it, each with links in a folder of its own."""

    def __init__(self, artifacts: Path, *, links: Path | None = None) -> None:
        self.artifacts = artifacts
        self.root = artifacts / "store"
        self._holder: Holder | None = None
        self._starting_to_hold = threading.Lock()
        self._links = links or artifacts

    # --- reading

    def get(self, key: str) -> Entry | None:
        """The entry with this key, or None; a corrupt one is set aside and counts as missing."""
        entry, damage = self._look(key)
        if damage:
            self.set_aside(key)
        return None if damage else entry

    def _look(self, key: str) -> tuple[Entry | None, list[str]]:
        """An entry if there is one, and what is wrong with it as far as sizes and times tell."""
        folder = self.root / key
        try:
            entry = Entry(key, folder, json.loads((folder / "manifest.json").read_bytes()))
            return entry, self._damage(entry, thorough=False)
        except FileNotFoundError:
            return None, []
        except PermissionError as error:
            raise UserError(
                f"{error.filename} may not be read",
                hint="it is somebody else's: ask them to allow it, or "
                "name another artifacts folder in XEN_OSCAR_ARTIFACTS",
            ) from None
        except (ValueError, KeyError, TypeError):
            return None, ["manifest.json is not readable"]

    def hold(self, key: str) -> bool:
        """Nobody removes this entry for as long as this process lives; false if it is gone already."""
        try:
            with self._starting_to_hold:
                if self._holder is None:
                    self._holder = Holder(self.root)
                    atexit.register(self._holder.close)
            return self._holder.hold([key])
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return True  # a store of somebody else's, shared read-only

    def let_go(self) -> None:
        """Hold nothing any more."""
        with self._starting_to_hold:
            if self._holder is not None:
                atexit.unregister(self._holder.close)
                self._holder.close()
                self._holder = None

    def entries(self) -> Iterator[Entry]:
        """Every entry, whole or not."""
        for folder in sorted(self.root.glob("[0-9a-f]*")):
            with contextlib.suppress(OSError, ValueError):
                yield Entry(folder.name, folder, json.loads((folder / "manifest.json").read_bytes()))

    def damage(self, entry: Entry) -> list[str]:
        """Hash all of an entry: what differs from its manifest, in words."""
        return self._damage(entry, thorough=True)

    def _damage(self, entry: Entry, *, thorough: bool) -> list[str]:
        found, touched = [], False
        top = entry.path
        for name, item in entry.files.items():
            path = top / name
            try:
                stat = path.lstat()
            except FileNotFoundError:
                found.append(f"{name}: missing")
                continue
            if stat.st_size != item["size"]:
                found.append(f"{name}: {stat.st_size} bytes instead of {item['size']}")
            elif (thorough or stat.st_mtime_ns != item["mtime_ns"]) and content_digest(path) != item["digest"]:
                found.append(f"{name}: content differs")
            elif stat.st_mtime_ns != item["mtime_ns"]:
                item["mtime_ns"], touched = stat.st_mtime_ns, True
        if touched and not found:  # copied without its times, say: not to be hashed at every run
            with contextlib.suppress(OSError):
                write_whole(entry.folder / "manifest.json", _written(entry.manifest))
        return found

    # --- writing

    @contextlib.contextmanager
    def building(self, key: str, *, waiting: Callable[[], None] | None = None, timeout: float = 7200) -> Iterator[Path]:
        """Hold the key's lock and give an empty folder to build in.

        `waiting` is called once if another run holds the lock; after `timeout` seconds of that it is an error.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._alone_with(key, within=timeout, waiting=waiting))
            except Busy:
                raise UserError(
                    f"another run has been building {key[:12]} for {timeout:.0f} s",
                    hint="look for a second doit; end it, and run again",
                ) from None
            folder = self.root / ".building" / key
            remove(folder)
            folder.mkdir(parents=True)
            try:
                yield folder
            except BaseException:
                with cleaning_up():
                    remove(folder)
                raise

    def publish(
        self,
        key: str,
        folder: Path,
        facts: Mapping[str, Any],
        *,
        replace: bool = False,
        known: Mapping[str, str] | None = None,
    ) -> Entry:
        """Make `folder/files` the entry `key`; `facts` go into its manifest.  Atomic, and on disk when it returns.

        `known` are digests of files that are another entry's as well: these take no room of their own.

        What was made before from the same inputs is the same, and stays; only where it may differ (`replace`) the new
        one takes its place.
        """
        files = []
        for path in sorted(item for item in (folder / "files").rglob("*") if item.is_symlink() or not item.is_dir()):
            name = path.relative_to(folder / "files").as_posix()
            shared = (known or {}).get(name, "")
            digest = shared or _written_and_hashed(path)
            stat = path.lstat()
            files.append(
                {
                    "path": name,
                    "digest": digest,
                    "size": stat.st_size,
                    "stored": 0 if shared else stat.st_blocks * 512,
                    "mtime_ns": stat.st_mtime_ns,
                }
            )
        task = facts.get("task", key)
        if not files:
            raise BuildError(f"{task}: the builder made no file")
        digest = hashlib.sha256(canonical([[item["path"], item["digest"]] for item in files])).hexdigest()
        before = self.get(key)
        if before is not None and before.digest == digest:
            remove(folder)
            return before
        if before is not None and not replace:
            raise BuildError(
                f"{task}: built again from the same inputs, it came out different",
                hint="something reaches the output that the key does not cover; this is a bug",
            )
        manifest = {**facts, "key": key, "digest": digest, "files": files}
        (folder / "manifest.json").write_bytes(_written(manifest))
        _sync(folder / "manifest.json")
        if before is not None and not self.remove(key):
            raise UserError(f"{task}: what it made before is in use by another run", hint="run again when that is over")
        with changing(self.root, shared=True):  # nobody can take it out before we hold it
            folder.rename(self.root / key)
            self.hold(key)
        _sync(self.root)
        return Entry(key, self.root / key, manifest)

    def set_aside(self, key: str) -> None:
        """Move a corrupt entry away, so that it is built anew and can still be looked at."""
        aside = self.root / ".corrupt" / f"{key}.{os.urandom(16).hex()}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        with changing(self.root):
            if self._look(key)[1]:  # it may have been replaced meanwhile
                (self.root / key).rename(aside)

    def remove(self, key: str) -> bool:
        """Take an entry out, first out of sight, then away; false where somebody else uses it."""
        gone = self.root / ".building" / f"{key}.{os.urandom(16).hex()}.gone"
        gone.parent.mkdir(parents=True, exist_ok=True)
        with changing(self.root):
            if key in in_use(self.root, but=self._holder.file if self._holder else None):
                return False
            with contextlib.suppress(FileNotFoundError):
                (self.root / key).rename(gone)
            if self._holder:
                self._holder.removed(key)
        remove(gone)
        return True

    def clear_leftovers(self) -> None:
        """Remove what killed builds and killed removals left, and lock files of entries that are gone."""
        for folder in (self.root / ".building").glob("*"):
            if folder.name.endswith(".gone"):
                remove(folder)
                continue
            with contextlib.suppress(Busy), self._alone_with(folder.name, within=0):
                remove(folder)
        for lock in (self.root / ".locks").glob("?" * 64):
            with contextlib.suppress(Busy), locked(lock, within=0):
                if not (self.root / lock.name).exists() and not (self.root / ".building" / lock.name).exists():
                    lock.unlink()

    def _alone_with(
        self, key: str, *, within: float, waiting: Callable[[], None] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Nobody else builds that key in the block."""
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        return locked(locks / key, within=within, waiting=waiting)

    # --- links that a person can follow

    def link_path(self, task: str) -> Path:
        """`NAME/KIND` below the folder for links: where a person finds the newest output of a task."""
        kind, _, name = task.partition(":")
        first, *rest = name.split("/")
        return self._links / first / "-".join([kind, *rest])

    def link(self, task: str, entry: Entry) -> None:
        """Point the task's link at `entry`, and mark the entry as used now."""
        path = self.link_path(task)
        target = os.path.relpath(entry.folder, path.parent)
        if not (path.is_symlink() and os.readlink(path) == target):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.urandom(16).hex()}")
            temporary.symlink_to(target)
            temporary.rename(path)
        with contextlib.suppress(PermissionError, FileNotFoundError):  # shared read-only, or just removed
            os.utime(entry.folder)

    def linked(self, task: str) -> Entry | None:
        """The entry that the task's link points at: what it made last."""
        try:
            return self.get(self.link_path(task).readlink().name)
        except OSError:
            return None


def remove(path: Path) -> None:
    """Remove a file or a tree, whatever the modes of its folders, and also while others do the same."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(FileNotFoundError):
                os.chmod(folder, 0o700)
        shutil.rmtree(path, onerror=_unless_gone)
    except PermissionError:  # what a build left may belong to a user's subordinate ids
        view = sandbox.View(writes=(path.absolute().parent,))
        run([*sandbox.namespace(network=False, view=view), "rm", "-rf", "--one-file-system", path])


def _unless_gone(_call: object, _path: str, error: Any) -> None:
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


def _written(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1, sort_keys=True).encode()


def _written_and_hashed(path: Path) -> str:
    """The digest of a file that is on disk then."""
    from concurrent.futures import ThreadPoolExecutor  # only where something was built

    with ThreadPoolExecutor(1) as beside:  # a disk and a processor are waited for, each a while
        written = beside.submit(_sync, path)
        digest = content_digest(path)
        written.result()
    return digest


def _sync(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
