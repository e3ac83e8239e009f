"""Whether a cluster can be frozen at all, is frozen as it is today, and would be without anybody's asking for it.

Light enough to be asked by a run that has nothing to do.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from pipeline import events, frozen, naming
from pipeline.errors import NotNow
from pipeline.figures import size
from pipeline.hosts import kinds

if TYPE_CHECKING:
    from pipeline.cluster.lifecycle import Lifecycle

#: How many times what it takes at the most must be free of the file system, and how many times its machines' memory of
#: this machine's, for a cluster to be frozen that nobody has asked to freeze: one copy, and as much for all else.
_DISK, _MEMORY = 4, 2


def require(life: Lifecycle) -> None:
    """Raise NotNow for a cluster that is not on QEMU in a private place, or whose machines have no virtio."""
    name = life.cluster.name
    if life.host.hypervisor != "qemu" or kinds.of(life.host.connection).is_shared:
        raise NotNow(
            f"{name} is on host {life.host.name}: only clusters on QEMU on this machine can be frozen and thawed",
            hint=f"a cluster that extends {name}, without its host, can be",
        )
    old = [machine.name for machine in life.cluster.machines if machine.devices != "virtio"]
    if old:
        raise NotNow(
            f"{name} cannot be frozen: {', '.join(old)} has no virtio, through which a copy is told who it is",
            hint='devices = "virtio" in its recipe, where its system has drivers for that',
        )


def digests(life: Lifecycle) -> dict[str, str]:
    """What a cluster would be made of today: digests by role; what has not been built is left out."""
    entries = {role: life.engine.keys.entry(task) for role, task in life.made.parts().items()}
    return {role: entry.digest for role, entry in entries.items() if entry is not None}


def most_mib(life: Lifecycle) -> int:
    """MiB that a cluster which runs takes at the most when it is frozen: all memory, and its disks as they are."""
    taken = sum(path.stat().st_blocks * 512 for path in (life.run_dir / "disks").iterdir())
    return _memory_mib(life) + (taken >> 20)


def is_settled(life: Lifecycle) -> bool:
    """Whether a verified cluster needs no freezing: it can never be, it is frozen as it is today, people may have
    worked on it since, or there is not enough room for what nobody has asked for, which is told."""
    try:
        require(life)
    except NotNow:
        return True
    try:
        cold = frozen.read(life.engine.own, life.cluster.name)
    except NotNow:  # of another version's: it is replaced
        cold = None
    if cold is not None and not cold.differs(digests(life), cold.here):
        return True
    if not life.booted_here and not life.verified_here:
        return True
    name, short = life.cluster.name, _short(life)
    if short:
        events.note(f"{name}: not frozen: {short}; doit freeze {name} does it all the same")
    else:
        events.reason(naming.phase("cluster", name), "verified, and not frozen as it is")
    return bool(short)


def _short(life: Lifecycle) -> str:
    """What there is not enough of, "" if there is."""
    from pipeline.hosts import memory

    disk, ram = _DISK * most_mib(life), _MEMORY * _memory_mib(life)
    free, available = shutil.disk_usage(life.engine.own).free >> 20, memory.available_mib()
    if free < disk:
        return f"{size(free << 20)} of its file system are free, less than {size(disk << 20)}"
    if available < ram:
        return f"{size(available << 20)} of memory are available, less than {size(ram << 20)}"
    return ""


def _memory_mib(life: Lifecycle) -> int:
    return sum(machine.memory_mib for machine in life.cluster.machines)
