"""What tells that a file or folder is still what it was, without reading it: whether what was remembered of it holds.

As git's index does it: device, inode, mode, size, and the times of the last change of content (which anybody can set:
`cp -p`, `rsync -t`, caches of CI systems) and of the last change at all (which nobody can).  A symbolic link is signed
together with what it leads to, so that another target is seen, and other content behind the same one.
"""

from __future__ import annotations

import operator
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Signature = tuple[int, ...]

#: The kernel stamps files by a clock that moves in steps; Linux's longest is 10 ms.
_CLOCK_STEP_NS = 10_000_000


def of(path: str | Path) -> Signature:
    """The signature of a path, () where nothing is there."""
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    if not stat.S_ISLNK(found.st_mode):
        return _numbers(found)
    try:
        return (*_numbers(found), *_numbers(Path(path).stat()))
    except OSError:  # it leads nowhere
        return (*_numbers(found), 0)


def below(
    top: Path, enter: Callable[[Path], bool] = lambda link: True, left_out: tuple[str, ...] = ()
) -> Iterator[tuple[str, Signature]]:
    """Every path below a folder with its signature; of folders only the mode counts, as all that they hold is listed.

    Links to folders are entered where `enter` says so, none twice, so that a circle of links has an end.  Names that
    end as `left_out` says are passed over.
    """
    yield from _below(str(top), enter, left_out, set())


def _below(
    folder: str, enter: Callable[[Path], bool], left_out: tuple[str, ...], seen: set[tuple[int, int]]
) -> Iterator[tuple[str, Signature]]:
    try:
        status = os.stat(folder)  # noqa: PTH116  (a Path costs more than the call, and this is done at each run)
        entries = sorted(os.scandir(folder), key=operator.attrgetter("name"))
    except OSError:  # gone meanwhile, or not ours to read: then that is what is signed
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        if left_out and entry.name.endswith(left_out):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield entry.path, (entry.stat(follow_symlinks=False).st_mode,)
        else:
            yield entry.path, of(entry.path)
            if not entry.is_dir() or not enter(Path(entry.path)):
                continue
        yield from _below(entry.path, enter, left_out, seen)


def is_settled(signatures: Iterable[Signature], since: int) -> bool:
    """Whether nothing that was signed may have changed after the moment `since` (time.time_ns()) without a trace.

    What was changed just before that moment could be changed once more with the same time stamp.
    """
    return is_before(latest(signatures), since)


def latest(signatures: Iterable[Signature]) -> int:
    """When something of what was signed was changed last, as time.time_ns(); 0 where there is nothing."""
    return max((number for signature in signatures for number in signature[_CHANGED::_LENGTH]), default=0)


def is_before(changed: int, moment: int) -> bool:
    """Whether a change lies before a moment (time.time_ns()), as far as the clock that stamps files can tell."""
    return changed < moment - _CLOCK_STEP_NS


#: Where the time of the last change stands in a signature; a link's is followed by that of what it leads to.
_CHANGED, _LENGTH = 5, 6


def _numbers(found: os.stat_result) -> Signature:
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
