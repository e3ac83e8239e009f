"""What the checks need of a running cluster: a way to run a script on one of its machines.

The cluster implements it with ssh; tests implement it with a table of answers.  Checks ask for as few runs as
they can, because under emulation a new ssh connection alone costs seconds of processor time.
"""

from __future__ import annotations

from typing import Protocol


class Shell(Protocol):
    """Runs POSIX sh text on a machine of the cluster."""

    def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
        """Run `script` and return its exit status, standard output and standard error.

        Raises a `pipeline.errors.UserError` when the machine does not answer or `timeout` seconds are over.
        """
        ...
