"""The one place where foreign code runs at build time: namespaces, and a chroot without network.

Two rings.  `namespace()` is how a step's worker is started: namespaces of its own, so that its mounts and processes
vanish with it however it ends; in a user namespace, in which root is whoever started it, or if that is root nobody
outside; with a view of this machine's files that has little besides the system's programs (`launch`).
`chroot_run()` is how the worker runs what others wrote (maintainer scripts, scripts of OPKGs): a root file system as
`/`, no way back to the host's, no network, few capabilities, limits, a deadline, and nothing that outlives the command.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipeline import confine
from pipeline.errors import BuildError, CommandError
from pipeline.run import Completed, run

#: The one moment in time that outputs know, and no file in them is younger: 2024-01-01T00:00:00Z.
SOURCE_DATE_EPOCH = 1_704_067_200

#: Memory that must be available for scratch space in RAM.
_TMPFS_NEEDS = 3 << 30
#: Of mount(2).
_MS_MOVE = 8192

#: Where builders and foreign code find programs.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


#: Makes an ordinary user root in a namespace, with a range of subordinate ids beside.
AS_ROOT_INSIDE = ("unshare", "--user", "--map-auto", "--map-root-user", "--")

#: Where foreign code runs in a machine: see `use_machine`.
_machine: Path | None = None

_TOP = Path(__file__).resolve().parents[1]
_LAUNCH = (
    "import json, sys; sys.path.insert(0, sys.argv[1]); from pipeline import launch; "
    "launch.run(json.loads(sys.argv[2]), sys.argv[3:])"
)
#: Ids that are nobody's (systemd's list of who uses which, UIDS-GIDS, leaves them free), and how many a system needs.
_NOBODY, _IDS = 0x7FFF0000, 65536

#: What new files of builders and foreign code are closed to: writing, for all but their owner.
UMASK = 0o022


def surroundings() -> dict[str, object]:
    """What of a builder's surroundings can reach its output, for keys: environment, umask, the language it is in."""
    return {"environment": environment(), "umask": UMASK, "python": ".".join(map(str, sys.version_info[:2]))}


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment that builders and foreign code get: the same on every machine."""
    return {
        "PATH": PATH,
        "HOME": "/tmp",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
        **(extra or {}),
    }


def network_environment() -> dict[str, str]:
    """What steps that fetch get of the caller's environment as well: where the mirror is, and the proxies."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.lower().endswith("_proxy") or name.startswith("XEN_OSCAR_MIRROR") or name == "SSL_CERT_FILE"
    }


@dataclass(frozen=True)
class View:
    """What a process in namespaces sees of this machine's files besides the system's own, at the same paths.

    `reads` are files of ours: what root alone may read is read there, too.  `made` is only read as well, but was made
    in such namespaces.  To what is in `writes`, see `give`.  `places` are (what, where it is seen and written),
    `folders` are made there, empty.  `machines`: with what QEMU and libvirt need of the kernel.
    """

    reads: tuple[Path, ...] = ()
    made: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    places: tuple[tuple[Path, str], ...] = ()
    folders: tuple[str, ...] = ()
    machines: bool = False


@dataclass(frozen=True)
class Identity:
    """Who root is in the namespaces that we start, seen from here: `uid`; `base` where that is nobody else's.

    `obstacle` says why root has to be root in there, "" where it has not.
    """

    uid: int
    base: int | None = None
    obstacle: str = ""


@functools.cache
def identity() -> Identity:
    """An ordinary user is root in there themselves; root is nobody outside, where this machine lets that be."""
    if os.geteuid() != 0:
        return Identity(os.geteuid())
    if not any(first <= _NOBODY and first + count >= _NOBODY + _IDS for first, count in _ids()):
        return Identity(0, obstacle="this container has too few user ids of its own to spare some for builders")
    probe = _launcher(View(), _NOBODY, network=False, lasting=False)
    try:  # a container may let root do anything but this
        run([*probe, "sh", "-c", "mount -t proc proc /proc"], timeout=60)
    except CommandError as error:
        return Identity(0, obstacle=error.tail.strip().rpartition("\n")[2] or error.message)
    return Identity(_NOBODY, _NOBODY)


def _ids() -> Iterator[tuple[int, int]]:
    """The ranges of user ids that there are here: the first, and how many."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        yield first, count


def give(path: Path) -> None:
    """Let root in our namespaces own a file or folder of ours, so that it can write there."""
    owner = identity().uid
    if path.lstat().st_uid != owner:
        os.chown(path, owner, owner, follow_symlinks=False)


def namespace(
    *, network: bool, view: View | None = None, who: Identity | None = None, lasting: bool = False
) -> list[str]:
    """The start of a command line: what follows it runs as (mapped) root, process 1 in namespaces of its own.

    All of it is killed with the process that starts it, even by SIGKILL, unless it is `lasting`: then this command ends
    when it has been started.  It begins in `/`.
    """
    who = who or identity()
    view = view or View()
    return [*_launcher(view, who.base, network=network, lasting=lasting, user=who.uid != 0 and who.base is None)]


def _launcher(view: View, base: int | None, *, network: bool, lasting: bool, user: bool = False) -> list[str]:
    plan = launch_plan(view, base, network=network, lasting=lasting)
    argv = list(AS_ROOT_INSIDE) if user else []
    if not lasting:
        argv = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
    return [*argv, sys.executable, "-I", "-S", "-c", _LAUNCH, str(_TOP), json.dumps(plan)]


def launch_plan(view: View, base: int | None, *, network: bool, lasting: bool) -> dict[str, object]:
    """What `launch` is told; `base` as of an `Identity`."""
    return {
        "base": base,
        "network": network,
        "lasting": lasting,
        "machines": view.machines,
        "reads": [str(path) for path in (_TOP / "pipeline", Path(sys.prefix), Path(sys.base_prefix), *view.reads)],
        "made": [str(path) for path in view.made],
        "writes": [str(path) for path in view.writes],
        "places": [[str(path), where] for path, where in view.places],
        "folders": list(view.folders),
    }


def settle() -> None:
    """First thing in a process that `namespace()` started: private mounts, its own /proc, a neutral host name."""
    try:
        mount("none", "/", flags=confine.MS_REC | confine.MS_PRIVATE)
        _own_proc()
    except OSError as error:
        raise BuildError(
            f"cannot mount inside a namespace: {error}", hint="`doit doctor` says what this machine forbids"
        ) from None
    confine.name_host()
    if in_user_namespace():  # who makes another one has all power in it, which many a fault of the kernel needed
        with contextlib.suppress(OSError):
            Path("/proc/sys/user/max_user_namespaces").write_text("0")
    # Process 1 of a namespace receives only the signals that it handles; its end is the end of all the others.
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, _leave)


def _own_proc() -> None:
    """A /proc of this namespace's processes, and no other one below it: in an ordinary user's namespace, which all
    workers share with the process that forks them, whoever takes the upper one away would see that process.  The
    kernel makes none where none is seen, and takes none away that is root's.
    """
    mount("proc", "/mnt", "proc", flags=confine.MS_NOSUID | confine.MS_NODEV | confine.MS_NOEXEC)
    with contextlib.suppress(OSError):
        unmount("/proc")
    mount("/mnt", "/proc", flags=_MS_MOVE)


class Memory:
    """What is available of the memory, parted among those who want scratch space at the same time."""

    def __init__(self) -> None:
        self._promised = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def share(self) -> Iterator[int]:
        """Bytes that nobody else counts on meanwhile, half of what there is of those; 0 when memory is short."""
        with self._lock:
            free = memory_available() - self._promised
            size = free // 2 if free >= _TMPFS_NEEDS else 0
            self._promised += size
        try:
            yield size
        finally:
            with self._lock:
                self._promised -= size


def scratch(work: Path, size: int) -> bool:
    """Make the folder `work` a tmpfs of at most `size` bytes; false if it has to stay on disk.

    That is so when there is no memory for it, or when overlays in it could not mark replaced directories.
    """
    if size == 0:
        return False
    mount("tmpfs", work, "tmpfs", options=f"mode=0700,size={size}")
    if in_user_namespace():
        try:
            os.setxattr(work, "user.overlay.test", b"y")
            os.removexattr(work, "user.overlay.test")
        except OSError:  # a user's overlay needs user.* attributes; tmpfs has them since Linux 6.6
            unmount(work)
            return False
    return True


def memory_available() -> int:
    """Bytes of memory that programs can still get."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return 0


@functools.cache
def outer_uid() -> int:
    """Who (mapped) root is outside of the namespace."""
    return int(Path("/proc/self/uid_map").read_text().split()[1])


def in_user_namespace() -> bool:
    """Whether root here is an ordinary user outside."""
    return outer_uid() != 0


def _leave(sig: int, frame: FrameType | None) -> None:
    os._exit(128 + sig)


def mount(source: str | Path, target: str | Path, kind: str = "none", *, flags: int = 0, options: str = "") -> None:
    """mount(2).  Raises OSError naming the target."""
    confine.mount(str(source), str(target), kind, flags, options)


def unmount(target: str | Path) -> None:
    """Detach what is mounted at `target`."""
    confine.unmount(str(target))


@dataclass(frozen=True)
class Bind:
    """A file or folder of the host shown inside a root, at a path below its /run or /tmp."""

    source: Path
    target: str
    writable: bool = False


def chroot_run(
    root: Path,
    argv: Sequence[str],
    *,
    log: Path,
    timeout: float,
    binds: Sequence[Bind] = (),
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    cwd: str = "/",
    check: bool = True,
) -> Completed:
    """Run foreign code with `root` as `/`; it sees its own /proc, a small /dev, and empty /run and /tmp.

    Only for workers that `namespace()` started.  Its output is appended to `log`.  Everything it started is gone
    when this returns.  Raises CommandError when it fails (unless `check` is false) or takes more than `timeout` s.
    """
    for bind in binds:
        if not bind.target.startswith(("/run/", "/tmp/")):
            raise ValueError(f"a bind at {bind.target} would leave its mount point in the root")
    if _machine is not None:
        if input is not None:
            raise ValueError("no input reaches a machine")
        with log.open("ab") as file:
            file.write(f"# chroot {root} {shlex.join(argv)} (in a machine)\n".encode())
            begin = file.tell()
        from pipeline import emulated

        shown = [(bind.source, bind.target, bind.writable) for bind in binds]
        done = emulated.run_in(
            root, argv, _machine, log=log, timeout=timeout, binds=shown, env=environment(env), cwd=cwd
        )
        return _checked(done, argv, log, begin, check=check)
    plan = {
        "root": str(root),
        "binds": [[str(bind.source), bind.target, bind.writable] for bind in binds],
        "env": environment(env),
        "cwd": cwd,
        "argv": list(argv),
    }
    prefix = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net", "--"]
    program = [sys.executable, "-I", "-S", confine.__file__]
    with log.open("ab") as file:
        file.write(f"# chroot {root} {shlex.join(argv)}\n".encode())
        begin = file.tell()
    done = run(
        [*prefix, *program],
        env={confine.PLAN: json.dumps(plan)},
        log=log,
        timeout=timeout,
        input=input,
        check=False,
        instead_of_exec=lambda: confine.instead_of_exec(plan),
    )
    return _checked(done, argv, log, begin, check=check)


def _checked(done: Completed, argv: Sequence[str], log: Path, begin: int, *, check: bool) -> Completed:
    if check and done.status != 0:
        raise CommandError(f"exit status {done.status}: {shlex.join(argv)}", log=log, tail=tail(log, begin=begin))
    return done


def use_machine(folder: Path) -> None:
    """From now on this process has foreign code run in a machine with the kernel and ramdisk of that folder, if this
    machine's kernel has no vsyscall page (`emulated`)."""
    global _machine
    if "[vsyscall]" not in Path("/proc/self/maps").read_text():
        _machine = folder


def tail(log: Path, lines: int = 12, begin: int = 0) -> str:
    """The last lines of a log, but for those before `begin` (bytes) and those that are our own command lines."""
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - 8192))
        said = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join([line for line in said if not line.startswith(("$ unshare ", "# chroot /"))][-lines:])
