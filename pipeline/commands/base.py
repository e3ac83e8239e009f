"""What our own commands share: free arguments, the task graph, output that is clean, an orderly end."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline import foreign
from pipeline.columns import Table
from pipeline.commands.ending import Orderly
from pipeline.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from pipeline.tasks import Graph
    from pipeline.verbs.rows import Row, Verb


@dataclass(frozen=True)
class Done:
    """What was done on a machine, or is to be known of the cluster as a whole ("")."""

    cluster: str
    machine: str
    what: str

    def text(self) -> str:
        return f"{self.machine or self.cluster}: {self.what}"


class OwnCommand(Orderly):
    """A command of ours.  A subclass says its arguments in `arguments` and works in `work`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    def work(self, args: argparse.Namespace) -> int:
        """Do it; the result is the exit status."""
        raise NotImplementedError

    def parser(self) -> argparse.ArgumentParser:
        """What reads its command line."""
        parser = argparse.ArgumentParser(prog=f"doit {self.name}", description=self.doc_purpose)
        self.arguments(parser)
        return parser

    def obey(self, words: list[str]) -> int:
        try:
            args = self.parser().parse_args(words)
        except SystemExit as ended:  # it has told what there is to tell
            return int(ended.code or 0)
        return self.work(args)


def answer(rows: Iterable[Row | Table | UserError], *, as_json: bool) -> int:
    """Tell rows as they come, or all of them as one JSON array; errors, which concern a part, go to standard error.

    The result is the exit status.
    """
    status, told = 0, []
    try:
        for row in rows:
            if isinstance(row, UserError):
                print(row.render(), file=sys.stderr)
                status = max(status, row.status)
            elif as_json:
                lines = row.lines if isinstance(row, Table) else (row,)
                told += [asdict(cast("DataclassInstance", line)) for line in lines]
            else:
                print(row.text(), flush=True)
    finally:  # also what was done before something failed
        if as_json:
            json.dump(told, sys.stdout, indent=1)
            print()
    return status


def json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


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

        with (
            contextlib.redirect_stdout(foreign.cleaned(sys.stdout)),
            contextlib.redirect_stderr(foreign.cleaned(sys.stderr)),
        ):
            return self.main(Graph(Path.cwd()), args)


class _Anywhere(argparse.ArgumentParser):
    """Takes options also between words.  By itself argparse takes it for the end of words, of which there may be none,
    if an option comes before the first."""

    _within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._within:
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False


class VerbCommand(GraphCommand):
    """A command with verbs, which have arguments of their own.  A subclass says which."""

    def verbs(self) -> Mapping[str, Verb]:
        """All there are, by name."""
        raise NotImplementedError

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Anywhere)
        for name, verb in self.verbs().items():
            takes = actions.add_parser(name, help=verb.purpose, description=verb.purpose)
            verb.arguments(takes)
            json_argument(takes)

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        return answer(self.verbs()[args.verb].rows(graph, args), as_json=args.json)


class Question(GraphCommand):
    """A command whose answer people and programs read.  A subclass says it in `rows`, and its arguments in `asks`."""

    def asks(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    def rows(self, graph: Graph, args: argparse.Namespace) -> Iterable[Row | UserError]:
        """What there is to tell."""
        raise NotImplementedError

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        self.asks(parser)
        json_argument(parser)

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        return answer(self.rows(graph, args), as_json=args.json)


def cluster_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", help="name of a cluster (recipes/clusters/NAME.toml)")


def machine_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", nargs="?", help="name of a machine; without it, the head node")
