"""Whether this machine has the memory for a cluster, asked before the first of its machines starts.

QEMU takes memory when its machine touches it.  So a cluster that is too large starts well, and some minutes later the
kernel ends one of its machines, or of somebody else's programs.  What every machine is sure to touch must be there;
where the whole of it is not, that is told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.description import Machine
from pipeline.drivers.domain import Accelerator
from pipeline.errors import ClusterError

#: MiB of QEMU beside its machine's memory.  Emulating 113 to 116 were measured, of which 64 are translated code.
_BESIDES: Mapping[Accelerator, int] = {"tcg": 116, "kvm": 64}
#: MiB that a machine has touched when it has been verified, as far as it has that much (measured: all of 384 and 512).
_TOUCHED = 384

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def require(machines: Sequence[Machine], accelerator: Accelerator, *, touched: int = _TOUCHED) -> str:
    """Raise ClusterError where these machines are sure not to fit; what to tell where they may not ("" = all fits).
    `touched` are MiB that each is sure to take of its memory."""
    besides = _BESIDES[accelerator] * len(machines)
    whole = sum(machine.memory_mib for machine in machines) + besides
    least = sum(min(machine.memory_mib, touched) for machine in machines) + besides
    free, total = available_mib(), sum(_meminfo("MemTotal", "SwapTotal"))
    largest = max(machines, key=lambda machine: machine.memory_mib)
    hint = "end other clusters or programs, or give the manifest fewer machines or less memory"
    if largest.memory_mib > total:
        raise ClusterError(
            f"{largest.name} has {largest.memory_mib} MiB of memory, this machine has {total}",
            hint="give it less in the manifest",
        )
    numbers = f"{len(machines)} machines with {whole - besides} MiB of memory and {besides} MiB for their QEMU"
    if least > free:
        raise ClusterError(
            f"not enough memory: {numbers} need {least} MiB at the least, {free} MiB are available", hint=hint
        )
    return f"memory is short: {numbers}, {free} MiB are available; {hint}" if whole > free else ""


def room(machine: Machine, accelerator: Accelerator) -> int:
    """For how many more machines like this one there is memory."""
    return available_mib() // (machine.memory_mib + _BESIDES[accelerator])


def available_mib() -> int:
    """MiB that can still be had here: the machine's, or what is left of a limit on this process's control group."""
    return min([sum(_meminfo("MemAvailable", "SwapFree")), *_left_in_groups()])


def _meminfo(*names: str) -> list[int]:
    found = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    return [int(found[name].split()[0]) >> 10 for name in names]


def _left_in_groups() -> Iterator[int]:
    """What the limits of the control groups that this process is in leave, by the unified hierarchy."""
    own = next((line[3:] for line in _OWN_CGROUP.read_text().splitlines() if line.startswith("0::")), "/")
    folder = _CGROUPS / own.lstrip("/")
    while folder != _CGROUPS.parent:
        with contextlib.suppress(OSError, ValueError, KeyError):  # the root has no limit, and "max" is none
            limit = int((folder / "memory.max").read_text())
            used = int((folder / "memory.current").read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield (limit - used + int(stat["inactive_file"]) + int(stat["active_file"])) >> 20
        folder = folder.parent
