"""What doit loads before it reads a single word of ours: the task graph's loader, and with it a sound command line.

doit takes every word with a `=` for a variable of its own and drops it: `doit lock:debian12=3` would run the default
task, a whole cluster.  There are no such variables here, so all words are kept, and one that means nothing is refused
by the command that gets it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doit import doit_cmd
from doit.cmd_base import DodoTaskLoader

#: New objects after which garbage is looked for.  Imports and the plan make this many and no garbage: by Python's own
#: number, 700, that search took a twentieth of a run with nothing to do.
_OBJECTS = 100_000


class Loader(DodoTaskLoader):
    """Loads `dodo.py` of the folder that doit is called in, and of no other: all commands work on the same one."""

    cmd_options = ()

    def __init__(self) -> None:
        super().__init__()
        gc.set_threshold(_OBJECTS)
        _open_standard_streams()
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing has begun that could be ended in an orderly way

    def setup(self, opt_values: Any) -> None:
        super().setup({"dodoFile": "dodo.py", "cwdPath": None, "seek_file": False})


def command_words(words: Sequence[str]) -> list[str]:
    """A command line with the command that is meant: `cluster` is a group of tasks, and with a verb behind it, as in
    `doit cluster list`, a command."""
    if len(words) > 1 and words[0] == "cluster" and (words[1] in ("-h", "--help") or words[1] in _verbs()):
        return ["clusters", *words[1:]]
    return list(words)


def _verbs() -> set[str]:
    """Those of whole clusters, without importing them."""
    folder = Path(__file__).parents[1] / "verbs/clusters"
    return {file.stem for file in folder.glob("[a-z]*.py")}


def _all_words(self: Any, cmd_args: list[str]) -> list[str]:
    """In place of what takes variables out."""
    doit_cmd.reset_vars()
    return command_words(cmd_args)


doit_cmd.DoitMain.process_args = _all_words


def _open_standard_streams() -> None:
    """Put /dev/null where the caller has closed one, or the next file that is opened would take its place.

    And what a terminal's or log's encoding has no sign for is shown by its number.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # it is somebody's own
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
