"""Foreign code in a small virtual machine, for what this machine's kernel does not have: the vsyscall page.

Programs with a C library older than 2.14 or so call the kernel there on x86_64, and die where it is not mapped, as is
usual today; no chroot can change that.  The machine has the installer's kernel and ramdisk, and no network.  In it is
what `confine` makes of a root, for outputs must not tell one from the other.  The root and what is bound into it go in
as tar archives on disks and come back in one, with all that layers keep of a file.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline import borrowed, confine, filesystems, inventory
from pipeline.cpio import Ramdisk
from pipeline.errors import BuildError
from pipeline.run import Completed, run

#: The host programs that it takes.
TOOLS = ("ldd", "qemu-system-x86_64", "rsync", "setpriv", "tar")
#: Bytes that the root, and what comes back, may grow to; the files have holes.  MiB of memory.
_DISK, _MEMORY = 16 << 30, 1536
#: Bytes of a disk for the machine's last words, of another one for what is printed, and of the console that is shown.
_WORDS, _OUTPUT, _CONSOLE = 4096, confine.PRINTED + 4096, 8192
#: Seconds in which the machine starts, and its disks are filled and packed.
_AROUND = 600
_BROUGHT = "brought"
_TAR = (*inventory.TAR_CREATE, "--format=posix", "--numeric-owner")
_UNTAR = (*inventory.TAR, "--extract", "--numeric-owner", "--same-permissions", "--delay-directory-restore")
_STATUS = re.compile(r"status (\d{1,3})")

#: Its disks, from /dev/vda: for the root to be, the root, what comes back, what is printed, how it goes; then binds.
_DISKS = ("disk", "root", "back", "output", "said")

#: Process 1.
_INIT = """#!/usr/bin/sh
PATH=/usr/sbin:/usr/bin
/usr/bin/busybox mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for module in /usr/lib/modules/*.ko; do insmod "$module" 2>/dev/null; done
set -o pipefail
leave() { echo "$*" >/dev/vde; sync; poweroff -f; sleep 60; }
unpack() { mkdir $1 && %(tar)s %(untar)s --directory=$1 --file=$2; }
tries=0
until [ -b %(last)s ]; do
    tries=$((tries + 1))
    [ $tries -gt 200 ] && exit 1
    usleep 100000
done
mkdir /a
/usr/sbin/mke2fs -q -F -t ext4 -O ^has_journal /dev/vda && mount /dev/vda /a && mkdir /a/binds || leave "no disk"
unpack /a/root /dev/vdb%(unpack)s || leave "its root cannot be unpacked"
hostname sandbox
unshare -m -p -i -f sh -e /inside 2>&1 </dev/null | { head -c %(printed)d >/dev/vdd; cat >/dev/null; }
[ -e /status ] || leave "its root cannot be furnished"
cd /a
%(tar)s --create %(pack)s --file=- --files-from=/dev/null %(back)s | dd of=/dev/vdc bs=1M conv=fsync ||
    leave "its root cannot be packed"
sync
dmesg | grep -q 'I/O error, dev vd' && leave "a disk of it failed"
leave "status $(cat /status)"
"""
#: The command in the root, whose processes end with this one: what `confine` does, with busybox.
_INSIDE = """
mount -o bind /a/root /a/root
mount -o remount,bind,nosuid,%(access)s /a/root
cd /a/root
mount -t proc -o nosuid,nodev,noexec proc proc
state=$(sed 's/(.*)/(%(name)s)/' proc/1/stat)
status=$(sed 's/^Name:.*/Name:\t%(name)s/' proc/1/status)
mount -t tmpfs -o nosuid,nodev,noexec,mode=755,size=64k tmpfs proc/1
mkdir proc/1/root
echo %(name)s >proc/1/comm
printf '%(command)s\\0' >proc/1/cmdline
: >proc/1/environ
echo "$state" >proc/1/stat
echo "$status" >proc/1/status
ln -s %(program)s proc/1/exe
show() { mount -o bind "$1" "$2" && { [ "$3" = rw ] || mount -o remount,bind,ro "$2"; }; }
for name in %(read_only)s; do
    if [ -e proc/$name ]; then show proc/$name proc/$name ro; fi
done
for name in %(hidden)s; do
    if [ -d proc/$name ]; then mount -t tmpfs -o ro,nosuid,nodev,noexec,size=4k tmpfs proc/$name
    elif [ -e proc/$name ]; then show /dev/null proc/$name ro; fi
done
mount -t tmpfs -o nosuid,nodev,mode=755,size=256m tmpfs run
mount -t tmpfs -o nosuid,nodev,mode=1777,size=1g tmpfs tmp
mount -t tmpfs -o nosuid,mode=755,size=1m tmpfs dev
for node in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0'; do
    set -- $node
    mknod -m 666 dev/$1 c $2 $3
done
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mkdir dev/pts dev/shm run/lock run/machine
mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o nosuid,nodev,mode=1777,size=256m tmpfs dev/shm
chmod 1777 run/lock
%(binds)s
cp /usr/bin/busybox /start run/machine/
ulimit -c 0
ulimit -u %(processes)d
umask 022
cd /
set +e
env -i %(env)s %(setpriv)s --no-new-privs --bounding-set=%(capabilities)s \\
    /usr/bin/busybox chroot /a/root /run/machine/busybox sh /run/machine/start %(words)s
echo $? >/status
"""
#: What becomes the command, which finds nothing of it.  By its path: busybox would take programs of its own for those
#: of that name, and has an rpm.
_START = """
cd "$1" && shift || exit
name=$1 && shift
IFS=:
for folder in $PATH; do
    case $name in */*) break ;; esac
    [ -x "$folder/$name" ] && name=$folder/$name
done
/run/machine/busybox rm -r /run/machine
unset IFS folder PWD OLDPWD SHLVL
exec "$name" "$@"
"""


def run_in(
    root: Path,
    argv: Sequence[str],
    machine: Path,
    *,
    log: Path,
    timeout: float,
    binds: Iterable[tuple[Path, str, bool]],
    env: Mapping[str, str],
    cwd: str,
) -> Completed:
    """As `sandbox.chroot_run`, with the kernel and ramdisk in the folder `machine`; `binds` are (what, where it is
    seen, whether it may be written).  Raises BuildError when the machine does not get to its end."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        shown = [(source.resolve(), target, writable) for source, target, writable in binds]
        back = {_unpacked(number, source): source for number, (source, _, writable) in enumerate(shown) if writable}
        if not os.statvfs(root).f_flag & os.ST_RDONLY:
            back["root"] = root
        disks = _fill(work, root, [source for source, _, _ in shown])
        below = (machine / "initrd.img").read_bytes()
        own = _ramdisk(argv, shown, back, env, cwd).archive()
        (work / "initrd").write_bytes(below + bytes(-len(below) % 4) + own)  # the kernel's rule for several
        run([*_qemu(work, machine / "kernel", disks)], timeout=timeout + _AROUND)
        with log.open("ab") as file:
            file.write(_printed(work / "output"))
        status = _status(work, argv, log)
        for name in disks:
            if name != "back":
                (work / name).unlink()
        _bring_back(work, back)
        return Completed(tuple(argv), status, "", "")


def _fill(work: Path, root: Path, sources: Sequence[Path]) -> list[str]:
    """Make the disks; their names."""
    disks = [*_DISKS, *(f"bind{number}" for number in range(len(sources)))]
    for name, size in {"disk": _DISK, "back": _DISK, "output": _OUTPUT}.items():
        with (work / name).open("wb") as file:
            file.truncate(size)
    (work / "said").write_bytes(bytes(_WORDS))  # without holes: it can be written to when nothing else can
    for name, source in (("root", root), *zip(disks[len(_DISKS) :], sources, strict=True)):
        folder, member = (source, ".") if source.is_dir() else (source.parent, f"./{source.name}")
        run(["tar", "--create", *_TAR, f"--directory={folder}", f"--file={work / name}", member], timeout=_AROUND)
    return disks


def _unpacked(number: int, source: Path) -> str:
    """Where a bind lies below the machine's disk, and what comes back."""
    return f"binds/{number}" if source.is_dir() else f"binds/{number}/{source.name}"


def _ramdisk(
    argv: Sequence[str],
    binds: Sequence[tuple[Path, str, bool]],
    back: Mapping[str, Path],
    env: Mapping[str, str],
    cwd: str,
) -> Ramdisk:
    """What goes on top of the installer's; `back` are names below the machine's disk."""
    made = Ramdisk()
    loaders = {}
    for tool in ("tar", "setpriv"):
        loader, files = borrowed.program(tool)
        loaders[tool] = f"/{_BROUGHT}/{loader} --library-path /{_BROUGHT} /{_BROUGHT}/{tool}"
        for path in files:
            made.file(f"{_BROUGHT}/{path.name}", path.read_bytes(), 0o755)
    lines = []
    for number, (source, target, writable) in enumerate(binds):
        place = shlex.quote(f"/a/root{target}")
        lines += [
            f"mkdir -p {place}" if source.is_dir() else f"mkdir -p $(dirname {place}); : >{place}",
            f"show {shlex.quote(f'/a/{_unpacked(number, source)}')} {place} {'rw' if writable else 'ro'}",
        ]
    init = {
        "last": _device(len(_DISKS) + len(binds) - 1),
        "tar": loaders["tar"],
        "untar": shlex.join(_UNTAR),
        "pack": shlex.join(_TAR),
        "printed": confine.PRINTED + 1,
        "unpack": "".join(f" && unpack /a/binds/{n} {_device(len(_DISKS) + n)}" for n in range(len(binds))),
        "back": shlex.join(back),
    }
    name, program, command = confine.INIT
    inside = {
        "name": name,
        "program": program,
        "command": command,
        "access": "rw" if "root" in back else "ro",
        "read_only": " ".join(confine.READ_ONLY),
        "hidden": " ".join(confine.HIDDEN),
        "binds": "\n".join(lines),
        "processes": confine.PROCESSES,
        "capabilities": ",".join(["-all", *(f"+{name}" for name in confine.CAPABILITIES)]),
        "setpriv": loaders["setpriv"],
        "env": shlex.join(f"{name}={value}" for name, value in env.items()),
        "words": shlex.join([cwd, *argv]),
    }
    made.file("init", (_INIT % init).encode(), 0o755)
    made.file("inside", (_INSIDE % inside).encode())
    made.file("start", _START.encode())
    return made


def _device(number: int) -> str:
    return f"/dev/vd{chr(ord('a') + number)}"


def _qemu(work: Path, kernel: Path, disks: Iterable[str]) -> list[str]:
    words = [
        "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "max", "-m", str(_MEMORY), "-nodefaults",
        "-display", "none", "-no-reboot", "-kernel", str(kernel), "-initrd", str(work / "initrd"),
        "-append", "console=ttyS0 quiet panic=-1 vsyscall=emulate", "-serial", f"file:{work / 'console'}",
    ]  # fmt: skip
    for name in disks:
        read_only = "off" if name in _DISKS and name != "root" else "on"
        # what cannot be written is told to the machine, which else would wait for room
        rules = f"cache=unsafe,readonly={read_only},werror=report,rerror=report"
        words += ["-drive", f"file={work / name},format=raw,if=virtio,{rules}"]
    return words


def _printed(disk: Path) -> bytes:
    """What the command has printed: as much as is kept of what one in a chroot prints."""
    said = disk.read_bytes().rstrip(b"\0")
    return said if len(said) <= confine.PRINTED else said[: confine.PRINTED] + confine.LEFT_OUT


def _status(work: Path, argv: Sequence[str], log: Path) -> int:
    """The command's exit status, if the machine says one."""
    said = (work / "said").read_bytes().rstrip(b"\0").decode(errors="replace").strip()
    found = _STATUS.fullmatch(said)
    if found:
        return int(found[1])
    place = filesystems.of(work)
    if place.is_nearly_full:
        raise BuildError(f"no space is left on {place} for the machine that runs {shlex.join(argv)[:80]}", log=log)
    with (work / "console").open("rb") as file:
        file.seek(max(0, (work / "console").stat().st_size - _CONSOLE))
        console = file.read(_CONSOLE).decode(errors="replace").splitlines()
    raise BuildError(
        f"the machine for {shlex.join(argv)[:80]} did not get to its end: {said[:80] or 'it said nothing'}",
        tail="\n".join(console[-12:]),
        hint="doit doctor",
        log=log,
    )


def _bring_back(work: Path, places: Mapping[str, Path]) -> None:
    """Make each place what came back for it; touch no file that is the same."""
    after = work / "after"
    after.mkdir()
    run(["tar", *_UNTAR, f"--directory={after}", f"--file={work / 'back'}"], timeout=_AROUND)
    for name, place in places.items():
        end = "/" if place.is_dir() else ""
        run(
            ["rsync", "--archive", "--hard-links", "--acls", "--xattrs", "--numeric-ids", "--delete", "--checksum",
             f"{after / name}{end}", f"{place}{end}"],
            timeout=_AROUND,
        )  # fmt: skip
