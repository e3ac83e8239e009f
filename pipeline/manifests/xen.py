"""The table `[xen]` of a cluster: how its machines are run where the host is a Xen host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.description import Boot, Virtualization
from pipeline.manifests.fields import Items
from pipeline.manifests.loader import Table
from pipeline.manifests.membership import Group, unknown
from pipeline.mistakes import Key, quoted

_PCI = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])")
_DEVICE = re.compile(r"/dev(?:/[A-Za-z0-9][A-Za-z0-9._+:-]*)+")


def _pci(value: str) -> str:
    match = _PCI.fullmatch(value.lower())
    if match is None:
        raise ValueError(
            f'{quoted(value)} is no PCI device; expected its address as lspci shows it, like "03:00.0" or '
            '"0000:03:00.0"'
        )
    return f"{match[1] or '0000'}:{match[2]}"


def _device(value: str) -> str:
    if _DEVICE.fullmatch(value):
        return value
    raise ValueError(
        f'{quoted(value)} is no block device; expected a path like "/dev/vg0/node1" or "/dev/sdb2"'
        + (f"; did you mean {quoted('/dev/' + value)}?" if _DEVICE.fullmatch(f"/dev/{value}") else "")
    )


class XenMachine(Table):
    """What is special about one machine on Xen."""

    type: Virtualization | None = None
    """How it sees its hardware; without it, as [xen] says."""
    boot: Boot | None = None
    """Where its kernel comes from; without it, as [xen] says."""
    device: Annotated[str, AfterValidator(_device)] | None = None
    """The block device of the host that is its disk, like "/dev/vg0/node1"; without it, a disk file of ours."""
    pci: Items[Annotated[str, AfterValidator(_pci)]] = ()
    """The PCI devices of the host that it is given, like "03:00.0"."""


class XenTable(Table):
    """How machines are run on a Xen host."""

    type: Virtualization = "pv"
    """How machines see their hardware: "pv" paravirtualised, "pvh" the same in a hardware container, "hvm" full."""
    boot: Boot = "pygrub"
    """Where their kernel comes from: "pygrub" takes it from a machine's own disk, "kernel" is a file on the host."""
    machines: dict[str, XenMachine] = Field(default_factory=dict)
    """What is special about single machines, by name."""

    def of(self, machine: str) -> tuple[Virtualization, Boot, str, tuple[str, ...]]:
        """Type, boot, device and PCI devices of a machine."""
        own = self.machines.get(machine, XenMachine())
        return own.type or self.type, own.boot or self.boot, own.device or "", own.pci

    def faults(self, head: str, groups: Sequence[Group]) -> Iterator[tuple[Key, str]]:
        """What is wrong with it in a cluster whose machines have these names."""
        if (self.type, self.boot) == ("hvm", "kernel"):
            yield ("boot",), _HVM_KERNEL
        devices: dict[str, str] = {}
        for name, own in self.machines.items():
            key: Key = ("machines", name)
            yield from ((key, text) for text in unknown(name, head, groups))
            kind, boot, device, pci = self.of(name)
            if (kind, boot) == ("hvm", "kernel") and (own.type or own.boot):
                yield (*key, "boot" if own.boot else "type"), _HVM_KERNEL
            if pci and kind == "pvh":
                yield (*key, "pci"), 'Xen gives no PCI devices to "pvh"; expected type = "pv" or "hvm"'
            given = [(("device",), device)] if device else []
            for field, value in (*given, *((("pci", number), address) for number, address in enumerate(pci))):
                if value in devices:
                    yield (*key, *field), f"{quoted(value)} is given to {devices[value]} too; expected a free one"
                devices.setdefault(value, name)


_HVM_KERNEL = 'a "hvm" machine boots from its disk as hardware does; expected boot = "pygrub" or type = "pv" or "pvh"'
