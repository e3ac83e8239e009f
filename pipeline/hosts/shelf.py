"""Where the memory of a cluster's saved machines lies: where their engine runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pipeline.drivers import site
from pipeline.hosts.script import Script
from pipeline.virt import disks


class Shelf(Protocol):
    """Files by machine."""

    def place(self, machine: str) -> str:
        """The file for a machine's memory, as its libvirt sees it."""

    def make_room(self, machine: str, mib: int) -> None:
        """The folder is there, and that much fits; raises ClusterError where it does not."""

    def clear(self, machine: str) -> None:
        """Remove the file, if it is there."""


class LocalShelf:
    """In the run folder, which a cluster's own libvirt sees as `site.RUN`."""

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / "saved"

    def place(self, machine: str) -> str:
        return f"{site.RUN}/saved/{machine}"

    def make_room(self, machine: str, mib: int) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.clear(machine)
        disks.require_space(self._folder, mib)

    def clear(self, machine: str) -> None:
        (self._folder / machine).unlink(missing_ok=True)


class RemoteShelf:
    """In the cluster's folder on a host; `script` makes text for it, and `run` runs that there."""

    def __init__(self, script: Script, run: Callable[[str], object]) -> None:
        self._script = script
        self._run = run

    def place(self, machine: str) -> str:
        return f"{self._script.folder}/saved/{machine}"

    def make_room(self, machine: str, mib: int) -> None:
        self._run(self._script("make_room_to_save", machine, str(mib)))

    def clear(self, machine: str) -> None:
        self._run(self._script("remove_saved", machine))
