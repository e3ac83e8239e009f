"""Where on its host the things of a cluster lie, and what its bridges are called there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

#: Where a cluster with namespaces of its own sees its run folder: the same path in each of them.
RUN = "/run/xen-oscar"
#: Where a host that clusters share keeps what belongs to them; each has a folder of its own there.
SHARED = "/var/lib/xen-oscar"


@dataclass(frozen=True)
class Site:
    """`folder` has `disks/`, `boot/` (kernels), `console/`, `report/` and `saved/` (memory); `bridges` is what stands
    before a network's name in that of its bridge.  With `overlays` a machine's own disk is one over an artifact,
    otherwise a copy of it."""

    folder: str
    bridges: str = ""
    overlays: bool = False

    def disk(self, machine: str) -> str:
        """The file that is a machine's own disk, or another that is made of an artifact."""
        return f"{self.folder}/disks/{machine}{'.qcow2' if self.overlays else ''}"

    def given(self, name: str) -> str:
        """A disk that a head node gets besides, by its name."""
        return f"{self.folder}/disks/{name}{'.img' if self.overlays else ''}"

    def data(self, machine: str, disk: str) -> str:
        """A machine's disk for data, by its name."""
        return self.given(f"{machine}.{disk}")

    def bridge(self, network: str) -> str:
        """The bridge of a network; names of bridges have 15 characters at most."""
        return f"{self.bridges}{network}"[:15]


#: Apart from all others, in namespaces of the cluster's own.
PRIVATE = Site(RUN, overlays=True)


def shared(cluster: str) -> Site:
    """On a host that clusters share, the folder and the bridges of each carry its name."""
    return Site(f"{SHARED}/{cluster}", f"xo{hashlib.sha256(cluster.encode()).hexdigest()[:5]}-")


def of(cluster: str, *, is_shared: bool) -> Site:
    """That of a cluster on a host that is shared with others, or is not."""
    return shared(cluster) if is_shared else PRIVATE
