"""A testbed for Xen: what an emulated machine needs to become a VM container.

    disk.img     the root file system of dom0, a whole disk without a partition table
    xen          the hypervisor as a plain ELF file, as a multiboot loader takes it
    kernel       dom0's kernel as a plain ELF file: unpacking it inside of an emulated machine would take seconds
    initrd.img   the small ramdisk that mounts the disk

The files of `pipeline/dom0/` make a VM container of it; keys and addresses reach it when it starts.
"""

from __future__ import annotations

import gzip
import lzma
import re
import struct
from pathlib import Path

from pipeline.builders import initrd, layout
from pipeline.errors import BuildError
from pipeline.guests import kernel
from pipeline.layers import ext4, stacking
from pipeline.layers.tools import tools
from pipeline.rootfs import RootFs
from pipeline.step import Job

_SHIPPED = Path(__file__).resolve().parent.parent / "dom0" / "files"

#: Room for logs, for kernels of the machines, and for disks that are uploaded as to a remote host.
_SIZE_MIB = 8192

_ENABLED = ("libvirtd.service", "ssh.service", "systemd-networkd.service", "xenhost-ready.service")
#: What would take seconds of an emulated processor and is of no use in a machine that nobody logs in to.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "logrotate.timer",
    "man-db.timer",
    "e2scrub_reap.service",
    "getty@tty1.service",
    "getty-static.service",
    "console-getty.service",
    "serial-getty@hvc0.service",
    "systemd-logind.service",
    "systemd-user-sessions.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-hostnamed.socket",
    "systemd-firstboot.service",
    "systemd-sysusers.service",
    "systemd-random-seed.service",
    "systemd-binfmt.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "ldconfig.service",
    "systemd-pstore.service",
    "modprobe@drm.service",
    "modprobe@fuse.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@efi_pstore.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "libvirt-guests.service",
    "virtlockd.socket",
    "virtlogd.socket",
    "xendomains.service",
    "dm-event.socket",
    "lvm2-monitor.service",
    "iscsid.socket",
    "networking.service",
)
#: What QEMU's emulation of these models lacks and libvirt then finds no model at all.
_CPU_MODELS = ("x86_kvm64.xml", "x86_qemu64.xml")


def build(job: Job) -> None:
    """Builder: disk.img, xen, kernel, initrd.img."""
    with tools(job) as tool, stacking.stacked(job) as stack, ext4.blank(job.out / "disk.img", _SIZE_MIB << 20) as image:
        with RootFs(stack) as root:
            found = _dom0_kernel(root)
            (job.out / "xen").write_bytes(_hypervisor(root))
            (job.out / "kernel").write_bytes(unpacked(root.read(found.image)))
            (job.out / "initrd.img").write_bytes(initrd.ramdisk(found).compressed())
        tree, _ = stacking.writable(job, stack)
        with RootFs(tree) as root:
            _furnish(root)
        ext4.make(tool, image, tree, uuid=str(layout.identifier("dom0", "root")), size=_SIZE_MIB << 20)


def unpacked(image: bytes) -> bytes:
    """The ELF kernel inside of a bzImage that is packed with gzip or xz (Linux boot protocol 2.08)."""
    if image[0x202:0x206] != b"HdrS":
        raise BuildError("the kernel is no bzImage")
    start, length = struct.unpack_from("<II", image, 0x248)
    start += (image[0x1F1] + 1) * 512
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return gzip.decompress(payload[:-4])
    raise BuildError(
        f"the kernel is packed in a way that is not known here ({payload[:4].hex()})", hint="gzip and xz are"
    )


def _dom0_kernel(root: RootFs) -> kernel.Kernel:
    """The newest kernel that can be dom0's: a distribution's kernel for virtual machines cannot."""
    found = [one for one in kernel.all_below(root) if b"CONFIG_XEN_DOM0=y" in root.read(f"boot/config-{one.version}")]
    if not found:
        raise BuildError(
            "no kernel of this distribution can run as Xen's dom0",
            hint="add the general kernel, like linux-image-amd64, to packages.dom0",
        )
    return kernel.newest(found)


def _hypervisor(root: RootFs) -> bytes:
    files = [name for name in root.names("boot") if re.fullmatch(r"xen-.*\.gz", name)]
    if not files:
        raise BuildError("there is no hypervisor in /boot", hint="add xen-hypervisor-... to packages.dom0")
    return gzip.decompress(root.read(f"boot/{files[-1]}"))


def _furnish(root: RootFs) -> None:
    """Make a VM container of a plain root file system."""
    shipped = [path.relative_to(_SHIPPED).as_posix() for path in sorted(_SHIPPED.rglob("*")) if path.is_file()]
    for path in shipped:  # as root's, whoever has checked the project out
        root.copy(_SHIPPED / path, path)
    units = "etc/systemd/system"
    for unit in _MASKED:
        root.link(f"{units}/{unit}", "/dev/null")
    for target, names in (("multi-user.target", _ENABLED), ("sysinit.target", ("xenhost-identity.service",))):
        for name in names:
            own = f"{units}/{name}" in shipped
            root.link(
                f"{units}/{target}.wants/{name}",
                f"/etc/systemd/system/{name}" if own else f"/lib/systemd/system/{name}",
            )
    root.link(f"{units}/default.target", "/lib/systemd/system/multi-user.target")
    for model in _CPU_MODELS:
        path = f"usr/share/libvirt/cpu_map/{model}"
        root.write(path, re.sub(rb"\s*<feature name='sep'/>", b"", root.read(path)))
    # never used here; it starts slowly, and ends libvirtd where its user is missing
    for driver in root.files("usr/lib"):
        if driver.endswith("/libvirt/connection-driver/libvirt_driver_qemu.so"):
            root.remove(driver)
    root.make_folder("var/lib/xen-oscar", 0o700)
    root.make_folder("var/log/xen/console")
