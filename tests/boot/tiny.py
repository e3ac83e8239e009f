"""The smallest machine that behaves like one of ours: this host's kernel with a busybox ramdisk.

It takes what it shall do from its kernel command line (`act=`), reports on the channel and answers on the network.
So everything around machines can be tested in seconds, before any distribution is built.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
for arg in $(cat /proc/cmdline); do
    case $arg in act=*) act=${arg#*=} ;; address=*) address=${arg#*=} ;; esac
done
until [ -e /dev/vport0p1 ] || [ -e /dev/vport1p1 ] || [ -e /dev/vport2p1 ] || [ -e /dev/vport3p1 ]; do sleep 0.1; done
exec 3> "$(echo /dev/vport*p1)"
echo "STATUS boot starts 10%" >&3
printf 'tiny: \\033[1mbold\\033[0m act=%s disks: ' "$act"
echo $(for disk in /sys/block/vd*; do cat $disk/serial; echo; done)
if [ -n "$address" ]; then
    ip link set eth0 up
    ip address add "$address" dev eth0
    nc -ll -p 7 -e /bin/cat &
    until grep -q ':0007 0*:0000 0A' /proc/net/tcp /proc/net/tcp6; do usleep 50000; done    # it listens
fi
case $act in
    ready) echo READY >&3 ;;
    install) echo "STATUS copy files 50 %" >&3; dd if=/dev/zero of=/dev/vda bs=64k count=16 2> /dev/null
             echo DONE >&3; sync; poweroff -f ;;
    fail) echo "STATUS partition /dev/vda" >&3; echo "FAIL the disk is too small" >&3 ;;
    off) poweroff -f ;;
    panic) echo c > /proc/sysrq-trigger ;;
    reboot) reboot -f ;;
    flood) echo READY >&3; yes "it prints as fast as it can" > /dev/ttyS0 & yes "STATUS flood" >&3 & ;;
    fill) dd if=/dev/urandom of=/dev/vda bs=64k 2> /dev/null; sync; echo READY >&3 ;;
esac
exec setsid cttyhack sh
"""


def ramdisk(kernel: Path, folder: Path) -> Path:
    """Make the ramdisk in `folder`, with the virtio modules that belong to `kernel`."""
    busybox = shutil.which("busybox")
    modules = Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-")
    assert busybox is not None, "busybox-static is missing"
    tree = folder / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "modules").mkdir()
    shutil.copy(busybox, tree / "bin/busybox")
    (tree / "init").write_text(_INIT)
    (tree / "init").chmod(stat.S_IRWXU)
    needed = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio-rng", "virtio_balloon")
    order = _in_order(modules, needed)
    for path in order:
        shutil.copy(modules / path, tree / "modules")
    (tree / "modules/order").write_text("\n".join(Path(path).name for path in order) + "\n")
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    made = subprocess.run(
        ["busybox", "cpio", "-o", "-H", "newc"], cwd=tree, input=names.encode(), capture_output=True, check=True
    )
    (folder / "initrd").write_bytes(made.stdout)
    return folder / "initrd"


def _in_order(modules: Path, names: tuple[str, ...]) -> list[str]:
    """The files of these modules and of all they need, needs first."""
    needs = {
        line.partition(":")[0]: line.partition(":")[2].split()
        for line in (modules / "modules.dep").read_text().splitlines()
    }
    order: dict[str, None] = {}
    for name in names:
        for path, others in needs.items():
            if re.fullmatch(rf".*/{name}\.ko", path):
                order.update(dict.fromkeys([*reversed(others), path]))
    return list(order)
