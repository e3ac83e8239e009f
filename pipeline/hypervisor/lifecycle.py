"""Starting, stopping and listing machines over one libvirt connection."""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import libvirt

from pipeline.errors import ClusterError
from pipeline.hypervisor import libvirt_xml
from pipeline.hypervisor.connection import Connection, plain_words
from pipeline.hypervisor.libvirt_xml import Metadata

State = Literal["running", "paused", "off", "crashed"]

_STATES: dict[int, State] = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_SHUTDOWN: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "paused",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
}


_LOG = "more is in libvirtd.log in the cluster's run folder"
#: What libvirt and QEMU say when a machine does not start -> what to do.
_HINTS = {
    "Cannot allocate memory": "the host's memory is full: stop another cluster, or give machines less in the manifest",
    "Cannot access storage file": "a disk is missing or may not be read: doit stop:CLUSTER, then start it again",
    "No space left on device": "the file system is full: doit gc frees what no cluster needs",
}


@dataclass(frozen=True)
class Running:
    """A machine as libvirt knows it."""

    name: str
    state: State
    metadata: Metadata


def start(connection: Connection, definition: str, *, report: Path) -> None:
    """Define a machine and start it.

    `report` is the file behind its report channel: what an earlier start left there must not count for this one.
    """
    report.unlink(missing_ok=True)
    name = libvirt_xml.name_in(definition)
    try:
        with plain_words(f"{name} cannot be started"):
            connection.raw.defineXML(definition).create()
    except ClusterError as error:
        error.hint = next((hint for words, hint in _HINTS.items() if words in error.message), _LOG)
        raise


def machines(connection: Connection) -> list[Running]:
    """Every machine of ours, by name."""
    found = []
    with plain_words("cannot list the machines"):
        for domain in connection.raw.listAllDomains():
            try:
                text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt_xml.NAMESPACE)
                state = _STATES.get(domain.state()[0], "off")
                found.append(Running(domain.name(), state, libvirt_xml.read_metadata(text)))
            except libvirt.libvirtError as error:
                # not ours, or gone since the list was made
                if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
                    raise
    return sorted(found, key=lambda machine: machine.name)


def shut_down(connection: Connection, names: Iterable[str], *, within: float = 30) -> list[str]:
    """Ask machines to power off, all at once, and end those that have not after `within` seconds.

    Returns the names of those that had to be ended.
    """
    with connection.listen() as listener:
        left = set()
        for name in names:
            domain = connection.domain(name)
            with plain_words(f"{name} cannot be shut down"):
                if domain.isActive():
                    left.add(name)
                    domain.shutdown()
        deadline = time.monotonic() + within
        while left and select.select([listener], [], [], max(0.0, deadline - time.monotonic()))[0]:
            for event in listener.take():
                if event.what in ("stopped", "crashed"):
                    left.discard(event.domain)
    destroy(connection, left)
    return sorted(left)


def destroy(connection: Connection, names: Iterable[str]) -> None:
    """End machines at once, as pulling the plug does."""
    for name in names:
        domain = connection.domain(name)
        with plain_words(f"{name} cannot be ended"):
            try:
                domain.destroy()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:  # it is off already
                    raise


def console_command(uri: str, name: str) -> list[str]:
    """The command that attaches this terminal to a machine's console; Ctrl-] leaves it."""
    return ["virsh", "--quiet", "--connect", uri, "console", "--force", name]
