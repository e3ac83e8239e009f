"""What our own commands share: free arguments, the task graph, output that is clean, an orderly end."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import foreign
from pipeline.commands.ending import Orderly
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class OwnCommand(Orderly):
    """A command of ours.  A subclass says its arguments in `arguments` and works in `work`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    def work(self, args: argparse.Namespace) -> int:
        """Do it; the result is the exit status."""
        raise NotImplementedError

    def obey(self, words: list[str]) -> int:
        parser = argparse.ArgumentParser(prog=f"doit {self.name}", description=self.doc_purpose)
        self.arguments(parser)
        try:
            args = parser.parse_args(words)
        except SystemExit as ended:  # it has told what there is to tell
            return int(ended.code or 0)
        return self.work(args)


class GraphCommand(OwnCommand):
    """A command of ours on the task graph of the folder it is called in.  A subclass works in `main`.

    What it prints is cleaned, for names and texts may come from machines, disks and packages; only `sys.stdout.buffer`
    takes bytes as they are.
    """

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        """Do it; the result is the exit status."""
        raise NotImplementedError

    def work(self, args: argparse.Namespace) -> int:
        from pipeline.tasks import Graph

        with (contextlib.redirect_stdout(foreign.cleaned(sys.stdout)),
              contextlib.redirect_stderr(foreign.cleaned(sys.stderr))):
            return self.main(Graph(Path.cwd()), args)


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
