"""What our own commands share: free arguments, the task graph, errors without tracebacks, output that is clean."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.cmd_base import Command

from pipeline import foreign
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class GraphCommand(Command):
    """A command that works on the task graph of the folder it is called in.

    A subclass says its arguments in `arguments` and works in `main`.  doit would take `k=v` words out of what is
    typed, so the words are read from the command line itself.  What it prints is cleaned, for names and texts may come
    from machines, disks and packages; only `sys.stdout.buffer` takes bytes as they are.
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        """Do it; the result is the exit status."""
        raise NotImplementedError

    def parse_execute(self, in_args: list[str]) -> int:
        parser = argparse.ArgumentParser(prog=f"doit {self.name}", description=self.doc_purpose)
        self.arguments(parser)
        typed = sys.argv[sys.argv.index(self.name) + 1:] if self.name in sys.argv else in_args
        args = parser.parse_args(typed)
        try:
            from pipeline.tasks import Graph

            with (contextlib.redirect_stdout(foreign.cleaned(sys.stdout)),
                  contextlib.redirect_stderr(foreign.cleaned(sys.stderr))):
                return self.main(Graph(Path.cwd()), args)
        except UserError as error:
            print(error.render(), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # whoever read it has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


def cluster_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", help="name of a cluster (recipes/clusters/NAME.toml)")


def machine_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", nargs="?", help="name of a machine; without it, the head node")


def nearest(word: str, known: Any, what: str) -> UserError:
    """The error for a name that is none, with the nearest ones that are."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(word, names, cutoff=0.5)
    return UserError(f"there is no {what} {word!r}",
                     hint=f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(names)}")
