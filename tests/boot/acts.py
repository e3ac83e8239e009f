"""What is done to machines one by one, and how one sees that they took it; for any hypervisor and any guest.

A guest is what answers shell text: `ask` runs it there and returns what it prints.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.machines import Machines
from pipeline.engine import Engine
from pipeline.errors import UserError
from pipeline.planned import load_plan
from pipeline.verbs import actions, verbs
from pipeline.verbs.rows import advice
from pipeline.virt.connection import Connection
from tests.boot.checkout import Checkout

Ask = Callable[[str], str]

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


class Silent(AssertionError):
    """The guest does not answer."""


class Terminal:
    """A guest's shell on its serial console: it must be logged in there by itself, as all of ours are."""

    def __init__(self, connection: Connection, domain: str, log: Path, *, patience: float) -> None:
        self._connection = connection
        self._domain = domain
        self._log = log
        self._patience = patience
        self._count = 0

    def ask(self, command: str, *, within: float = 0) -> str:
        self._count += 1
        mark = f"{self._count}x{time.monotonic_ns()}"
        # the mark is put together there, so that the echo of what is typed is not taken for the answer
        typed = f"echo @$(( 0 ))@{mark}@$( {command} )@\r"
        pattern = re.compile(rf"@0@{mark}@(.*?)@", re.DOTALL)
        deadline = time.monotonic() + (within or self._patience)
        while time.monotonic() < deadline:
            asked = time.monotonic()
            with self._stream() as stream:
                stream.send(typed.encode())
                while time.monotonic() < min(deadline, asked + 10):
                    found = pattern.search(self._log.read_text(errors="replace"))
                    if found:
                        return found[1].strip()
                    time.sleep(0.1)
        raise Silent(f"{command}; the console ends with: {self._log.read_text(errors='replace')[-500:]!r}")

    @contextlib.contextmanager
    def _stream(self) -> Iterator[Any]:
        import libvirt

        stream = self._connection.raw.newStream(libvirt.VIR_STREAM_NONBLOCK)
        self._connection.domain(self._domain).openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        try:
            yield stream
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                stream.abort()


def act(
    machines: Machines,
    verb: str,
    names: Sequence[str],
    show: Callable[[str, str], object] = lambda *_: None,
    *options: str,
) -> None:
    """As `doit vm VERB` does it to machines that are at hand; `show` is told what became of each."""
    parser = argparse.ArgumentParser()
    verbs()[verb].arguments(parser)
    args = parser.parse_args([machines.cluster.name, *names, *options])
    for machine, words in machines.act(actions()[verb], args.machines, args, advice(machines.cluster.name)):
        show(machine, words)


def lifecycle_of(project: Checkout, cluster: str) -> Lifecycle:
    """The running side of a cluster of a checkout."""
    recipes = project.folder / "recipes"
    plan = load_plan(recipes, project.artifacts, project.own)
    return Lifecycle(plan, cluster, Engine(plan, project.artifacts, recipes))


def by_ssh(lifecycle: Lifecycle, machine: str, *, patience: float = 300) -> Ask:
    """Ask a machine of a whole cluster."""

    def ask(command: str) -> str:
        status, out, errors = lifecycle.shell().run(machine, f"{command}\n", timeout=patience)
        assert status == 0, errors
        return out.strip()

    return ask


def state(machines: Machines, name: str) -> str:
    return next(line.state for line in machines.lines() if line.machine == name)


def pause_and_resume(machines: Machines, name: str, ask: Ask) -> None:
    """A paused machine answers nothing; when it goes on, it answers what it was asked meanwhile."""
    boot_id = ask(BOOT_ID)
    with ThreadPoolExecutor(1) as pool:
        act(machines, "pause", [name])
        try:
            assert state(machines, name) == "paused"
            answer = pool.submit(ask, BOOT_ID)
            assert not wait([answer], timeout=10).done, "it answers while it is held"
        finally:
            act(machines, "resume", [name])
        assert state(machines, name) == "running"
        assert answer.result() == boot_id


def reset(machines: Machines, name: str, ask: Ask) -> None:
    """A machine that was reset boots without having been asked, and what it runs is gone."""
    boot_id = ask(BOOT_ID)
    told: list[tuple[str, str]] = []
    act(machines, "reset", [name], lambda *words: told.append(words))
    assert told == [(name, "reset")]
    assert state(machines, name) == "running"
    deadline = time.monotonic() + 600
    while True:  # by ssh it does not answer until it is up
        try:
            assert ask(BOOT_ID) != boot_id
            return
        except (AssertionError, UserError):
            assert time.monotonic() < deadline
            time.sleep(1)


def save_and_restore(machines: Machines, name: str, ask: Ask) -> tuple[float, float]:
    """A saved machine is off, and a restored one goes on where it was; the seconds that both took."""
    process = ask("(while :; do sleep 1; done) > /dev/null 2>&1 & echo $!")
    boot_id = ask(BOOT_ID)
    begin = time.monotonic()
    act(machines, "save", [name])
    saved = time.monotonic()
    assert state(machines, name) == "saved"
    act(machines, "restore", [name])
    restored = time.monotonic()
    assert state(machines, name) == "running"
    assert ask(BOOT_ID) == boot_id
    assert ask(f"kill {process} && echo lived") == "lived"
    return saved - begin, restored - saved


def stop_and_start(machines: Machines, name: str, ask: Ask, *, within: float = 120) -> list[str]:
    """A machine that was stopped and started again is ready, with another boot id; what was told meanwhile."""
    told: list[str] = []
    boot_id = ask(BOOT_ID)
    act(machines, "stop", [name], lambda _machine, words: told.append(words), "--within", str(within))
    assert state(machines, name) == "off"
    act(machines, "start", [name], lambda _machine, words: told.append(words))
    assert state(machines, name) == "running"
    assert ask(BOOT_ID) != boot_id
    return told
