"""The kinds of VM containers that there are, as plain data, so that a plan imports nothing that runs machines."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.description import Cluster, Host, Hypervisor

if TYPE_CHECKING:
    from pipeline.hosts.place import Place


@dataclass(frozen=True)
class Kind:
    """One kind.  `engines` can be had there.  `is_shared`: several clusters have their share of it, so each has a
    folder and bridges that carry its name.  `is_made`: it is made here, of a distribution, memory and processors.
    `has_task`: it is started or asked before clusters are.  `disks_are_here`: on this machine.

    `place` is the function ("module:function") that makes a cluster's place there.
    """

    word: str
    engines: tuple[Hypervisor, ...]
    place: str
    is_shared: bool = False
    is_made: bool = False
    has_task: bool = False
    disks_are_here: bool = False


#: Those whose recipe says which by a word, and the one that is given by the URI of its libvirt.
KINDS = (
    Kind("private", ("qemu",), "pipeline.hosts.private:place", disks_are_here=True),
    Kind(
        "testbed",
        ("xen",),
        "pipeline.hosts.testbed:place",
        is_shared=True,
        is_made=True,
        has_task=True,
        disks_are_here=True,
    ),
)
GIVEN = Kind("", ("qemu", "xen"), "pipeline.hosts.given:place", is_shared=True, has_task=True)


def of(connection: str) -> Kind:
    """The kind of a host that is reached so."""
    return next((kind for kind in KINDS if kind.word == connection), GIVEN)


def place(host: Host, cluster: Cluster, run_dir: Path, artifacts: Path) -> Place:
    """A cluster's place on a host; `artifacts` is the folder of all artifacts."""
    make = pkgutil.resolve_name(of(host.connection).place)
    return cast("Place", make(host, cluster, run_dir, artifacts))


def schemes() -> dict[str, Hypervisor]:
    """The schemes of URIs by which a host can be given, and the engine that is meant."""
    return {f"{engine}{way}": engine for engine in GIVEN.engines for way in ("", "+ssh")}
