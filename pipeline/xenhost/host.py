"""A VM container that runs Xen, of whatever kind: to be started, or to be asked whether it answers."""

from __future__ import annotations

from typing import Protocol

from pipeline import events
from pipeline.description import Host
from pipeline.engine import Engine
from pipeline.hypervisor.connection import connect
from pipeline.xenhost import access
from pipeline.xenhost.script import FUNCTIONS
from pipeline.xenhost.testbed import Testbed


class XenHost(Protocol):
    """What tasks ask of a VM container."""

    def is_ready(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> bool: ...


class Given:
    """A machine that is there, on or off, whatever we do."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def is_ready(self) -> bool:
        return False  # asked each time: it may have been switched off

    def start(self) -> None:
        """Raise ClusterError unless its libvirt and Xen answer."""
        way = access.of(self._host.connection)
        facts = way.run(f"{FUNCTIONS}\nrequire_xen\n"
                        "xl info | awk -F ' *: ' '/^(xen_version|free_memory)/ {print $1, $2}'").stdout
        with connect(way.uri):
            known = dict(line.split() for line in facts.splitlines())
            events.note(f"{self._host.name}: Xen {known['xen_version']}, {known['free_memory']} MiB free, "
                        f"libvirt at {way.uri}")

    def stop(self) -> bool:
        return False


def of(host: Host, engine: Engine) -> XenHost:
    return Testbed(host, engine) if host.connection == "testbed" else Given(host)
