"""Starting, stopping and listing machines over one libvirt connection."""

from __future__ import annotations

import contextlib
import select
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import libvirt

from pipeline.drivers import libvirt_xml
from pipeline.drivers.libvirt_xml import Metadata
from pipeline.errors import ClusterError
from pipeline.virt import logs
from pipeline.virt.connection import Connection, plain_words

State = Literal["running", "paused", "off", "crashed", "saved"]

_STATES: dict[int, State] = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_SHUTDOWN: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "paused",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
}

#: A mark in the definition of a machine that is off: its memory lies in that file.  Whoever defines the machine anew,
#: to start it from its disk, takes the mark away, and with it the memory that would no longer fit the disk.
_SAVED = "urn:xen-oscar:saved:1"

#: What libvirt does at once, but for a hypervisor that hangs: seconds.  To make a machine takes an emulated Xen host
#: some, and a busy one more.
_AT_ONCE, _MADE = 60, 180

#: What libvirt and QEMU say when a machine does not start -> what to do.
_HINTS = {
    "Cannot allocate memory": "the host's memory is full: stop another cluster, or give machines less in the manifest",
    "Cannot access storage file": "a disk is missing or may not be read: doit stop:CLUSTER, then start it again",
    "No space left on device": "the file system is full: doit gc frees what no cluster needs",
}


@dataclass(frozen=True)
class Running:
    """A machine as libvirt knows it: `memory_mib` is the most that it can have, `has_mib` what it has now; `why` it is
    paused, where nobody has paused it."""

    name: str
    state: State
    metadata: Metadata
    memory_mib: int
    has_mib: int
    cpus: int
    why: str = ""


def start(connection: Connection, definition: str, *, report: Path, more: str = "") -> None:
    """Define a machine and start it.  `more` says where one finds more about one that did not start.

    `report` is the file behind its report channel: what an earlier start left there must not count for this one.
    """
    logs.remove(report)
    name = libvirt_xml.name_in(definition)
    try:
        with plain_words(f"{name} cannot be started"):
            bounded(lambda: connection.raw.defineXML(definition).create(), f"{name}: it is not started", _MADE)
    except ClusterError as error:
        error.hint = next((hint for words, hint in _HINTS.items() if words in error.message), more)
        raise


def machines(connection: Connection) -> list[Running]:
    """Every machine of ours, by name."""
    found = []
    with plain_words("cannot list the machines"):
        for domain in connection.raw.listAllDomains():
            try:
                text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt_xml.NAMESPACE)
                number, memory_kib, has_kib, cpus, _ = domain.info()
                state = _STATES.get(number) or ("saved" if _saved_in(domain) else "off")
                why = _why_paused(domain) if state == "paused" else ""
                metadata, has_mib = libvirt_xml.read_metadata(text), round(has_kib / 1024)
                found.append(Running(domain.name(), state, metadata, memory_kib // 1024, has_mib, cpus, why))
            except libvirt.libvirtError as error:
                # not ours, or gone since the list was made
                if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
                    raise
    return sorted(found, key=lambda machine: machine.name)


def start_again(connection: Connection, name: str, *, report: Path, more: str = "") -> None:
    """Start a machine from its disk, as it is defined; `report` and `more` as in `start`."""
    domain = connection.domain(name)
    logs.remove(report)
    with plain_words(f"{name} cannot be started", hint=more):
        bounded(domain.create, f"{name}: it is not started", _MADE)


def definition(connection: Connection, name: str) -> str:
    """How a machine would be started once more, with all that libvirt has filled in."""
    with plain_words(f"{name} cannot be described"):
        text: str = connection.domain(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        return text


def start_paused(connection: Connection, definition: str, later: str) -> int:
    """Start a machine that does not run yet; returns which one it is since libvirt was started.  From its next start on
    it is defined as `later` says."""
    name = libvirt_xml.name_in(definition)
    with plain_words(f"{name} cannot be started"):
        domain = connection.raw.defineXML(definition)
        bounded(lambda: domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED), f"{name}: it is not started", _MADE)
        connection.raw.defineXML(later)
        return int(domain.ID())


def pause(connection: Connection, name: str) -> None:
    """Hold a machine; it keeps its memory, and time stands still for it."""
    with plain_words(f"{name} cannot be paused"):
        bounded(connection.domain(name).suspend, f"{name}: it is not paused", _AT_ONCE)


def resume(connection: Connection, name: str) -> None:
    """Let a paused machine go on."""
    with plain_words(f"{name} cannot go on"):
        bounded(connection.domain(name).resume, f"{name}: it does not go on", _AT_ONCE)


def reset(connection: Connection, name: str) -> bool:
    """Pull the reset line of a machine that runs; false where its engine gives it none, and nothing was done."""
    with plain_words(f"{name} cannot be reset"):
        try:
            bounded(connection.domain(name).reset, f"{name}: it is not reset", _AT_ONCE)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
            return False
    return True


def save(connection: Connection, name: str, file: str, *, within: float) -> None:
    """Write a machine's memory to a file where libvirt runs, and end the machine.  If that fails, it runs on."""
    domain = connection.domain(name)
    # marked before: a run that is killed meanwhile must not leave a saved machine that nobody knows to be one
    _mark_saved(domain, file)
    try:
        with plain_words(f"{name} cannot be saved", hint="is there space for its memory?"):
            bounded(lambda: domain.save(file), f"{name}: its memory is not saved", within, domain.abortJob)
    except BaseException:
        if domain.isActive():
            _mark_saved(domain, "")
        raise


def restore(connection: Connection, name: str, *, within: float) -> None:
    """Bring a saved machine back; it goes on where it was.  The file has served, and is the caller's to remove."""
    domain = connection.domain(name)
    file = _saved_in(domain)
    if not file:
        raise ClusterError(f"{name} is not saved")
    # the mark goes first: memory that has come to life once must never do so again, over a disk that went on
    _mark_saved(domain, "")
    try:
        with plain_words(f"{name} cannot be restored"):
            definition = _definition_in(connection, file)
            restore_it = (
                (lambda: connection.raw.restoreFlags(file, definition))
                if definition
                else (lambda: connection.raw.restore(file))
            )
            bounded(restore_it, f"{name}: its memory is not back", within, domain.abortJob)
    except BaseException:
        if not domain.isActive():
            _mark_saved(domain, file)
        raise


def forget_saved(connection: Connection, name: str) -> None:
    """A saved machine's memory is given up: it is off, and will start from its disk."""
    _mark_saved(connection.domain(name), "")


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
                bounded(domain.destroy, f"{name}: it is not ended", _AT_ONCE)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:  # it is off already
                    raise


def remove(connection: Connection, name: str) -> None:
    """End a machine of ours, and forget it; nothing where there is none of that name."""
    if name in [machine.name for machine in machines(connection)]:
        destroy(connection, [name])
        with plain_words(f"{name} cannot be taken away"):
            connection.domain(name).undefine()


def console_command(uri: str, name: str) -> list[str]:
    """The command that attaches this terminal to a machine's console; Ctrl-] leaves it."""
    return ["virsh", "--quiet", "--connect", uri, "console", "--force", name]


def _why_paused(domain: Any) -> str:
    """Why a machine is paused that nobody has paused, "" otherwise."""
    _, reason = domain.state()
    return "no space left for its disk" if reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR else ""


def _saved_in(domain: Any) -> str:
    """The file that holds the memory of a machine that is off, "" if it was not saved."""
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, _SAVED, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return ""
        raise
    return ET.fromstring(text).get("file", "")


def _mark_saved(domain: Any, file: str) -> None:
    """Mark a machine as saved in `file`; "" takes the mark away."""
    text = ET.tostring(ET.Element("saved", file=file), encoding="unicode") if file else None
    with plain_words(f"{domain.name()} cannot be marked as saved"):
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            text,
            "saved" if file else None,
            _SAVED,
            libvirt.VIR_DOMAIN_AFFECT_CONFIG,
        )


def _definition_in(connection: Connection, file: str) -> str:
    """The definition with which a machine comes back from a file of memory; "" = the one that is in there."""
    restored = connection.driver.restored if connection.driver else None
    return restored(connection.raw.saveImageGetXMLDesc(file)) if restored else ""


def bounded(call: Callable[[], object], what: str, within: float, give_up: Callable[[], object] | None = None) -> None:
    """Make a call to libvirt that itself knows no deadline, in a thread; late or interrupted, it is given up."""
    failed: list[libvirt.libvirtError] = []

    def make_it() -> None:
        try:
            call()
        except libvirt.libvirtError as error:
            failed.append(error)

    calling = threading.Thread(target=make_it, name="libvirt-call", daemon=True)
    calling.start()
    try:
        calling.join(within)
    finally:
        if calling.is_alive() and give_up is not None:
            with contextlib.suppress(libvirt.libvirtError):  # it has just ended
                give_up()
            calling.join(_AT_ONCE)
    if calling.is_alive() or (failed and failed[0].get_error_code() == libvirt.VIR_ERR_OPERATION_ABORTED):
        raise ClusterError(f"{what} after {within:g} s")
    if failed:
        raise failed[0]
