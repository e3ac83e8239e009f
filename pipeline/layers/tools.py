"""Running the build tools of the tool root: the same versions on every machine, whatever the host has.

A tool runs with the tool root as `/` and sees nothing else but what is bound for it below /tmp.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.layers import stacking
from pipeline.sandbox import Bind, chroot_run
from pipeline.step import Job

#: No tool of ours works longer on anything that fits a virtual machine's disk.
_DEADLINE = 900.0


@dataclass(frozen=True)
class Tools:
    """A mounted tool root."""

    root: Path
    log: Path

    def run(self, argv: Sequence[str], *binds: Bind, input: bytes | None = None) -> None:
        """Run a tool; its output goes to the step's log.  Raises CommandError when it fails."""
        chroot_run(self.root, argv, binds=binds, input=input, log=self.log, timeout=_DEADLINE)


@contextlib.contextmanager
def tools(job: Job) -> Iterator[Tools]:
    """The tool root that is this job's input `toolroot`."""
    with stacking.stacked(job, layers=[job.input("toolroot")]) as root:
        yield Tools(root, job.log)
