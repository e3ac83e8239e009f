"""Bring files of known size and checksum into the package pool: several at once, checked before anything sees them.

The pool holds each file once, named by its SHA-256 (or by SHA-1 where an archive of old has nothing better).  A file
enters by fsync and rename, so whatever has a name in the pool is whole; it is hashed again before use all the same,
because disks and people make mistakes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import BuildError
from pipeline.packages.given import NoSource
from pipeline.packages.http import UNREACHABLE, Connections, Refused

_THREADS = 6
_TRIES = 4
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Wanted:
    """A file to bring: its URLs, of which any will do, what it must be, and what it is called; `sha1` counts where
    there is no `sha256`."""

    urls: tuple[str, ...]
    name: str
    size: int
    sha256: str
    sha1: str = ""

    @property
    def algorithm(self) -> str:
        return "sha256" if self.sha256 else "sha1"

    @property
    def digest(self) -> str:
        return self.sha256 or self.sha1


@dataclass(frozen=True)
class Advice:
    """What a person can do about a file that is gone, and about a mirror that does not answer."""

    gone: str
    unreachable: str


def lacking(wanted: Sequence[Wanted], pool: Path) -> list[Wanted]:
    """Those that `pool` does not have; nobody need know where the others are."""
    with ThreadPoolExecutor(_THREADS) as threads:
        there = threads.map(lambda item: _is_there(pool, item), wanted)
        return [item for item, known in zip(wanted, there, strict=True) if not known]


def into_pool(wanted: Sequence[Wanted], pool: Path, advice: Advice, progress: Callable[[int, int, str], None]) -> None:
    """Have all of `wanted` in `pool`; raises BuildError at the first that cannot be had."""
    _sweep(pool)
    task = _Task(pool, advice, sum(item.size for item in wanted), progress)
    with ThreadPoolExecutor(_THREADS) as threads:
        largest_first = sorted(wanted, key=lambda item: -item.size)
        futures = [threads.submit(task.bring, item) for item in largest_first]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            task.stop.set()
    for future in futures:
        error = future.exception()
        if error is not None and not isinstance(error, _Stopped):
            raise error


def out_of_pool(wanted: Sequence[Wanted], pool: Path, folder: Path) -> None:
    """Show the files under their names in `folder`: hard links, or copies where links are not possible."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in wanted:
        target = folder / item.name
        try:
            os.link(_pooled(pool, item), target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
            shutil.copyfile(_pooled(pool, item), target)


def _pooled(pool: Path, item: Wanted) -> Path:
    return pool / f"{item.digest}{Path(item.name).suffix}"


def _is_there(pool: Path, item: Wanted) -> bool:
    """Whether the pool has the file; one that is damaged goes."""
    target = _pooled(pool, item)
    if not target.exists():
        return False
    if _digest(target, item.algorithm) == item.digest:
        return True
    target.unlink(missing_ok=True)
    return False


def _sweep(pool: Path) -> None:
    """Remove what killed runs left; who still writes a part holds its lock."""
    for part in pool.glob("*.part"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


@contextlib.contextmanager
def _part(pool: Path, item: Wanted) -> Iterator[IO[bytes]]:
    """A file to write to, locked for as long as it is open, and gone in the end unless it was renamed."""
    while True:
        with tempfile.NamedTemporaryFile(dir=pool, prefix=f"{item.digest[:16]}-", suffix=".part", delete=False) as part:
            fcntl.flock(part, fcntl.LOCK_EX)
            if not Path(part.name).exists():  # swept before it was locked
                continue
            try:
                yield part
            finally:
                Path(part.name).unlink(missing_ok=True)
            return


class _Stopped(Exception):
    """Another file failed."""


class _Retry(Exception):
    """This try failed; the next may not."""


class _NotThere(Exception):
    """No other try will bring it from there."""

    def __init__(self, error: BuildError) -> None:
        super().__init__(error.message)
        self.error = error


class _Task:
    """One call's threads, and how far they are."""

    def __init__(self, pool: Path, advice: Advice, total: int, progress: Callable[[int, int, str], None]) -> None:
        self.pool = pool
        self.advice = advice
        self.total = total
        self.progress = progress
        self.stop = threading.Event()
        self._done = 0
        self._told = 0.0
        self._failures: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            if time.monotonic() - self._told > 0.2 or self._done == self.total:
                self._told = time.monotonic()
                self.progress(self._done, self.total, "bytes")

    def bring(self, item: Wanted) -> None:
        """Have one file in the pool."""
        if _is_there(self.pool, item):  # another run has brought it
            self.advance(item.size)
            return
        left, problems = list(item.urls), dict[str, str]()
        for number in range(_TRIES):
            if number and self.stop.wait(0.5 * 2**number):
                break
            for url in sorted(left, key=self._failures_of):
                try:
                    self._download(item, url)
                    return
                except _Retry as error:
                    problems[url] = str(error)
                except _NotThere as error:
                    left.remove(url)
                    if not left:
                        raise error.error from None
                self._failures[_host(url)] += 1
        if self.stop.is_set():
            raise _Stopped
        told = "\n".join(f"cannot fetch {url}: {problems[url]}" for url in left)
        raise NoSource(told, hint=self.advice.unreachable)

    def _failures_of(self, url: str) -> int:
        """How often a mirror has failed: the others are asked before it."""
        return self._failures[_host(url)]

    def _download(self, item: Wanted, url: str) -> None:
        received = 0
        try:
            with _part(self.pool, item) as part:
                digest, received = self._receive(item, url, part.write)
                if digest != item.digest:
                    what = {"sha256": "SHA-256", "sha1": "SHA-1"}[item.algorithm]
                    raise _NotThere(
                        BuildError(
                            f"{url}: wrong checksum\nwanted {what} {item.digest} ({item.size} bytes)\n"
                            f"got    {what} {digest} ({received} bytes)",
                            hint="that is not the file that was locked: use another mirror, or `doit update` if the "
                            "archive has changed since",
                        )
                    )
                part.flush()
                os.fsync(part.fileno())
                os.fchmod(part.fileno(), 0o644)
                Path(part.name).rename(_pooled(self.pool, item))
        except BaseException:
            self.advance(-received)
            raise

    def _receive(self, item: Wanted, url: str, write: Callable[[bytes], object]) -> tuple[str, int]:
        digest = hashlib.new(item.algorithm)
        received = 0
        try:
            with self._connections().get(url) as answer:
                while block := answer.read(_BLOCK):
                    if self.stop.is_set():
                        raise _Stopped
                    digest.update(block)
                    received += len(block)
                    if received > item.size:
                        break
                    _store(write, block, item)
                    self.advance(len(block))
        except Refused as error:
            if error.gone:
                raise _NotThere(BuildError(f"{url}: {error}", hint=self.advice.gone)) from None
            raise _Retry(str(error)) from None
        except UNREACHABLE as error:
            self.advance(-received)
            raise _Retry(str(error) or type(error).__name__) from None
        if received < item.size:
            self.advance(-received)
            raise _Retry(f"the connection ended after {received} of {item.size} bytes")
        return digest.hexdigest(), received

    def _connections(self) -> Connections:
        if not hasattr(self._of_thread, "connections"):
            self._of_thread.connections = Connections()
        connections: Connections = self._of_thread.connections
        return connections


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def _store(write: Callable[[bytes], object], block: bytes, item: Wanted) -> None:
    try:
        write(block)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BuildError(
                f"no space left for {item.name} ({item.size} bytes) in the package pool",
                hint="free disk space (`doit gc` removes artifacts that no cluster uses), and run again",
            ) from None
        raise


def _digest(file: Path, algorithm: str) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
