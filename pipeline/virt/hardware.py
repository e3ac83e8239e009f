"""What machines have by libvirt: the disks that they are given."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import libvirt

from pipeline.virt import power
from pipeline.virt.connection import Connection, plain_words


@dataclass(frozen=True)
class Block:
    """A disk of a machine: its name there (vda), the file or device that it is where its libvirt runs, that one's
    format.  `size_mib` is 0 where the engine does not say it."""

    target: str
    source: str
    format: str
    size_mib: int
    readonly: bool


def disks(connection: Connection, name: str) -> list[Block]:
    """The disks of a machine, as it would be started once more."""
    found = []
    for element in ET.fromstring(power.definition(connection, name)).iterfind("devices/disk"):
        driver, source, target = (element.find(tag) for tag in ("driver", "source", "target"))
        if source is None or target is None:
            continue
        found.append(
            Block(
                target.get("dev", ""),
                source.get("file") or source.get("dev") or "",
                driver.get("type", "raw") if driver is not None else "raw",
                _size_mib(connection, name, target.get("dev", "")),
                element.find("readonly") is not None,
            )
        )
    return found


def _size_mib(connection: Connection, name: str, target: str) -> int:
    with plain_words(f"{name}: {target} cannot be looked at"):
        try:
            return int(connection.domain(name).blockInfo(target)[0]) >> 20
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
            return 0
