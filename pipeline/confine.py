"""What runs as process 1 of a sandbox: makes the root file system `/`, gives up power, runs one command, reaps.

A worker without other threads forks it (`instead_of_exec`), so that a sandbox opens in some 6 ms; else it is started by
its file name, after unshare(1).  It imports nothing but the standard library, and of that as little as can be: nothing
is looked up on the host's file system once that is out of reach.
"""

# Importing pathlib would take longer than opening the sandbox.
# ruff: noqa: PTH103, PTH110, PTH112, PTH113, PTH116, PTH120, PTH208, PTH211

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
import select
import signal
import stat
import sys
import warnings  # noqa: F401  os.execvpe imports it, and by then that is out of reach

TYPE_CHECKING = False  # importing typing would take as long as opening the sandbox
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: The environment variable that says what to do; the command does not see it.
PLAN = "XEN_OSCAR_SANDBOX"

#: What stands in the output of a command that has not even begun.
NOT_STARTED = "it cannot be started"
#: Why no program for i386 is started.
NO_32_BIT = "this kernel runs none: no CONFIG_IA32_EMULATION, or ia32_emulation=0 on its command line"

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217, "i686": 217}
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
#: A sandbox's own: mounts, host name, System V IPC, processes, network.
_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
#: sys/personality.h: uname(2) tells of a 32-bit machine, as setarch(8) has it.
_PER_LINUX32 = 8
#: How programs for i386 begin (elf.h): 32 bits, low byte first, and the number of the machine after 16 bytes.
_ELF32, _EM_386 = b"\x7fELF\x01\x01", b"\x03\x00"

#: Of /proc: settings of the whole machine, which may be read, and what tells of it or reaches it and is hidden, as
#: container engines have both (runc's and Docker's lists of read-only and masked paths, and what is like those).
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger", "pressure", "mtrr")
HIDDEN = (
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "kmsg",
    "key-users",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "schedstat",
    "scsi",
    "timer_list",
    "timer_stats",
)
#: Processes of foreign code at a time, and bytes of what it prints that are kept.  (Real root has no such number.)
PROCESSES, PRINTED = 4096, 32 << 20
#: What stands in the output where the rest is left out.
LEFT_OUT = b"\n(more than %d MiB were printed, the rest is left out)\n" % (PRINTED >> 20)

#: What process 1 seems to be: its name, its program, its command line.
INIT = ("systemd", "/usr/lib/systemd/systemd", "/sbin/init")

#: What maintainer scripts need.  No mounting, no devices, no way out of the root, no kernel settings, no files that
#: cannot be changed: foreign code that runs as the real root then can do what it can in a user namespace, and no more.
CAPABILITIES = {
    "chown": 0,
    "dac_override": 1,
    "dac_read_search": 2,
    "fowner": 3,
    "fsetid": 4,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "setpcap": 8,
    "net_bind_service": 10,
    "sys_chroot": 18,
    "audit_write": 29,
    "setfcap": 31,
}

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    """mount(2)."""
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()) != 0:
        raise _error(f"mount {kind} {target}")


def name_host() -> None:
    """The host name of all namespaces that we make."""
    name = b"sandbox"
    if _libc.sethostname(name, ctypes.c_size_t(len(name))) != 0:
        raise _error("sethostname")


def unmount(target: str) -> None:
    """Detach a mount."""
    if _libc.umount2(target.encode(), _MNT_DETACH) != 0:
        raise _error(f"umount {target}")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def _bind(source: str, target: str, *, writable: bool) -> None:
    """Show `source` at `target`, whose mount point is made if it is missing."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "ab"):
            pass
    mount(source, target, "none", MS_BIND | MS_REC, "")
    if not writable:
        _restrict(target, MS_RDONLY)


def _restrict(target: str, flags: int) -> None:
    """Give a mount more flags; a user namespace may not drop those that it came with."""
    kept = os.statvfs(target).f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | 1024 | 2048)
    mount("none", target, "none", MS_BIND | MS_REMOUNT | flags | kept, "")


def _show_init(place: str) -> None:
    """Put a process 1 at `place` (/proc/1) as a chroot has it: a systemd whose root is somewhere else.

    By that systemctl, udevadm, invoke-rc.d and ischroot know that nothing is booted here, and leave alone what only a
    booted system has; other scripts ask for the name.  The real one, this program, has the same root as all others.
    """
    with open(f"{place}/stat") as file:
        state = file.read()
    with open(f"{place}/status") as file:
        status = file.read()
    name, program, command = INIT
    shown = {
        "comm": f"{name}\n",
        "cmdline": f"{command}\0",
        "environ": "",
        "stat": f"1 ({name})" + state.rpartition(")")[2],
        "status": f"Name:\t{name}\n" + status.partition("\n")[2],
    }
    mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=64k")
    for name, text in shown.items():
        with open(f"{place}/{name}", "w") as file:
            file.write(text)
    os.mkdir(f"{place}/root")
    os.symlink(program, f"{place}/exe")


def _furnish(root: str) -> None:
    """/proc, a small /dev, and empty /run and /tmp."""
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "")
    _show_init(f"{root}/proc/1")
    for name in READ_ONLY:
        if os.path.exists(f"{root}/proc/{name}"):
            _bind(f"{root}/proc/{name}", f"{root}/proc/{name}", writable=False)
    for name in HIDDEN:
        if os.path.isdir(f"{root}/proc/{name}"):
            mount("tmpfs", f"{root}/proc/{name}", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "size=4k")
        elif os.path.exists(f"{root}/proc/{name}"):
            _bind("/dev/null", f"{root}/proc/{name}", writable=False)
    mount("tmpfs", f"{root}/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=256m")
    mount("tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=1g")
    mount("tmpfs", f"{root}/dev", "tmpfs", MS_NOSUID, "mode=755,size=1m")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        if stat.S_ISCHR(os.stat(f"/dev/{name}").st_mode):
            _bind(f"/dev/{name}", f"{root}/dev/{name}", writable=True)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{root}/dev/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{root}/dev/{name}")
    mount("devpts", f"{root}/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    mount("tmpfs", f"{root}/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=256m")
    os.makedirs(f"{root}/run/lock", exist_ok=True)
    os.chmod(f"{root}/run/lock", 0o1777)


def enter(root: str) -> None:
    """Make `root` this namespace's root and let go of the old one: no chroot to break out of."""
    os.chdir(root)
    if _libc.syscall(_SYS_PIVOT_ROOT[os.uname().machine], b".", b".") != 0:
        raise _error("pivot_root")
    unmount(".")
    os.chdir("/")


def _give_up_power() -> None:
    """Drop every capability that is not listed, for this process's children too, and all ways to get more."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise _error("prctl")
    resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        last = int(file.read())
    for number in range(last + 1):
        if number not in CAPABILITIES.values() and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            raise _error("prctl")


def _is_for_i386(program: str, env: dict[str, str]) -> bool:
    """Whether a program, or the interpreter of a script, is a 32-bit one for PCs: what it starts is most likely too."""
    for _ in range(2):
        folders = [""] if "/" in program else [f"{folder}/" for folder in os.get_exec_path(env)]
        there = next((path for folder in folders if os.path.isfile(path := folder + program)), None)
        if there is None:
            return False
        with open(there, "rb") as file:
            beginning = file.read(256)
        words = beginning[2:].partition(b"\n")[0].split()
        if not beginning.startswith(b"#!") or not words:
            return _is_elf_for_i386(beginning)
        program = os.fsdecode(words[0])
    return False


def _is_elf_for_i386(beginning: bytes) -> bool:
    return beginning.startswith(_ELF32) and beginning[18:20] == _EM_386


def _why_not(path: str, error: OSError) -> str:
    """Why a file that may well be there cannot be started: what the kernel says is short, and "No such file" often
    is about another one."""
    try:
        with open(path, "rb") as file:
            beginning = file.read(4096)
            mode = os.fstat(file.fileno()).st_mode
    except IsADirectoryError:
        return "it is a folder"
    except OSError:
        return str(error.strerror)
    first = beginning.partition(b"\n")[0]
    if error.errno == errno.ENOENT:
        if first.startswith(b"#!") and first.endswith(b"\r"):
            return "its first line ends in CR LF, as on Windows"
        if first.startswith(b"#!"):
            return f"its interpreter {' '.join(os.fsdecode(first[2:]).split()[:1])} is not there"
        return "the program that loads its shared libraries is not there"
    if error.errno == errno.ENOEXEC:
        if _is_elf_for_i386(beginning):
            return f"it is a 32-bit program, and {NO_32_BIT}"
        return (
            "it is a program for another kind of machine"
            if beginning.startswith(b"\x7fELF")
            else "it is no program, and no script whose first line names an interpreter"
        )
    if error.errno == errno.EACCES and not mode & 0o111:
        return "it is not executable"
    return str(error.strerror)


def instead_of_exec(plan: dict[str, Any]) -> NoReturn:
    """In a child that has been forked to start `unshare ... confine.py`: be both.  It never returns.

    Foreign code is executed, so nothing of this copy of the worker's memory reaches it; and it may not look into
    process 1, which has capabilities that it has not (ptrace(2), "access mode checking").  What a new program would not
    have had goes here: descriptors, and what the worker does when it gets a signal.
    """
    try:
        gc.disable()  # no object of the worker's is to close a number that is another's now
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                os.closerange(int(name), int(name) + 1)  # which says nothing of the one that the list was read through
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(sig, signal.SIG_DFL)
        for sig in (signal.SIGPIPE, signal.SIGXFSZ):  # as every Python does, and what it starts inherits
            signal.signal(sig, signal.SIG_IGN)
        if _libc.unshare(_NAMESPACES) != 0:
            raise _error("unshare")
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        first = os.fork()
        if first == 0:
            if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
                raise _error("prctl")
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os._exit(main(plan))
        code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
        if code < 0:
            os.kill(os.getpid(), -code)
        os._exit(code if code >= 0 else 128 - code)
    except BaseException:  # whatever it is: this process must not go on as a second worker
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def main(plan: dict[str, Any]) -> int:
    """Run `plan`'s command; its exit status, 128 + signal like a shell's."""
    root = plan["root"]
    name_host()
    mount("none", "/", "none", MS_REC | MS_PRIVATE, "")
    mount(root, root, "none", MS_BIND | MS_REC, "")
    _restrict(root, MS_NOSUID)  # else Linux starts no program that has a capability which nobody here can get (ping)
    _furnish(root)
    for source, target, writable in plan["binds"]:
        _bind(source, root + target, writable=writable)
    enter(root)
    _give_up_power()
    os.umask(0o022)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(write, 1)
            os.dup2(write, 2)
            os.chdir(plan["cwd"])
            if _is_for_i386(plan["argv"][0], plan["env"]):  # rpm and scripts ask which machine this is
                _libc.personality(_PER_LINUX32)
            os.execvpe(plan["argv"][0], plan["argv"], plan["env"])
        except OSError as error:
            os.write(2, f"{plan['argv'][0]}: {NOT_STARTED}: {_why_not(plan['argv'][0], error)}\n".encode())
        os._exit(127)
    os.close(write)
    code = os.waitstatus_to_exitcode(_attend(child, read))
    return code if code >= 0 else 128 - code


def _attend(child: int, read: int) -> int:
    """Hand on what is printed, and collect all that ends, until the child does; its status."""
    os.set_blocking(read, False)
    left, talks = PRINTED, [read]
    ended = os.pidfd_open(child)
    while True:
        is_over = ended in select.select([ended, *talks], [], [], 1)[0]
        left, is_open = _hand_on(read, left)
        if not is_open:
            talks = []
        pid = 1
        while pid:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == child:
                _hand_on(read, left)  # what it said between the last look and its end
                return status
        if is_over:  # it was collected before it was told, which does not happen
            raise ChildProcessError(child)


def _hand_on(read: int, left: int) -> tuple[int, bool]:
    """Write what there is to read, at most `left` bytes of it; how many are left then, and whether more may come."""
    for _ in range(64):  # somebody who goes on printing does not keep us from collecting
        try:
            data = os.read(read, 1 << 16)
        except BlockingIOError:
            return left, True
        if not data:
            return left, False
        if left == 0:
            continue
        kept = data[:left]
        left -= len(kept)
        while kept:
            kept = kept[os.write(1, kept) :]
        if left == 0:
            os.write(1, LEFT_OUT)
    return left, True


if __name__ == "__main__":
    import json

    sys.exit(main(json.loads(os.environ[PLAN])))
