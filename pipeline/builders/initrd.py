"""The small ramdisk with which head and compute nodes find their root file system: one layer with /boot's names.

It takes the root's own busybox and the few modules that its kernel does not have built in: about 1 MB instead of
the 14 MB that the distribution's tools make, which counts when GRUB reads it under emulation.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.cpio import Ramdisk
from pipeline.errors import BuildError
from pipeline.guests import kernel
from pipeline.layers import stacking
from pipeline.rootfs import RootFs
from pipeline.step import Job

_SHIPPED = Path(__file__).resolve().parent.parent / "installer"

#: What stands between a kernel and its disk, and the port on which a machine says that it is ready.
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "xen_blkfront", "ext4", "crc32c_generic")


def build(job: Job) -> None:
    """Builder: boot/initrd.img-VERSION, unless the kernel's package has made its own; and the names boot/vmlinuz and
    boot/initrd.img that grub.cfg uses."""
    with stacking.changed(job) as top, RootFs(top) as root:
        found = kernel.find(root)
        if job.params.get("own"):
            name = _own(found)
        else:
            name = f"initrd.img-{found.version}"
            root.write(f"boot/{name}", ramdisk(found).compressed())
        root.link("boot/vmlinuz", f"vmlinuz-{found.version}")
        root.link("boot/initrd.img", name)


def _own(found: kernel.Kernel) -> str:
    """The name of the ramdisk that mkinitrd has made for this kernel."""
    name = f"initrd-{found.version}.img"
    if not found.root.is_file(f"boot/{name}"):
        raise BuildError(
            f"the kernel's package has made no ramdisk /boot/{name}",
            hint="see the log of the root: its scripts run mkinitrd, which wants /etc/fstab and /etc/modprobe.conf "
            "(files = ... in the distribution's recipe)",
        )
    return name


def ramdisk(found: kernel.Kernel, more: Iterable[str] = ()) -> Ramdisk:
    """The ramdisk with which a machine with this kernel finds its root, with the busybox of the root file system that
    has it; `more` are modules that it loads besides."""
    busybox = next((path for path in ("usr/bin/busybox", "bin/busybox") if found.root.is_file(path)), None)
    if busybox is None:
        raise BuildError(
            "the root file system has no busybox", hint="add busybox-static to the distribution's manifest"
        )
    made = Ramdisk()
    for folder in ("dev", "proc", "sys", "root"):
        made.folder(folder)
    made.device("dev/console", 5, 1)
    made.link("bin", "usr/bin")
    made.file("usr/bin/busybox", found.root.read(busybox), 0o755)
    made.link("usr/bin/sh", "busybox")
    for number, module in enumerate(found.modules((*MODULES, *more))):
        made.file(f"modules/{number:02}-{module.name}.ko", module.data)
    made.file("init", (_SHIPPED / "find-root").read_bytes(), 0o755)
    return made
