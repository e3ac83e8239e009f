"""What the operating system refuses, in the words of whoever has the problem: which file system is full, whose folder
it is, and what to do about it.

None of this is a bug of ours, and none of it is told by an errno.  What cannot be put right by a person stays what it
is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import resource
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline import filesystems
from pipeline.errors import ClusterError, UserError
from pipeline.filesystems import FileSystem, amount, existing

#: Where extracted layers are kept in memory.
_LAYERS = Path("/dev/shm")
#: Bytes at the end of a log in which a full file system is looked for.
_LOG = 1 << 16

_ELSEWHERE = "XEN_OSCAR_ARTIFACTS=FOLDER puts artifacts elsewhere"
_ROOM = f"make room there: `doit gc` removes what no cluster uses; {_ELSEWHERE}"
_FULL = "no space is left on"
_KERNEL = "the kernel's log may tell more: dmesg"


def explain(error: BaseException, places: Iterable[Path] = ()) -> UserError | None:
    """The error as a person can put it right; None where there is nothing that they could.

    `places` are where whoever got the error has worked: it may name no file, or be a tool's, of which only words are
    known.  Those of machines tell about theirs.
    """
    if isinstance(error, ClusterError):
        return error
    if isinstance(error, UserError):
        return _hinted(error, places)
    if isinstance(error, OSError):
        return _translated(error, places)
    if isinstance(error, MemoryError):
        return _no_memory(OSError(), None)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return _no_process(OSError(), None)
    return None


def is_short_of_room(error: BaseException) -> bool:
    """Whether something failed because a file system or the memory was full."""
    if isinstance(error, UserError):
        return any(_says(error, sign) for sign in (_NO_ROOM, _NO_MEMORY, _KILLED))
    lacking = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.ENOMEM)
    return lacking or isinstance(error, MemoryError)


def usual_places() -> tuple[Path, ...]:
    """Where this program writes: artifacts, temporary files, and what is kept in memory."""
    artifacts = Path(os.environ.get("XEN_OSCAR_ARTIFACTS") or "artifacts").absolute()
    return artifacts, Path(tempfile.gettempdir()), _LAYERS


# --- what happened


def _translated(error: OSError, places: Iterable[Path]) -> UserError | None:
    name = error.filename
    place = Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) and name else None
    if error.errno == errno.EAGAIN and place is not None:
        return None  # a lock or a pipe, and no process that could not be started
    if error.errno == errno.ENOSPC and place is None:
        place = _fullest(places)
    tell = _TOLD.get(error.errno or 0)
    return tell(error, place) if tell else None


def _full(error: OSError, place: Path | None) -> UserError:
    if place is None:
        return UserError(f"{_FULL} a file system", hint=f"df shows on which; {_ROOM}")
    found = filesystems.of(place)
    return UserError(f"{place}: {_FULL} {found}", hint=_room_on(found))


def _room_on(found: FileSystem) -> str:
    return "`doit gc` frees what is kept there to make builds quick" if found.place == _LAYERS else _ROOM


def _quota(error: OSError, place: Path | None) -> UserError:
    return UserError(f"{_at(place)}{_user()} has used up what the quota allows", hint=f"`quota` shows it; {_ROOM}")


def _read_only(error: OSError, place: Path | None) -> UserError:
    what = filesystems.of(place).place if place else "a file system"
    return UserError(f"{_at(place)}{what} is read-only", hint=f"{_ELSEWHERE}; if it should not be so, {_KERNEL}")


def _forbidden(error: OSError, place: Path | None) -> UserError:
    if place is None or place.is_relative_to("/proc") or place.is_relative_to("/sys"):
        return UserError(
            f"{_at(place)}{error.strerror}: this machine forbids that to {_user()}",
            hint="`doit doctor` says what it forbids, and what to change",
        )
    barrier = _barrier(place)
    found = barrier.stat()
    return UserError(
        f"{place}: {_user()} may not do that: {barrier} belongs to {_name(found.st_uid)} and has mode "
        f"{found.st_mode & 0o7777:04o}",
        hint=f"have its owner permit it, or use folders of your own: {_ELSEWHERE}",
    )


def _no_memory(error: OSError, place: Path | None) -> UserError:
    return UserError(f"not enough memory: {_available()}", hint=_memory())


def _no_process(error: OSError, place: Path | None) -> UserError:
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    may = f": {_user()} may have {limit}" if limit != resource.RLIM_INFINITY else ""
    return UserError(
        f"no further process can be started{may}",
        hint="end some, or allow more: ulimit -u, and pids.max of the container or session",
    )


def _no_descriptor(error: OSError, place: Path | None) -> UserError:
    return UserError(
        f"too many open files: a process may have {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}", hint=_descriptors()
    )


def _too_large(error: OSError, place: Path | None) -> UserError:
    return UserError(f"{_at(place)}the file would be larger than one may be here", hint=_size_limit())


def _too_long(error: OSError, place: Path | None) -> UserError:
    shown = str(place)
    return UserError(
        f"{f'{shown[:100]}...' if len(shown) > 100 else shown}: the name is too long for the system",
        hint="put the checkout, or the artifacts, nearer to the root",
    )


def _circle(error: OSError, place: Path | None) -> UserError:
    return UserError(f"{_at(place)}links lead in a circle", hint="correct them: namei -l shows where they lead")


def _broken(error: OSError, place: Path | None) -> UserError:
    what = filesystems.of(place) if place else "a file system"
    return UserError(f"{_at(place)}{what} fails: {error.strerror}", hint=_KERNEL)


def _at(place: Path | None) -> str:
    return f"{place}: " if place else ""


_TOLD: dict[int, Callable[[OSError, Path | None], UserError]] = {
    errno.ENOSPC: _full,
    errno.EDQUOT: _quota,
    errno.EROFS: _read_only,
    errno.EACCES: _forbidden,
    errno.EPERM: _forbidden,
    errno.ENOMEM: _no_memory,
    errno.EAGAIN: _no_process,
    errno.EMFILE: _no_descriptor,
    errno.ENFILE: _no_descriptor,
    errno.EFBIG: _too_large,
    errno.ENAMETOOLONG: _too_long,
    errno.ELOOP: _circle,
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EUCLEAN, errno.EREMOTEIO), _broken),
}


# --- what a tool said

_NO_ROOM = f"No space left on device|{_FULL}"
_NO_MEMORY = r"Cannot allocate memory|out of memory|not enough memory|memory exhausted|bad_alloc"
_KILLED = r"signal SIGKILL|status (-9|137)\b"


def _hinted(error: UserError, places: Iterable[Path]) -> UserError:
    """With a hint for what the system has refused to the tool, where that is so."""
    hint = next((hint for sign, hint in _SAID.items() if _says(error, sign)), None)
    if hint is not None:
        error.hint = hint(places) or error.hint
    full = _fullest(places) if hint is _room_in else None
    if full is not None and _FULL not in error.message:
        error.message = f"{_FULL} {filesystems.of(full)}, and therefore: {error.message}"
    return error


def _says(error: UserError, sign: str) -> bool:
    """Whether a tool said that at its end; that there is no room also some time before, for many then go on."""
    words = f"{error.message}\n{error.tail}"
    if sign == _NO_ROOM and error.log is not None:
        with contextlib.suppress(OSError), error.log.open("rb") as file:
            file.seek(max(0, error.log.stat().st_size - _LOG))
            words += file.read().decode(errors="replace")
    return re.search(sign, words, re.IGNORECASE) is not None


def _room_in(places: Iterable[Path]) -> str:
    place = _fullest(places)
    return _room_on(filesystems.of(place)) if place is not None else ""


def _fullest(places: Iterable[Path]) -> Path | None:
    """The place with the least room, if it has little."""
    rooms = {place: filesystems.of(place) for place in places}
    low = [place for place, found in rooms.items() if found.is_nearly_full]
    return min(low, key=lambda place: rooms[place].free, default=None)


def _memory(places: Iterable[Path] = ()) -> str:
    return f"memory was short: end other programs or running clusters, and run again; {_available()}"


def _killed(places: Iterable[Path] = ()) -> str:
    return (
        f"it was killed: by the kernel if memory was short (dmesg tells; {_available()} now), "
        "else by itself or by somebody"
    )


def _read_only_in(places: Iterable[Path]) -> str:
    found = [filesystems.of(place).place for place in places if os.statvfs(existing(place)).f_flag & os.ST_RDONLY]
    return f"{found[0]} is read-only; {_ELSEWHERE}" if found else ""


def _size_limit(places: Iterable[Path] = ()) -> str:
    return "allow larger files: ulimit -f unlimited; or use a file system that can have them"


def _descriptors(places: Iterable[Path] = ()) -> str:
    return "allow more: ulimit -n 4096"


#: What tools say -> what to do.
_SAID: dict[str, Callable[[Iterable[Path]], str]] = {
    _NO_ROOM: _room_in,
    r"Disk quota exceeded": lambda _: f"{_user()} has used up what the quota allows: {_ROOM}",
    r"Read-only file system": _read_only_in,
    _NO_MEMORY: _memory,
    _KILLED: _killed,
    r"File too large|File size limit exceeded|SIGXFSZ": _size_limit,
    r"Too many open files": _descriptors,
}


# --- looking


def _barrier(path: Path) -> Path:
    """What forbids something at `path`: the first folder that may not be entered, the file itself, or its folder."""
    path = path.absolute()
    closed = next((folder for folder in reversed(path.parents) if not _may(folder, os.X_OK)), None)
    if closed is not None:
        return closed
    there = existing(path)
    return there.parent if there == path and _may(path, os.R_OK | os.W_OK) else there


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _available() -> str:
    from pipeline import sandbox

    return f"{amount(sandbox.memory_available())} are available"


def _user() -> str:
    return _name(os.geteuid())


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
