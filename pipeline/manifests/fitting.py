"""What does not fit together of a cluster, its distribution, its host and the kernel that it has from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.guests import flavours
from pipeline.manifests import describing
from pipeline.manifests.cluster import Cluster
from pipeline.manifests.distro import Distro
from pipeline.manifests.host import Host
from pipeline.manifests.loader import Document
from pipeline.mistakes import Mistake, quoted
from pipeline.packages.families import FAMILIES


def misfits(
    document: Document, cluster: Cluster, distro: Distro, host: Host | None, kernel: Distro | None
) -> Iterator[Mistake]:
    """All of it; `host` is None where its recipe is broken, `kernel` the distribution that it is from, if another."""
    suffix = FAMILIES[distro.family].suffix
    for side in ("head", "compute"):
        for index, file in enumerate(getattr(cluster.packages, side)):
            if Path(file).suffix != suffix:
                yield document.mistake(
                    ("packages", side, index),
                    f"{quoted(Path(file).name)} is not for {distro.name}, whose packages are files that end in "
                    f"{quoted(suffix)}",
                )
    devices = describing.guest_of(cluster, distro).devices
    if host is not None and host.kind == "xen" and devices == "pc":
        text = (
            f"{quoted(host.name)} runs Xen, for whose disks {distro.name} has no drivers; expected one with QEMU, or "
            'the kernel of another distribution, as kernel_from = "debian12"'
        )
        yield document.mistake(("host",), text)
    if kernel is not None and flavours.of(kernel.guest).own_ramdisk:
        text = f"our ramdisk does not run on the kernel of {kernel.name}; expected a distribution of today"
        yield document.mistake(("kernel_from",), text)
    for key, text in cluster.disks_beyond(devices):
        yield document.mistake(key, f"{text}: machines of {distro.name} have IDE, with four places")
