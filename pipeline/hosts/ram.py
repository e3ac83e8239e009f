"""The memory of a machine that runs in its cluster's namespaces, as a file that can be copied while it is paused."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ClusterError
from pipeline.hosts.namespace import Namespace


def of(home: Namespace, domain: str, size: int) -> Path:
    """The memory of a machine with so many bytes of it; it has no name, but QEMU has it open."""
    processes = Path(f"/proc/{home.pid}/root")
    number = (processes / f"run/libvirt/qemu/{domain}.pid").read_text().strip()
    for path in (processes / f"proc/{number}/fd").iterdir():
        if path.readlink().name.startswith("memfd:") and path.stat().st_size == size:
            return path
    raise ClusterError(
        f"{domain}: its memory is not to be found",
        hint=f"was it started by an older version?  doit stop:{home.cluster}",
    )
