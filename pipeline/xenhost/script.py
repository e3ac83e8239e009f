"""The shell text that is run on a VM container for one cluster: `container.sh`, and which of its functions.

What a shell can't do are programs of their own (Python, which Xen's tools need too), handed over in variables.
"""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.hypervisor import domain

_FOLDER = Path(__file__).parent
_PROGRAMS = ("device", "follow")

#: The functions themselves; those that require something of a machine need to know no cluster.
FUNCTIONS = "\n".join([*(f"{name}_program={shlex.quote((_FOLDER / f'{name}.py').read_text())}" for name in _PROGRAMS),
                       (_FOLDER / "container.sh").read_text()])


@dataclass(frozen=True)
class Script:
    """Makes the text for one cluster; `run` is a word that tells one start of it from others."""

    cluster: str
    run: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def folder(self) -> str:
        return domain.folder_of(self.cluster)

    def __call__(self, function: str, *words: str) -> str:
        """POSIX sh text that calls one function."""
        return self.of([(function, *words)])

    def of(self, calls: list[tuple[str, ...]]) -> str:
        """POSIX sh text that calls functions, one after the other; the first that refuses ends it."""
        given = {"cluster": self.cluster, "folder": self.folder, "run": self.run}
        lines = [f"{name}={shlex.quote(value)}" for name, value in given.items()]
        return "\n".join([*lines, FUNCTIONS, *(f"{shlex.join(call)} || exit" for call in calls)])
