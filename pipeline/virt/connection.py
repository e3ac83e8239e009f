"""A connection to libvirt that cannot hang, and its events as a queue that one can wait on.

libvirt delivers events through an event loop of its own, which runs in one thread for the whole process from the
first connection on.  A listener is a queue with a descriptor, so that waiting for machines, files and processes is
one `poll`.  libvirt's own error output is silenced: what goes wrong reaches a user as a `ClusterError`.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import libvirt

from pipeline.drivers import engines
from pipeline.drivers.driver import Driver
from pipeline.errors import ClusterError, Unreachable

#: What libvirt puts before the words that matter.
_PREAMBLE = re.compile(
    r"^(?:internal error: )?"
    r"(?:(?:qemu unexpectedly closed the|process exited while connecting to) monitor: \S+ qemu-system-\w+: )?"
)

Happening = Literal["started", "stopped", "crashed", "rebooted", "paused", "lost"]

#: A peer that answers nothing for this long is lost: seconds between questions, number of questions.
_KEEP_ALIVE = (5, 6)

_loop_lock = threading.Lock()
_loop: threading.Thread | None = None


@dataclass(frozen=True)
class Event:
    """Something happened to a domain.  `lost` concerns the connection itself and names no domain.

    `paused` is not told of machines that somebody paused, but of those whose disk took no more.
    """

    domain: str
    what: Happening
    detail: str


class Listener:
    """The events of a connection since the listener was made; `fileno` is readable while there are any."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._wake

    def put(self, event: Event) -> None:
        """Called by libvirt's thread; it may have been closed a moment ago: its descriptor is another's then."""
        with self._lock:
            if not self._closed:
                self._events.append(event)
                os.eventfd_write(self._wake, 1)

    def take(self) -> list[Event]:
        """What has happened since the last call, oldest first."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        taken = []
        while self._events:
            taken.append(self._events.popleft())
        return taken

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._wake)


class Connection:
    """An open connection to the libvirt at `uri`; a context manager that closes it."""

    def __init__(self, uri: str, raw: Any) -> None:
        self.uri = uri
        self.raw = raw
        self._listeners: tuple[Listener, ...] = ()
        with plain_words("cannot receive events"):
            with contextlib.suppress(libvirt.libvirtError):  # a driver within this process has nobody to ask
                raw.setKeepAlive(*_KEEP_ALIVE)
            raw.registerCloseCallback(self._on_close, None)
            self._callbacks = [
                raw.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None),
                raw.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._on_reboot, None),
                raw.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, self._on_io_error, None),
            ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(libvirt.libvirtError):  # the other side may be gone already
            self.raw.unregisterCloseCallback()
            for callback in self._callbacks:
                self.raw.domainEventDeregisterAny(callback)
            self.raw.close()

    @contextlib.contextmanager
    def listen(self) -> Iterator[Listener]:
        """A listener for as long as the block lasts."""
        listener = Listener()
        self._listeners = (*self._listeners, listener)
        try:
            yield listener
        finally:
            self._listeners = tuple(item for item in self._listeners if item is not listener)
            listener.close()

    @property
    def driver(self) -> Driver | None:
        """What answers for this libvirt's machines; None for libvirt's test driver."""
        return engines.of_type(self.raw.getType().lower())

    def domain(self, name: str) -> Any:
        """libvirt's handle of the domain with that name."""
        with plain_words(f"machine {name} is not known"):
            return self.raw.lookupByName(name)

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener.put(event)

    def _on_lifecycle(self, _raw: Any, domain: Any, event: int, detail: int, _opaque: object) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            self._tell(Event(domain.name(), "started", ""))
        elif event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
            self._tell(Event(domain.name(), "crashed", "its kernel panicked"))
        elif event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            what, words = _STOPPED.get(detail, ("stopped", "it stopped"))
            self._tell(Event(domain.name(), what, words))

    def _on_reboot(self, _raw: Any, domain: Any, _opaque: object) -> None:
        self._tell(Event(domain.name(), "rebooted", "it restarted"))

    def _on_io_error(
        self, _raw: Any, domain: Any, file: str, _device: str, action: int, reason: str, _opaque: object
    ) -> None:
        # QEMU pauses a machine before a write that finds no space, so that nothing is lost, and tells it other errors
        if action == libvirt.VIR_DOMAIN_EVENT_IO_ERROR_PAUSE:
            self._tell(Event(domain.name(), "paused", io_error(file, reason)))

    def _on_close(self, _raw: Any, _reason: int, _opaque: object) -> None:
        self._tell(Event("", "lost", "libvirt no longer answers"))


def io_error(file: str, reason: str) -> str:
    """Why a machine's disk takes no more, from libvirt's reason."""
    return f"no space left on {Path(file).parent}" if reason == "enospc" else f"an I/O error on {file}"


#: How a machine stopped, by libvirt's detail of the event.
_STOPPED: dict[int, tuple[Happening, str]] = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: ("stopped", "it powered off"),
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: ("stopped", "it was ended from outside"),
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: ("crashed", "its kernel panicked"),
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: ("stopped", "it was saved"),
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: ("crashed", "its QEMU process ended"),
}


def connect(uri: str, *, within: float = 60) -> Connection:
    """Open `uri`; a libvirt that does not answer in time is an error, not a hang."""
    _run_event_loop()
    opened: list[Any] = []
    failed: list[libvirt.libvirtError] = []

    def open_it() -> None:
        try:
            opened.append(libvirt.open(uri))
        except libvirt.libvirtError as error:
            failed.append(error)

    # a thread, because libvirt.open itself knows no deadline
    opening = threading.Thread(target=open_it, name="libvirt-open", daemon=True)
    opening.start()
    opening.join(within)
    hint = "if the cluster should run, doit stop:CLUSTER and start it again"
    if failed:
        raise Unreachable(f"libvirt at {uri} cannot be reached: {_words(failed[0])}", hint=hint) from None
    if not opened:
        raise Unreachable(f"libvirt at {uri} did not answer within {within:g} s", hint=hint)
    return Connection(uri, opened[0])


@contextlib.contextmanager
def plain_words(what: str, *, hint: str = "") -> Iterator[None]:
    """Turn libvirt's errors into ours: `what` went wrong, and libvirt's reason."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise ClusterError(f"{what}: {_words(error)}", hint=hint) from error


def _words(error: libvirt.libvirtError) -> str:
    text: str = error.get_error_message() or str(error)
    return _PREAMBLE.sub("", text).strip()


def _run_event_loop() -> None:
    """Start libvirt's event loop, once in a process, before the first connection is opened."""
    global _loop
    with _loop_lock:
        if _loop is not None:
            return
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()

        def loop() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        _loop = threading.Thread(target=loop, name="libvirt-events", daemon=True)
        _loop.start()
