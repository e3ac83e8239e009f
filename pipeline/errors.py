"""The only errors that reach a user: one clear message, a hint, and where to look.

Everything else that is raised is a bug and keeps its traceback.  The commands and the worker turn a `UserError` into
text with `render()` and nothing more.  What guests and scripts said is kept in it as it was, and cleaned when it is
told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pipeline import foreign

#: Of an error's message (characters), and of its last lines (lines).
_LONGEST, _LAST = 4000, 100


class UserError(Exception):
    """Something a person can put right: bad input, a missing tool, a full disk, a machine that does not boot.

    `status` is the exit status of a command that ends with it; README lists them.
    """

    status = 1

    def __init__(self, message: str, *, hint: str = "", log: Path | None = None, tail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log
        self.tail = tail

    def about(self, what: str) -> Self:
        """The same error, of what is named first."""
        return type(self)(f"{what}: {self.message}", hint=self.hint, log=self.log, tail=self.tail)

    def render(self) -> str:
        """The message as a person reads it: what happened, the last lines, what to do, where the log is."""
        told = self.told()
        lines = [told["message"]]
        lines += [f"    | {line}" for line in told["tail"].splitlines()]
        if told["hint"]:
            lines.append(f"  hint: {told['hint']}")
        if told["log"]:
            lines.append(f"  log:  {told['log']}")
        return "\n".join(lines)

    def told(self) -> dict[str, str]:
        """Its parts, fit to be shown."""
        return {
            "message": foreign.clip(foreign.clean(self.message), _LONGEST),
            "hint": foreign.clip(foreign.clean(self.hint), _LONGEST),
            "tail": foreign.last_lines(self.tail, _LAST),
            "log": foreign.clean(str(self.log or "")),
        }

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross a process border (sandbox worker, doit threads): keep every field."""
        return (_rebuild, (type(self), self.message, self.hint, self.log, self.tail))


def _rebuild(cls: type[UserError], message: str, hint: str, log: Path | None, tail: str) -> UserError:
    return cls(message, hint=hint, log=log, tail=tail)


class ManifestError(UserError):
    """A mistake in `recipes/`: the message starts with `file:line: field`."""


class WrongUse(UserError):
    """A command line that means nothing."""

    status = 2


class CommandError(UserError):
    """A tool ended with an error or took too long."""


class BuildError(UserError):
    """A step could not be built."""


class ClusterError(UserError):
    """A running machine did not do what was expected of it: the message names machine and phase."""


class NotThere(UserError):
    """What was named does not exist: a cluster, a machine, a task."""

    status = 3


class NotNow(ClusterError):
    """It exists, and is in no state in which this could be done."""

    status = 4


class Unreachable(ClusterError):
    """A host, or the libvirt there, does not answer."""

    status = 5
