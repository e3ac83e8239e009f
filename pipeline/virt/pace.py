"""How many machines are brought up at once, and how long each may take: from their number, processors and accelerator.

Measured with a head node and two compute nodes on two emulated processors: to boot takes 15 to 17 s of a processor, to
be installed 20 s and another 8.5 s of the head node's, which serves the image; to answer about all its files 20 s.  An
installation waits for network and disk a third of its time.  So a few machines more than there are processors are
enough to keep them busy, and one emulated processor of a head node has its hands full with four installations; more at
once would only make each slower.  With hardware virtualisation machines mostly wait for disks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.drivers.domain import Accelerator

#: From power-on to READY, the same for the head node, from an empty disk to DONE and off, and telling all about itself.
Work = Literal["start", "boot", "install", "verify"]

#: Seconds for one machine, when no more are at it than is useful: five to ten times what was measured, and then twice,
#: for a host that is half as fast or busy with something else.
_DEADLINES: dict[Work, float] = {"start": 600, "boot": 400, "install": 1200, "verify": 900}
#: What a processor of the VM container can carry at once, and how many installations one of the head node's can serve.
_CARRIED: dict[Accelerator, int] = {"tcg": 1, "kvm": 4}
_SERVED: dict[Accelerator, int] = {"tcg": 4, "kvm": 8}
#: On any host: disks, libvirt and the head node's services have limits of their own.
MOST = 32


@dataclass(frozen=True)
class Capacity:
    """What carries the machines: processors of the VM container that they may use, and their accelerator ("kvm" also
    for any other hypervisor on real hardware); `serving` are processors of the head node, `room` is for how many more
    machines there is memory."""

    processors: int
    accelerator: Accelerator
    serving: int = 1
    room: int = MOST


def at_once(work: Work, capacity: Capacity) -> int:
    """How many machines are at it at the same time; one that ends makes room for the next."""
    return max(1, min(_useful(work, capacity), capacity.room))


def patience(machines: int, work: Work, capacity: Capacity) -> float:
    """By what deadlines are multiplied where so many machines are at it at once; never less than 1."""
    return max(1.0, machines / _useful(work, capacity))


def deadline(machines: int, work: Work, capacity: Capacity) -> float:
    """Seconds within which each of so many machines that are at it at once must get there."""
    return _DEADLINES[work] * patience(machines, work, capacity)


def _useful(work: Work, capacity: Capacity) -> int:
    """Beyond so many at once each only becomes slower."""
    most = capacity.processors * _CARRIED[capacity.accelerator] + 1
    if work in ("install", "verify"):  # the head node has a part in each
        most = min(most, capacity.serving * _SERVED[capacity.accelerator])
    return min(most, MOST)
