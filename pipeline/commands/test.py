"""`doit test CLUSTER -- COMMAND`: one command on the head node of a fresh copy, which is ended then.

A file of pytest's that lies here runs here, with the fixtures `head` and `nodes` (`fixtures`); `-n` parts its tests
among copies.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipeline.commands import copies
from pipeline.commands.base import GraphCommand, cluster_argument
from pipeline.errors import NotThere, UserError, WrongUse
from pipeline.run import cleaning_up, run, spawn

if TYPE_CHECKING:
    from pipeline.cluster.lifecycle import Lifecycle
    from pipeline.shell import ClusterShell
    from pipeline.tasks import Graph

_TOP = Path(__file__).resolve().parents[2]
#: What pytest ends with where it was given no test, as one of several may be.
_NO_TESTS = 5
#: Seconds to fetch a file or a folder.
_FETCHED = 3600


class Test(GraphCommand):
    name = "test"
    doc_purpose = "run a command, or a pytest file, on a fresh copy of a frozen cluster"
    doc_usage = "CLUSTER [-n N] [--fetch PATH] [--junit FILE] -- COMMAND ..."
    doc_description = None

    def obey(self, words: list[str]) -> int:
        """What stands behind `--` is not ours to read."""
        ours = words.index("--") if "--" in words else len(words)
        self._command = words[ours + 1 :]
        return super().obey(words[:ours])

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        parser.add_argument(
            "-n", type=int, default=1, metavar="N", help="part the tests of pytest among so many copies"
        )
        parser.add_argument(
            "--fetch",
            action="append",
            default=[],
            metavar="PATH",
            help="bring a file or folder of the head node here afterwards (as often as there are)",
        )
        parser.add_argument("--junit", type=Path, metavar="FILE", help="write the result as JUnit XML")

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        command = self._command
        if not command:
            raise WrongUse(
                "there is no command",
                hint=f"doit test {args.cluster} -- COMMAND runs it on the head node as root; or -- pytest FILE",
            )
        is_here = is_local(command)
        if args.n < 1 or (args.n > 1 and not is_here):
            raise WrongUse("-n parts tests of a pytest file that lies here among copies", hint="-n 4 -- pytest FILE")
        if is_here:
            return _pytest(graph, args, command)
        with contextlib.ExitStack() as stack:
            copy = _copy(stack, graph, args.cluster)
            started = time.time()
            shell = copy.shell()
            stack.enter_context(shell.connected())
            argv = shell.argv(copy.cluster.head.name, " ".join(command), tty=False)
            with spawn(argv) as process:
                status = process.wait()
            ended = time.time()
            if args.junit:
                from pipeline.report import junit

                args.junit.write_bytes(junit.of_command(args.cluster, command, status, started, ended))
            return max(status, _fetch(shell, args.fetch, Path()))


def is_local(command: Sequence[str]) -> bool:
    """Whether that is pytest with a file or folder that lies here."""
    words = [word.partition("::")[0] for word in command[1:] if not word.startswith("-")]
    return command[0] in ("pytest", "py.test") and any(Path(word).exists() for word in words)


def _copy(stack: contextlib.ExitStack, graph: Graph, cluster: str) -> Lifecycle:
    """A fresh copy, which ends with the stack, and with this process however that ends."""
    copy = copies.thaw(graph, cluster, None)

    def end() -> None:
        with cleaning_up():
            copy.stop()

    stack.callback(end)
    stack.enter_context(copy.runner.place.lease())
    print(f"{copy.cluster.name}: runs", file=sys.stderr)
    return copy


def _pytest(graph: Graph, args: argparse.Namespace, command: Sequence[str]) -> int:
    """Run pytest once for each copy, each with its part of the tests."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = []
        for number in range(args.n):
            copy = _copy(stack, graph, args.cluster)
            said: IO[bytes] | None = None  # as it comes
            if args.n > 1:
                said = stack.enter_context((folder / f"{number}.log").open("w+b"))
            argv = [sys.executable, "-m", "pytest", "-p", "pipeline.commands.fixtures", *command[1:]]
            argv += [f"--junitxml={folder / f'{number}.xml'}"] if args.junit else []
            env = {
                "PYTHONPATH": str(_TOP),
                "XEN_OSCAR_ARTIFACTS": str(graph.artifacts),
                "XEN_OSCAR_COPY": copy.cluster.name,
                "XEN_OSCAR_TOP": str(Path.cwd()),
                "XEN_OSCAR_PART": f"{number}/{args.n}",
            }
            process = stack.enter_context(spawn(argv, env=env, stdout=said, stderr=said))
            started.append((copy, process, said))
        status, has_tests = 0, False
        for copy, process, said in started:
            ended = process.wait()
            if said is not None:
                said.seek(0)
                shutil.copyfileobj(said, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            has_tests = has_tests or ended != _NO_TESTS
            status = max(status, 0 if ended == _NO_TESTS else ended)
            place = Path(copy.cluster.name) if args.n > 1 else Path()
            status = max(status, _fetch(copy.shell(), args.fetch, place))
        if args.junit:
            from pipeline.report import junit

            args.junit.write_bytes(junit.together([path.read_bytes() for path in sorted(folder.glob("*.xml"))]))
        return status if has_tests else _NO_TESTS


def _fetch(shell: ClusterShell, paths: Sequence[str], folder: Path) -> int:
    """Bring files of the head node to a folder here; the exit status, where one could not be brought."""
    status = 0
    head = shell.cluster.head
    for path in paths:
        folder.mkdir(parents=True, exist_ok=True)
        source = f"root@{head.address_on('public')}:{path}"
        done = run(["scp", "-r", "-q", *shell.command[1:], source, f"{folder}{os.sep}"], timeout=_FETCHED, check=False)
        if done.status:
            error: UserError = NotThere(f"{path} of {head.name} could not be fetched", tail=done.stderr)
            print(error.render(), file=sys.stderr)
            status = error.status
    return status
