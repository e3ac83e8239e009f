"""Kernel and ramdisk of the installer: one pair for all clusters, distributions and hypervisors.

The ramdisk holds busybox, the real rsync, sfdisk, mke2fs and mkswap with the libraries they need, the drivers of
virtual disks and network cards, and the files of `pipeline/installer/`.  It asks the head node for everything else.
"""

from __future__ import annotations

import struct
from pathlib import Path

from pipeline.cpio import Ramdisk
from pipeline.errors import BuildError
from pipeline.guests import kernel
from pipeline.layers import stacking
from pipeline.rootfs import RootFs
from pipeline.step import Job

_SHIPPED = Path(__file__).resolve().parent.parent / "installer"

#: Drivers of what virtual machines have; what the kernel has built in or does not know is left out.
MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "xen_blkfront",
    "xen_netfront",
    "ext4",
    "crc32c_generic",
)

_PROGRAMS = ("/usr/bin/rsync", "/usr/sbin/sfdisk", "/usr/sbin/mke2fs", "/usr/sbin/mkswap")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64")


def build(job: Job) -> None:
    """Builder: `kernel` and `initrd.img`."""
    with stacking.stacked(job, layers=[job.input("toolroot")]) as top, RootFs(top) as root:
        found = kernel.find(root)
        (job.out / "kernel").write_bytes(root.read(found.image))
        (job.out / "initrd.img").write_bytes(_ramdisk(root, found).compressed())


def _ramdisk(root: RootFs, found: kernel.Kernel) -> Ramdisk:
    ramdisk = Ramdisk()
    for folder in ("dev", "proc", "sys", "run", "tmp", "etc", "usr/sbin"):
        ramdisk.folder(folder)
    ramdisk.device("dev/console", 5, 1)
    ramdisk.link("bin", "usr/bin")
    ramdisk.link("sbin", "usr/sbin")
    ramdisk.link("lib", "usr/lib")
    ramdisk.link("lib64", "usr/lib64")
    ramdisk.file("usr/bin/busybox", root.read("usr/bin/busybox"), 0o755)
    ramdisk.link("usr/bin/sh", "busybox")
    for program in _PROGRAMS:
        _add_program(ramdisk, root, program)
    # a checkout may have lost the modes that its files should have
    for name, path, mode in (
        ("functions.sh", "usr/lib/installer/functions.sh", 0o644),
        ("dhcp", "usr/lib/installer/dhcp", 0o755),
        ("init", "init", 0o755),
    ):
        ramdisk.file(path, (_SHIPPED / name).read_bytes(), mode)
    for number, module in enumerate(found.modules(MODULES)):
        ramdisk.file(f"usr/lib/modules/{number:02}-{module.name}.ko", module.data)
    # rsync and mke2fs ask for names of users and for defaults: empty answers are right here
    ramdisk.file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
    ramdisk.file("etc/group", b"root:x:0:\n")
    ramdisk.file("etc/mke2fs.conf", root.read("etc/mke2fs.conf"))
    return ramdisk


def _add_program(ramdisk: Ramdisk, root: RootFs, program: str) -> None:
    """A program, the loader that it asks for, and all libraries that it needs, directly or not."""
    pending = [program.strip("/")]
    while pending:
        path = pending.pop()
        if path in ramdisk:
            continue
        data = root.read(path)
        ramdisk.file(path, data, 0o755)
        loader, names = _dynamic(data)
        if loader:
            pending.append(
                loader.strip("/").replace("lib64/", "usr/lib64/", 1)
                if loader.startswith("/lib64/")
                else loader.strip("/")
            )
        pending += [_library(root, name) for name in names]


def _library(root: RootFs, name: str) -> str:
    for folder in _LIBRARIES:
        if root.is_file(f"{folder}/{name}"):
            return f"{folder}/{name}"
    raise BuildError(
        f"the installer needs {name}, which no package of the tool root has",
        hint="add the package that has it to recipes/netboot/",
    )


def _dynamic(data: bytes) -> tuple[str, list[str]]:
    """The loader (PT_INTERP) and needed libraries (DT_NEEDED) of a 64-bit little-endian ELF file."""
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers: list[tuple[int, ...]] = [
        struct.unpack_from("<IIQQQQQQ", data, offset + number * size) for number in range(count)
    ]
    loads = [(address, start, length) for kind, _, start, address, _, length, _, _ in headers if kind == 1]

    def at(address: int) -> int:
        return next(start + address - base for base, start, length in loads if base <= address < base + length)

    loader = ""
    needed: list[int] = []
    strings = 0
    for kind, _, start, _, _, length, _, _ in headers:
        if kind == 3:
            loader = data[start : start + length].rstrip(b"\0").decode()
        if kind == 2:
            for position in range(start, start + length, 16):
                tag, value = struct.unpack_from("<qQ", data, position)
                if tag == 0:
                    break
                if tag == 1:
                    needed.append(value)
                elif tag == 5:
                    strings = at(value)
    return loader, [data[strings + value : data.index(b"\0", strings + value)].decode() for value in needed]
