"""What checks of a machine are given, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.checks.facts import Facts
from pipeline.description import Machine, Network
from pipeline.guests.guest import Known
from pipeline.inventory import Changes, Tree
from pipeline.packages.family import Family


@dataclass(frozen=True)
class Subject:
    """What a check looks at: a machine as described and as found, and what it was made from.

    `networks` are the cluster's; `packages` is name -> version of all that must be installed; `files` is what the SIS
    image holds, or the head node's disk; `known` are the paths that differ on any machine of this kind; `family` is
    that of its packages; `configured` is path -> who changed it when the machine was made already; `changes` is what
    stands where OPKGs that came or went meanwhile have changed it.
    """

    machine: Machine
    facts: Facts
    networks: Sequence[Network]
    packages: Mapping[str, str]
    files: Tree
    known: Sequence[Known]
    family: Family
    configured: Mapping[str, str] = field(default_factory=dict)
    changes: Changes = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What a check found: `problems` one line each, none when all is well; `seen` says in a line what was checked."""

    problems: tuple[str, ...] = ()
    seen: str = ""
    output: str = ""
    seconds: float = 0.0


def few(items: list[str], most: int = 5) -> str:
    """The first of them in a line, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
