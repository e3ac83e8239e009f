"""The kernel of another distribution over a root file system: a layer with it, its ramdisk, and /boot's names.

What a machine needs of its modules is in the ramdisk, and loaded there: the system on its disk may be older than what
loads such modules.  Beside the layer lie `kernel` and `initrd.img`, for hypervisors that load them themselves.
"""

from __future__ import annotations

from pipeline.builders import initrd
from pipeline.guests import kernel
from pipeline.layers import stacking
from pipeline.rootfs import RootFs
from pipeline.step import Job

#: What udev would load: network cards, and the power button with which a hypervisor asks a machine to end.
_MODULES = ("virtio_net", "xen_netfront", "button", "evdev")


def build(job: Job) -> None:
    """Builder: the layer, `kernel` and `initrd.img`; the root file system with the kernel has the role `kernel`."""
    with stacking.stacked(job, [job.input("kernel")]) as other, RootFs(other) as source:
        found = kernel.find(source)
        image, ramdisk = source.read(found.image), initrd.ramdisk(found, _MODULES).compressed()
    (job.out / "kernel").write_bytes(image)
    (job.out / "initrd.img").write_bytes(ramdisk)
    with stacking.changed(job) as top, RootFs(top) as root:
        for name, data in ((f"vmlinuz-{found.version}", image), (f"initrd.img-{found.version}", ramdisk)):
            root.write(f"boot/{name}", data)
        root.link("boot/vmlinuz", f"vmlinuz-{found.version}")
        root.link("boot/initrd.img", f"initrd.img-{found.version}")
        for path, text in job.params["files"].items():
            root.write(path, text, 0o755)
