"""The kernel of another distribution over an older system: in layers, as every run makes it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import zstandard

from pipeline import sandbox
from pipeline.builders import modernkernel
from pipeline.layers import stacking
from pipeline.rootfs import RootFs
from pipeline.step import Input
from tests.namespaced import inside, job

#: What the older system has: a kernel with a higher number, and a udev.
OLD = {
    "boot/vmlinuz-9.6.17_FC4": b"old",
    "lib/modules/9.6.17_FC4/modules.dep": b"",
    "sbin/start_udev": b"udev 058",
}
NEW = {
    "boot/vmlinuz-6.1.0": b"new",
    "usr/bin/busybox": b"busybox",
    "usr/lib/modules/6.1.0/xen-netfront.ko": b"\x7fELF\0depends=\0",
    "usr/lib/modules/6.1.0/virtio_net.ko": b"\x7fELF\0depends=\0",
    "usr/lib/modules/6.1.0/nfsd.ko": b"\x7fELF\0depends=\0",
}


def layer(folder: Path, role: str, files: dict[str, bytes]) -> Input:
    """Inner side: a root file system of one layer."""
    work = job(folder / role, pool=folder / "artifacts/pool")
    sandbox.scratch(work.work, 1 << 30)
    with stacking.changed(work) as top, RootFs(top) as root:
        for path, data in files.items():
            root.write(path, data)
    return published(role, work.out)


def published(role: str, out: Path) -> Input:
    return Input(role, role, out, hashlib.sha256((out / stacking.LAYER).read_bytes()).hexdigest())


def over_an_older_system(where: str) -> None:
    folder = Path(where)
    old, new = layer(folder, "layer", OLD), layer(folder, "kernel", NEW)
    files = {"/sbin/start_udev": "#!/bin/sh\n"}
    work = job(folder / "made", {"files": files}, old, new, pool=folder / "artifacts/pool")
    sandbox.scratch(work.work, 1 << 30)
    modernkernel.build(work)
    made = published("layer", work.out)
    look = job(folder / "look", pool=folder / "artifacts/pool")
    with stacking.stacked(look, [old, made]) as top, RootFs(top) as root:
        # GRUB and pygrub read these names, a hypervisor the files beside the layer
        assert root.read("boot/vmlinuz") == (work.out / "kernel").read_bytes() == b"new"
        assert root.read("boot/initrd.img") == (work.out / "initrd.img").read_bytes()
        assert root.readlink("boot/vmlinuz") == "vmlinuz-6.1.0"
        assert root.read("boot/vmlinuz-9.6.17_FC4") == b"old", "its packages have all their files"
        assert root.read("sbin/start_udev") == b"#!/bin/sh\n"
        udev = root.stat("sbin/start_udev")
        assert udev is not None and udev.st_mode & 0o777 == 0o755
    listed = subprocess.run(
        ["busybox", "cpio", "-t"],
        input=zstandard.decompress((work.out / "initrd.img").read_bytes()),
        check=True,
        capture_output=True,
        timeout=20,
    ).stdout.decode()
    assert "modules/00-virtio_net.ko" in listed and "modules/01-xen_netfront.ko" in listed and "nfsd" not in listed


def test_a_machine_finds_another_kernel_under_the_names_that_loaders_read(tmp_path: Path) -> None:
    inside(over_an_older_system, tmp_path)
