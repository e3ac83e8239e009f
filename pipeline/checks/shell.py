"""What the checks need of a running cluster: ways to run a script on one of its machines.

The cluster implements them with ssh; tests implement them with a table of answers.  Checks ask for as few runs as
they can, because under emulation a new ssh connection alone costs seconds of processor time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Runs(Protocol):
    """Runs POSIX sh text on a machine of the cluster."""

    def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
        """Run `script` and return its exit status, standard output and standard error.

        Raises a `pipeline.errors.UserError` when the machine does not answer or `timeout` seconds are over.
        """
        ...


class Tells(Protocol):
    """Runs POSIX sh text on a machine of the cluster that says more than one wants to keep."""

    def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
        """Run `script` as root and return what it prints on standard output, line by line as it comes.

        Raises a `pipeline.errors.UserError` when the machine does not answer, `timeout` seconds are over, or the
        script fails.
        """
        ...


class Shell(Runs, Tells, Protocol):
    """Both."""
