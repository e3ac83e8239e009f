"""What makes namespaces, and a view of this machine's files, for builders (`nursery`) and for clusters: there it is the
start of their command lines (`sandbox.namespace`).

Inside there is a root of its own: in an ordinary user's namespaces that user, in those of root nobody outside.  It
sees the system's programs and settings read-only, and of everything else only what it has to do with, at the same
paths as outside.  So what goes wrong in there, or is made to, reaches nothing else.

It needs Linux 5.12: mounts are taken before they are shown, since a folder that hides others has to lie somewhere.
"""

# Nothing but the standard library, and of that no more than needed: each builder waits for this.
# ruff: noqa: PTH108, PTH116, PTH120, PTH211

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
import struct

from pipeline import confine

TYPE_CHECKING = False  # importing typing would take longer than most of what is done here
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_PR_SET_PDEATHSIG = 1
# the same numbers on all architectures
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_ATTR_RDONLY, _ATTR_IDMAP = 0x1, 0x100000

#: What is seen of the system, where it exists.
_SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_MACHINE_DEVICES = ("net/tun", "kvm", "vhost-net")
#: Folders that are empty at first.
_EMPTY = ("/run", "/run/lock", "/var", "/var/lib", "/var/cache", "/var/log", "/dev/shm", "/dev/pts", "/mnt")
_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "fd/0",
    "/dev/stdout": "fd/1",
    "/dev/stderr": "fd/2",
    "/var/run": "/run",
    "/var/lock": "/run/lock",
}

_libc = ctypes.CDLL(None, use_errno=True)


class RootToBe:
    """The root to be, as a list: folders and links to make, and what is mounted where."""

    def __init__(self) -> None:
        self.links: dict[str, str] = {}
        self.mounts: dict[str, tuple[str, bool, bool]] = {}  # where -> (what, whether it may be written, is ours)

    def show(self, path: str, *, writable: bool = False, ours: bool = False) -> None:
        """Make what `path` leads to be there, and every link on the way; nothing if there is no such path."""
        place = "/"
        rest = [part for part in path.split("/") if part not in ("", ".")]
        for _ in range(4096):  # links may lead in a circle
            if not rest:
                self.mounts[place] = (place, writable, ours)
                return
            part = rest.pop(0)
            place = os.path.normpath(os.path.join(place, part))
            try:
                mode = os.lstat(place).st_mode
            except OSError:
                return
            if stat.S_ISLNK(mode):
                target = os.readlink(place)
                self.links[place] = target
                if target.startswith("/"):
                    place = "/"
                else:
                    place = os.path.dirname(place)
                rest = [part for part in target.split("/") if part not in ("", ".")] + rest

    def plan(self) -> list[tuple[str, str, bool, bool]]:
        """(what, where, writable, ours), outer ones first, without those that are seen in an outer one already."""
        kept: list[tuple[str, str, bool, bool]] = []
        for where, (what, writable, ours) in sorted(self.mounts.items()):
            around = next((item for item in reversed(kept) if _beneath(where, item[1])), None)
            if around and what == where and around[0] == around[1] and around[2] in (True, writable):
                continue
            kept.append((what, where, writable, ours))
        return kept


def _beneath(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _call(number: int, *words: Any) -> int:
    result = int(_libc.syscall(number, *words))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"namespaces cannot be made: {os.strerror(code)}")


def _taken(what: str, *, writable: bool, owners: int | None) -> int:
    """A descriptor of a mount of `what` that is nowhere yet; `owners` is a user namespace whose root owns there what
    root owns outside, where the file system can do that."""
    tree = _call(
        _SYS_OPEN_TREE,
        _AT_FDCWD,
        what.encode("utf-8", "surrogateescape"),
        _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC,
    )
    attributes = 0 if writable else _ATTR_RDONLY
    try:
        if owners is not None:
            _set(tree, attributes | _ATTR_IDMAP, owners)
            return tree
    except OSError:
        pass
    if attributes:
        _set(tree, attributes, 0)
    return tree


def _set(tree: int, attributes: int, owners: int) -> None:
    wanted = struct.pack("=QQQQ", attributes, 0, 0, owners)
    _call(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, wanted, len(wanted))


def _furnish(plan: dict[str, Any], owner: int, owners: int | None) -> None:
    """Make the view of `plan` this process' root; `owner` is the id that root inside has out here."""
    wanted = RootToBe()
    for name in _SYSTEM:
        wanted.show(f"/{name}")
    wanted.show("/proc", writable=True)
    for device in _DEVICES:
        wanted.show(f"/dev/{device}", writable=True)
    if plan["network"]:  # a link into /run, often
        wanted.show("/etc/resolv.conf")
    if plan["machines"]:
        wanted.show("/sys", writable=True)
        for device in _MACHINE_DEVICES:
            wanted.show(f"/dev/{device}", writable=True)
    for path in plan["reads"]:
        wanted.show(path, ours=True)
    for path in plan["made"]:
        wanted.show(path)
    for path in plan["writes"]:
        wanted.show(path, writable=True)
    for what, where in plan["places"]:
        wanted.mounts[where] = (what, True, False)
    ready = [
        (_taken(what, writable=writable, owners=owners if ours else None), what, where)
        for what, where, writable, ours in wanted.plan()
    ]

    top = "/tmp"  # all that is needed of what lies there has been taken
    confine.mount("tmpfs", top, "tmpfs", confine.MS_NOSUID, "mode=0755,size=256m")
    made: set[str] = set()
    for folder in _EMPTY:
        _make(top, folder, owner, made)
    for name in ("tmp", "var/tmp"):
        os.mkdir(f"{top}/{name}")
        os.chmod(f"{top}/{name}", 0o1777)
    for place in plan["folders"]:
        _make(top, place, owner, made)
    for tree, what, where in ready:
        if not os.path.lexists(top + where):
            _make(top, os.path.dirname(where), owner, made)
            if stat.S_ISDIR(os.fstat(tree).st_mode):
                _make(top, where, owner, made)
            else:
                os.close(os.open(top + where, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        if not (plan["machines"] and where == "/dev/kvm" and _own_device(top + where, what)):
            _call(
                _SYS_MOVE_MOUNT,
                tree,
                b"",
                _AT_FDCWD,
                (top + where).encode("utf-8", "surrogateescape"),
                _MOVE_MOUNT_F_EMPTY_PATH,
            )
        os.close(tree)
    for place, target in wanted.links.items():
        with contextlib.suppress(FileExistsError, OSError):  # it is seen with the folder it lies in
            _make(top, os.path.dirname(place), owner, made)
            os.symlink(target, top + place)
    for name, target in _LINKS.items():
        os.symlink(target, top + name)
    os.chmod(f"{top}/dev/shm", 0o1777)
    confine.enter(top)


def _make(top: str, folder: str, owner: int, made: set[str]) -> None:
    """A folder of the view and those above it; root inside owns them."""
    if folder in made or folder == "/" or os.path.lexists(top + folder):
        return
    _make(top, os.path.dirname(folder), owner, made)
    os.mkdir(top + folder)
    os.chmod(top + folder, 0o755)
    os.chown(top + folder, owner, owner)
    made.add(folder)


def _own_device(place: str, what: str) -> bool:
    """A device that only root inside may open: rights through a group end at a user namespace.  False where this is
    not root, or may not make devices."""
    try:
        device = os.stat(what).st_rdev
        os.unlink(place)
        os.mknod(place, 0o666 | stat.S_IFCHR, device)
        os.chmod(place, 0o666)
        os.close(os.open(place, os.O_RDWR | os.O_CLOEXEC))
        return True
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(place)
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return False


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _ended(pid: int) -> NoReturn:
    """End as that child does."""
    while True:
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except InterruptedError:
            continue
        os._exit(code if code >= 0 else 128 - code)


def main(plan: dict[str, Any], go: Callable[[], NoReturn]) -> None:
    """Call `go` inside; this process ends as that does, or if the plan says so at once."""
    spaces = _NEWPID | _NEWIPC | _NEWUTS | (0 if plan["network"] else _NEWNET)
    if not plan["lasting"]:
        _die_with_parent()
    _unshare(_NEWNS)
    confine.mount("none", "/", "none", confine.MS_REC | confine.MS_PRIVATE, "")
    base = plan["base"]
    if base is None:
        _furnish(plan, 0, None)
        _unshare(spaces)
        _start(plan, go)
    here, there = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here[0])
        os.close(there[1])
        if not plan["lasting"]:
            _die_with_parent()
        _unshare(_NEWUSER)
        os.write(here[1], b".")
        if os.read(there[0], 1) != b".":
            os._exit(1)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        if not plan["lasting"]:  # which new ids have made the kernel forget
            _die_with_parent()
        _unshare(spaces | _NEWNS)
        _start(plan, go)
    os.close(here[1])
    os.close(there[0])
    if not os.read(here[0], 1):
        _ended(child)
    for kind in ("uid", "gid"):
        with open(f"/proc/{child}/{kind}_map", "w") as file:
            file.write(f"0 {base} 65536\n")
    owners = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    _furnish(plan, base, owners)
    os.write(there[1], b".")
    _ended(child)


def _start(plan: dict[str, Any], go: Callable[[], NoReturn]) -> NoReturn:
    """Become process 1 of the new namespaces, with its parent as the one that waits for it."""
    os.chdir("/")
    first = os.fork()
    if first:
        if plan["lasting"]:
            os._exit(0)
        _ended(first)
    if plan["lasting"]:
        os.setsid()
    else:
        _die_with_parent()
    go()


def _exec(argv: list[str]) -> NoReturn:
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    os._exit(127)


def run(plan: dict[str, Any], argv: list[str]) -> None:
    """Run a command inside; or one line that says why not."""
    call(plan, lambda: _exec(argv))


def call(plan: dict[str, Any], go: Callable[[], NoReturn]) -> None:
    """`main`, or one line that says why not."""
    try:
        main(plan, go)
    except OSError as error:
        hint = " (Linux 5.12 or newer is needed)" if error.errno == errno.ENOSYS else ""
        os.write(2, f"launch: {error}{hint}\n".encode())
        os._exit(1)
