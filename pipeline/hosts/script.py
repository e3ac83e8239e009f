"""The shell text that is run on a VM container for one cluster: `host.sh`, that of its engine, and which functions.

What a shell can't do are programs of their own (Python, which Xen's tools need too), handed over in variables.
"""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.description import Hypervisor
from pipeline.drivers import site

_FOLDER = Path(__file__).parent
_PROGRAMS = ("device", "follow")


def functions(hypervisor: Hypervisor) -> str:
    """The functions themselves; those that require something of a machine need to know no cluster."""
    programs = [f"{name}_program={shlex.quote((_FOLDER / f'{name}.py').read_text())}" for name in _PROGRAMS]
    return "\n".join([*programs, *((_FOLDER / f"{name}.sh").read_text() for name in (hypervisor, "host"))])


@dataclass(frozen=True)
class Script:
    """Makes the text for one cluster; `run` is a word that tells one start of it from others."""

    cluster: str
    hypervisor: Hypervisor
    run: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def folder(self) -> str:
        return site.shared(self.cluster).folder

    def __call__(self, function: str, *words: str) -> str:
        """POSIX sh text that calls one function."""
        return self.of([(function, *words)])

    def of(self, calls: list[tuple[str, ...]]) -> str:
        """POSIX sh text that calls functions, one after the other; the first that refuses ends it."""
        given = {"cluster": self.cluster, "folder": self.folder, "run": self.run}
        lines = [f"{name}={shlex.quote(value)}" for name, value in given.items()]
        return "\n".join([*lines, functions(self.hypervisor), *(f"{shlex.join(call)} || exit" for call in calls)])
