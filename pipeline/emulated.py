"""Foreign code in a small virtual machine, for what this machine's kernel does not have: the vsyscall page.

Programs with a C library older than 2.14 or so call the kernel there on x86_64, and die where it is not mapped, as is
usual today; no chroot can change that.  The machine has the installer's kernel and ramdisk, and no network.  The root
goes in and comes back as a tar archive on a disk, with all that layers keep of a file.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import borrowed, inventory
from pipeline.cpio import Ramdisk
from pipeline.errors import BuildError
from pipeline.run import Completed, run

#: The host programs that it takes.
TOOLS = ("ldd", "qemu-system-x86_64", "rsync", "tar")
#: Bytes that the root, and what comes back, may grow to; the files have holes.  MiB of memory.
_DISK, _MEMORY = 16 << 30, 1536
#: Seconds in which the machine starts, and its disks are filled and packed.
_AROUND = 600
_BROUGHT = "brought"
_TAR = (*inventory.TAR_CREATE, "--format=posix", "--numeric-owner")
_UNTAR = (*inventory.TAR, "--extract", "--numeric-owner", "--same-permissions", "--delay-directory-restore")

#: Process 1: disks are the root to be, the archives of the root and of binds, and the one that comes back; of the two
#: ports the first gets what is printed, the second how it goes.
_INIT = """#!/usr/bin/sh
PATH=/usr/sbin:/usr/bin
/usr/bin/busybox mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for module in /usr/lib/modules/*.ko; do insmod "$module" 2>/dev/null; done
leave() { echo "$*" >/dev/vport0p2; sync; poweroff -f; sleep 60; }
TAR='/brought/%(loader)s --library-path /brought /brought/tar'
tries=0
until [ -b /dev/vdd ] && [ -c /dev/vport0p2 ]; do
    tries=$((tries + 1))
    [ $tries -gt 200 ] && exit 1
    usleep 100000
done
mkdir -p /a
/usr/sbin/mke2fs -q -F -t ext4 -O ^has_journal /dev/vda && mount /dev/vda /a || leave "no disk"
mkdir /a/root /a/binds
$TAR %(untar)s --directory=/a/root --file=/dev/vdb && $TAR %(untar)s --directory=/a/binds --file=/dev/vdc ||
    leave "its root cannot be unpacked"
cd /a/root
mount -t proc -o nosuid,nodev,noexec proc proc
for name in dev run tmp; do mount -t tmpfs -o nosuid tmpfs $name; done
chmod 1777 tmp
for node in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0'; do
    set -- $node
    mknod -m 666 dev/$1 c $2 $3
done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm run/lock run/machine
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
cp /usr/bin/busybox run/machine/
%(binds)s
umask 022
# by its path: busybox would take programs of its own for those of that name, and has an rpm
cat >run/machine/start <<'EOF'
cd "$1" && shift || exit
name=$1 && shift
IFS=:
for folder in $PATH; do
    case $name in */*) break ;; esac
    [ -x "$folder/$name" ] && name=$folder/$name
done
unset IFS
exec "$name" "$@"
EOF
cd /
chroot /a/root /run/machine/busybox env -i %(env)s /run/machine/busybox sh /run/machine/start %(words)s \\
    >/a/output 2>&1 </dev/null
status=$?
kill -9 -1 2>/dev/null
head -c 33554432 /a/output >/dev/vport0p1
for name in %(unbinds)s dev/pts dev run tmp proc; do umount -l /a/root/$name; done
$TAR --create %(tar)s --directory=/a/root --file=/dev/vdd . || leave "its root cannot be packed"
leave "status $status"
"""


def run_in(
    root: Path,
    argv: Sequence[str],
    machine: Path,
    *,
    log: Path,
    timeout: float,
    binds: Iterable[tuple[Path, str]],
    env: Mapping[str, str],
    cwd: str,
) -> Completed:
    """As `sandbox.chroot_run`, with the kernel and ramdisk in the folder `machine`.  Raises BuildError when the machine
    does not get to its end."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        shown = list(binds)
        _pack(work, root, shown)
        below = (machine / "initrd.img").read_bytes()
        own = _ramdisk(argv, shown, env, cwd).archive()
        (work / "initrd").write_bytes(below + bytes(-len(below) % 4) + own)  # the kernel's rule for several
        for name in ("disk", "back"):
            with (work / name).open("wb") as file:
                file.truncate(_DISK)
        run([*_qemu(work, machine / "kernel")], timeout=timeout + _AROUND)
        said = (work / "said").read_text(errors="replace").strip() if (work / "said").exists() else ""
        if not said.startswith("status "):
            console = (work / "console").read_text(errors="replace").splitlines()
            raise BuildError(
                f"the machine for {shlex.join(argv)[:80]} did not get to its end: {said or 'it said nothing'}",
                tail="\n".join(console[-12:]),
                hint="doit doctor",
                log=log,
            )
        with log.open("ab") as file, (work / "output").open("rb") as output:
            shutil.copyfileobj(output, file)
        _unpack(work, root)
        return Completed(tuple(argv), int(said.removeprefix("status ")), "", "")


def _pack(work: Path, root: Path, binds: Sequence[tuple[Path, str]]) -> None:
    run(["tar", "--create", *_TAR, f"--directory={root}", f"--file={work / 'root.tar'}", "."], timeout=_AROUND)
    shown = work / "binds"
    shown.mkdir()
    for number, (source, _) in enumerate(binds):
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, shown / str(number))
    run(["tar", "--create", *_TAR, f"--directory={shown}", f"--file={work / 'binds.tar'}", "."], timeout=_AROUND)
    shutil.rmtree(shown)


def _ramdisk(argv: Sequence[str], binds: Sequence[tuple[Path, str]], env: Mapping[str, str], cwd: str) -> Ramdisk:
    """What goes on top of the installer's."""
    loader, files = borrowed.program("tar")
    made = Ramdisk()
    for path in files:
        made.file(f"{_BROUGHT}/{path.name}", path.read_bytes(), 0o755)
    lines = []
    for number, (source, target) in enumerate(binds):
        place = shlex.quote(f"/a/root{target}")
        lines += [
            f"mkdir -p {place}" if source.is_dir() else f"mkdir -p $(dirname {place}); : >{place}",
            f"mount -o bind /a/binds/{number} {place}",
        ]
    words: dict[str, Any] = {
        "loader": loader,
        "untar": shlex.join(_UNTAR),
        "tar": shlex.join(_TAR),
        "binds": "\n".join(lines),
        "unbinds": " ".join(shlex.quote(target.lstrip("/")) for _, target in binds),
        "env": shlex.join(f"{name}={value}" for name, value in env.items()),
        "words": shlex.join([cwd, *argv]),
    }
    made.file("init", (_INIT % words).encode(), 0o755)
    return made


def _qemu(work: Path, kernel: Path) -> list[str]:
    disks = [("disk", "off"), ("root.tar", "on"), ("binds.tar", "on"), ("back", "off")]
    words = [
        "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "max", "-m", str(_MEMORY), "-nodefaults",
        "-display", "none", "-no-reboot", "-kernel", str(kernel), "-initrd", str(work / "initrd"),
        "-append", "console=ttyS0 quiet panic=-1 vsyscall=emulate", "-serial", f"file:{work / 'console'}",
        "-device", "virtio-serial-pci",
    ]  # fmt: skip
    for number, name in enumerate(("output", "said"), start=1):
        words += ["-chardev", f"file,id={name},path={work / name}",
                  "-device", f"virtserialport,chardev={name},name={name},nr={number}"]  # fmt: skip
    for name, read_only in disks:
        words += ["-drive", f"file={work / name},format=raw,if=virtio,cache=unsafe,readonly={read_only}"]
    return words


def _unpack(work: Path, root: Path) -> None:
    """Make the root what came back, and touch no file that is the same."""
    for name in ("disk", "root.tar", "binds.tar"):
        (work / name).unlink()
    after = work / "after"
    after.mkdir()
    run(["tar", *_UNTAR, f"--directory={after}", f"--file={work / 'back'}"], timeout=_AROUND)
    run(
        ["rsync", "--archive", "--hard-links", "--acls", "--xattrs", "--numeric-ids", "--delete", "--checksum",
         f"{after}/", f"{root}/"],
        timeout=_AROUND,
    )  # fmt: skip
