"""What tasks are called, as doit knows them: KIND:NAME, where NAME begins with what the artifact belongs to.

Which artifacts a cluster is made of, the plan says (`step.Made`).  These are for whoever has a cluster, a machine, a
distribution or a host in hand, and wants its task.
"""

from __future__ import annotations


def disk(cluster: str, machine: str) -> str:
    """The disk of a machine."""
    return f"disk:{cluster}/{machine}"


def dom0(distro: str) -> str:
    """What a testbed that runs Xen boots from."""
    return f"dom0:{distro}"


def headnode(cluster: str) -> str:
    """The head node as a tarball."""
    return f"headnode:{cluster}"


def index(distro: str) -> str:
    """The snapshot of a distribution's package index."""
    return f"index:{distro}"


def netboot(architecture: str) -> str:
    """The installer's kernel and ramdisk, for machines of that architecture."""
    return f"netboot:{architecture}"


def phase(name: str, cluster: str) -> str:
    """A phase of a cluster's life: boot, install, start, verify, cluster (all of them), stop."""
    return f"{name}:{cluster}"


def host(name: str) -> str:
    """A VM container, started or asked."""
    return f"host:{name}"


def testbed(host: str) -> str:
    """What the run folder of a testbed is called, and who ends it says."""
    return f"testbed-{host}"
