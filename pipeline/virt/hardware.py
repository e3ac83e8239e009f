"""What machines have by libvirt: disks; and memory and processors, which change while they run.

Of both a machine can have less than it was started with, and get that back; never more.  Its system has to follow.
"""

from __future__ import annotations

import functools
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass

import libvirt

from pipeline.virt import power
from pipeline.virt.connection import Connection, plain_words
from pipeline.virt.power import bounded

#: Seconds in which a system that follows has done so; and between two looks: not all engines tell it as an event.
_FOLLOWS, _INTERVAL = 30, 0.1
NEAR_MIB = 2
#: For what libvirt and the engine do before the system hears of it: seconds.
_ASKED = 60


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


@dataclass(frozen=True)
class Given:
    """What a machine was asked to have, and has in the end."""

    asked: int
    has: int


def give_memory(connection: Connection, name: str, mib: int) -> Given:
    """Have a machine that runs have that much memory, in MiB, as far as it was started with it."""
    domain = connection.domain(name)
    with plain_words(f"{name}: its memory cannot be changed"):
        asked = min(mib, int(domain.maxMemory()) // 1024)

        def has() -> int:
            """Near enough is there: engines count some pages in or out."""
            found = round(domain.info()[2] / 1024)
            return asked if abs(found - asked) <= NEAR_MIB else found

        return _followed(
            asked,
            has,
            lambda: domain.setMemoryFlags(asked * 1024, libvirt.VIR_DOMAIN_AFFECT_LIVE),
            f"{name}: its memory",
        )


def give_cpus(connection: Connection, name: str, count: int) -> Given:
    """Have a machine that runs have that many processors, as far as it was started with them."""
    domain, live = connection.domain(name), libvirt.VIR_DOMAIN_AFFECT_LIVE
    with plain_words(f"{name}: its processors cannot be changed"):
        asked = min(count, int(domain.vcpusFlags(live | libvirt.VIR_DOMAIN_VCPU_MAXIMUM)))
        ask = functools.partial(domain.setVcpusFlags, asked, live)
        return _followed(asked, lambda: int(domain.info()[3]), ask, f"{name}: its processors")


def _followed(asked: int, has: Callable[[], int], ask: Callable[[], object], what: str) -> Given:
    """Ask the engine, and wait until its machine has it."""
    if has() != asked:
        bounded(ask, f"{what}: nothing has become of it", _ASKED)
    deadline = time.monotonic() + _FOLLOWS
    while (found := has()) != asked and time.monotonic() < deadline:
        time.sleep(_INTERVAL)
    return Given(asked, found)
