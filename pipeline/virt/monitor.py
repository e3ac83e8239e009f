"""QEMU's own monitor, for what libvirt has no word for: the state of a machine's devices without its memory.

Memory that is shared (memfd) or mapped from a file is left out of that state (`x-ignore-shared`), so it is small and
written in no time; whoever copies the machine copies its memory beside.  The state goes through a socket: QEMU under
libvirt may start no program and is given no file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import sandbox
from pipeline.errors import ClusterError
from pipeline.virt.connection import Connection, plain_words

#: Seconds for a state of less than a megabyte to be written or read, and between two questions how far that is.
_WITHIN, _INTERVAL = 120, 0.02


def ask(connection: Connection, name: str, command: str, **arguments: object) -> Any:
    """What a machine's monitor answers; raises ClusterError where it refuses."""
    import libvirt_qemu  # only who freezes and thaws needs it

    text = json.dumps({"execute": command, "arguments": arguments})
    with plain_words(f"{name}: QEMU's monitor does not answer"):
        answer = json.loads(libvirt_qemu.qemuMonitorCommand(connection.domain(name), text, 0))
    if "error" in answer:
        raise ClusterError(f"{name}: QEMU refuses {command}: {answer['error'].get('desc')}")
    return answer.get("return")


@contextlib.contextmanager
def without_memory(connection: Connection, name: str) -> Iterator[None]:
    """Within the block what is read or written of this machine's state has none of its memory."""
    _ignore_shared(connection, name, True)
    try:
        yield
    finally:  # or what is saved of it later would have none either
        with contextlib.suppress(ClusterError):
            _ignore_shared(connection, name, False)


def write_state(connection: Connection, name: str, target: Path, *, folder: Path, seen: str) -> None:
    """Write the state of a machine that is paused to a file.  `folder` is one that QEMU sees as `seen`."""
    with _socket(folder, name) as (listener, path):
        listener.bind(path)
        listener.listen(1)
        sandbox.give(folder / name)
        with without_memory(connection, name):
            ask(connection, name, "migrate", uri=f"unix:{seen}/{name}")
            peer, _ = listener.accept()
            with peer, target.open("wb") as file:
                peer.settimeout(_WITHIN)
                with peer.makefile("rb") as stream:
                    shutil.copyfileobj(stream, file)
            _wait(connection, name)


def read_state(connection: Connection, name: str, source: Path, *, folder: Path, seen: str) -> None:
    """Give a machine that was started to wait for it its state; it is paused then."""
    with _socket(folder, name) as (client, path), without_memory(connection, name):
        ask(connection, name, "migrate-incoming", uri=f"unix:{seen}/{name}")
        client.connect(path)
        client.sendall(source.read_bytes())
        client.shutdown(socket.SHUT_WR)
        _wait(connection, name)


def _ignore_shared(connection: Connection, name: str, state: bool) -> None:
    wanted = [{"capability": "x-ignore-shared", "state": state}]
    ask(connection, name, "migrate-set-capabilities", capabilities=wanted)


@contextlib.contextmanager
def _socket(folder: Path, name: str) -> Iterator[tuple[socket.socket, str]]:
    """A socket, and a path to it that is short enough whatever the folder's is."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (folder / name).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.settimeout(_WITHIN)
            yield made, f"/proc/self/fd/{descriptor}/{name}"
    except TimeoutError:
        raise ClusterError(f"QEMU did not answer for {_WITHIN} s", hint="is this machine very busy?") from None
    finally:
        (folder / name).unlink(missing_ok=True)
        os.close(descriptor)


def _wait(connection: Connection, name: str) -> None:
    """Until the state has been written or read."""
    deadline = time.monotonic() + _WITHIN
    while True:
        found = ask(connection, name, "query-migrate")
        status = found.get("status")
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            raise ClusterError(f"{name}: its state cannot be taken over: {found.get('error-desc', status)}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{name}: its state was not taken over within {_WITHIN} s")
        time.sleep(_INTERVAL)  # QEMU tells nobody who has not asked for it
