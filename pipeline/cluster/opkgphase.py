"""The phases of OPKGs that run on the head node of a cluster while it comes up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pipeline.errors import ClusterError
from pipeline.opkgs.phases import PACKAGES
from pipeline.report.model import Phase
from pipeline.ssh import ClusterShell

#: Seconds for one script, where the nodes are few.
_DEADLINE = 120


def run_phase(phase: str, opkgs: Sequence[str], head: str, shell: ClusterShell, record: Callable[[Phase], None],
              *, patience: float) -> None:
    """Run a phase of these OPKGs, one after the other; raises ClusterError at the first that fails."""
    with shell.connected():
        for opkg in opkgs:
            started = time.time()
            home = f"{PACKAGES}/{opkg}"
            status, out, errors = shell.run(
                head, f"export OSCAR_PACKAGE_HOME={home}\nexec {home}/scripts/{phase}\n", timeout=_DEADLINE * patience)
            record(Phase(head, f"{opkg} {phase}", started, time.time()))
            if status != 0:
                raise ClusterError(f"{head}: {phase} of OPKG {opkg} ended with status {status}",
                                   tail="\n".join((out + errors).splitlines()[-12:]),
                                   hint=f"recipes/opkgs/{opkg}/scripts/{phase}")
