"""`doit tabcompletion bash|zsh`: what completes doit's command lines; it asks `doit complete` at each Tab.

What fits is read off the commands' own arguments, and names of clusters, machines and tasks off the recipes as they are
then: there is no second list that could lag behind.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline import naming
from pipeline.commands.base import GraphCommand, OwnCommand
from pipeline.commands.loader import command_words
from pipeline.errors import UserError
from pipeline.hosts import kinds

if TYPE_CHECKING:
    from pipeline.tasks import Graph

_SCRIPTS = {
    "bash": """\
# eval "$(doit tabcompletion bash)"
_doit() {
    local line=${COMP_LINE:0:COMP_POINT} words fits before
    read -ra words <<< "$line"
    [[ $line != *[[:space:]] ]] || words+=("")
    mapfile -t fits < <(doit complete -- "${words[@]:1}" 2> /dev/null)
    # bash parts words at colons and equals signs, and wants what stands behind the last one
    before=${words[-1]%"${words[-1]##*[:=]}"}
    COMPREPLY=("${fits[@]#"$before"}")
}
complete -F _doit doit
""",
    "zsh": """\
# eval "$(doit tabcompletion zsh)"
_doit() {
    local -a fits
    fits=("${(@f)$(doit complete -- "${(@)words[2,CURRENT]}" 2> /dev/null)}")
    compadd -- $fits
}
compdef _doit doit
""",
}


class TabCompletion(OwnCommand):
    name = "tabcompletion"
    doc_purpose = "a script for the shell that completes command lines"
    doc_usage = "bash|zsh"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("shell", nargs="?", default="bash", choices=sorted(_SCRIPTS), help="default: %(default)s")

    def work(self, args: argparse.Namespace) -> int:
        print(_SCRIPTS[args.shell], end="")
        return 0


class Complete(GraphCommand):
    name = "complete"
    doc_purpose = "what the last word of a command line may become; tabcompletion's script asks it"
    doc_usage = "[--] [WORD ...]"
    doc_description = None

    def __init__(self, cmds: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._commands: Mapping[str, type] = cmds.to_dict() if cmds else {}

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("words", nargs="*", help="those behind `doit`, the last one unfinished")

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        *before, last = args.words or [""]
        before = command_words([*before, "--help"])[:-1]  # behind `cluster`, a verb is typed
        for word in sorted({word for word in self._fitting(graph, before, last) if word.startswith(last)}):
            print(word)
        return 0

    def _fitting(self, graph: Graph, before: Sequence[str], last: str) -> Iterator[str]:
        if not before:
            yield from (*self._commands, *tasks(graph))
            return
        command = self._commands.get(before[0])
        if command is not None and issubclass(command, OwnCommand):
            yield from _of_parser(command().parser(), before[1:], last, graph)
        else:  # of doit's own, which take tasks, or tasks themselves
            yield from tasks(graph)


def _of_parser(parser: argparse.ArgumentParser, before: Sequence[str], last: str, graph: Graph) -> Iterator[str]:
    """What fits behind these words of a command."""
    typed: dict[str, str] = {}
    places = _places(parser)
    words = iter(before)
    for word in words:
        if word.startswith("-"):
            option = parser._option_string_actions.get(word)
            if option is not None and option.nargs is None and next(words, None) is None:  # it wants a value
                found = _KINDS.get(option.dest)
                yield from option.choices or (found(graph, typed) if found else ())
                return
            continue
        if places and isinstance(places[0].choices, dict):  # a verb, which has arguments of its own
            chosen = places[0].choices.get(word)
            if chosen is None:
                return
            parser, places = chosen, _places(chosen)
        elif places:
            typed[places[0].dest] = word
            if places[0].nargs not in ("*", "+"):
                places = places[1:]
    if last.startswith("-"):
        for action in parser._actions:
            yield from action.option_strings
    elif places:
        found = _KINDS.get(places[0].dest)
        yield from places[0].choices or (found(graph, typed) if found else ())


def _places(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a command that have their place and no name."""
    return [action for action in parser._actions if not action.option_strings]


def tasks(graph: Graph) -> Iterator[str]:
    """Every task that one may want."""
    yield from graph.plan.steps
    for name in graph.plan.clusters:
        for phase in ("cluster", "boot", "install", "start", "verify"):
            yield naming.phase(phase, name)
    yield from (naming.phase("stop", name) for name in (*graph.known(), *map(naming.testbed, graph.plan.testbeds)))
    yield from (naming.host(name) for name, host in graph.plan.hosts.items() if kinds.of(host.connection).has_task)


def _machines(graph: Graph, typed: Mapping[str, str]) -> Iterator[str]:
    with contextlib.suppress(UserError, KeyError):
        yield from (machine.name for machine in graph.running(typed["cluster"]).cluster.machines)


def _settings(graph: Graph, typed: Mapping[str, str]) -> Iterator[str]:
    yield from _machines(graph, typed)
    yield from ("memory=", "cpus=", "next-boot=os", "next-boot=install")


def _fields(_graph: Graph, _typed: Mapping[str, str]) -> Iterator[str]:
    yield from ("memory=", "cpus=", "mac=")


def _opkgs(graph: Graph) -> list[str]:
    from pipeline.manifests.recipes import load

    return load(graph.recipes).names("opkgs")


#: What an argument of that name stands for, by its `dest`.
_KINDS: Mapping[str, Callable[[Graph, Mapping[str, str]], Any]] = {
    "cluster": lambda graph, _: graph.known(),
    "machine": _machines,
    "machines": _machines,
    "names": lambda graph, _: _opkgs(graph),
    "words": _settings,
    "fields": _fields,
    "opkg": lambda graph, _: ("install", "remove", *_opkgs(graph)),
    "task": lambda graph, _: tasks(graph),
    "extends": lambda graph, _: graph.known(),
    "host": lambda graph, _: graph.plan.hosts,
    "distro": lambda graph, _: (step.name for step in graph.plan.steps.values() if step.kind == "index"),
}
