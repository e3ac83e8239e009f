"""What can be made, as plain data: a step is one cacheable artifact to build, a record one made from running machines.

Planning yields these and nothing else.  They name their makers ("module:function") instead of holding them, so a plan
can be cached, shown and compared without importing what builds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import naming
from pipeline.description import Cluster, Host
from pipeline.errors import BuildError


@dataclass(frozen=True)
class Parent:
    """An input: the output of another step.  `role` is the maker's name for it; `part` one file of it, "" = all."""

    role: str
    task: str
    part: str = ""


@dataclass(frozen=True)
class Artifact:
    """One artifact, and all that its key covers.

    `maker` is the function that makes it.  `params` is canonical-JSON-able.  `files` are the recipe files that the
    maker reads: (path below recipes/, what is kept of it as `kept` says).  `ships` are files and folders
    below pipeline/ that it reads besides its own source.  `tools` are the host programs whose versions matter to the
    output, packages of Python (`python:NAME`), and files of the host that programs are given (`file:PATH`).
    """

    kind: str
    name: str
    doc: str
    maker: str
    _: KW_ONLY
    params: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[Parent, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    ships: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The doit task that makes it, as `disk:debian12/node1`."""
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True)
class Step(Artifact):
    """An artifact that is built: its maker is a `Builder`, run in a sandbox.

    Only `network` steps can reach the network, and what they bring is checked against a SHA-256 or a signature; of a
    `snapshot` nobody knows before what it will be, and taken again it may be another.  `mirrors` is a function
    ("module:function") from its params to the URLs below which it reads.  The builder of one that `takes_over` is given
    what the same task made last, to take parts of it that would come out the same.
    """

    network: bool = False
    mirrors: str = ""
    snapshot: bool = False
    takes_over: bool = False


@dataclass(frozen=True)
class Record(Artifact):
    """An artifact that is made from running machines, as a verdict on them.

    Its parents are what they were made of, and its maker is what judges them: so its key says for what it was given,
    and by which judge.
    """


@dataclass(frozen=True)
class Stack:
    """The root file system of a membership, as tasks: the locks of its packages, lowest first, the layer of packages
    under test ("" where there are none), and that of its OPKGs, which lies on top."""

    locks: tuple[str, ...]
    under_test: str
    opkgs: str


@dataclass(frozen=True)
class Made:
    """What a running cluster is made of, as tasks; "" is what it has no need of.

    `definitions` and `disks` are by machine, `stacks` by membership.  `xenconfigs`, `dom0` and `kernel` are for
    clusters on Xen: configurations that libxl took, by machine, the testbed, and a kernel that is loaded from outside.
    The installer `netboot` is in the image, too.  `family` is that of its packages.
    """

    image: str
    definitions: Mapping[str, str]
    disks: Mapping[str, str]
    stacks: Mapping[str, Stack]
    netboot: str
    family: str
    xenconfigs: Mapping[str, str] = field(default_factory=dict)
    dom0: str = ""
    kernel: str = ""

    def parts(self) -> dict[str, str]:
        """Role -> task of all that a cluster is made of, and that a verdict is for.

        A machine may be called like any artifact, as `image`: its disk's role is none of theirs.
        """
        own = {"definition": self.definitions, "disk": self.disks, "xenconfig": self.xenconfigs}
        return {
            **self._shared(),
            **{f"{role}/{machine}": task for role, tasks in own.items() for machine, task in tasks.items()},
        }

    def parts_of(self, machine: str) -> dict[str, str]:
        """Role -> task of all that one machine is made of, and is marked with."""
        return {**self._shared(), "definition": self.definitions[machine], "disk": self.disks[machine]}

    def _shared(self) -> dict[str, str]:
        found = {"image": self.image, "dom0": self.dom0, "kernel": self.kernel}
        return {role: task for role, task in found.items() if task}


@dataclass(frozen=True)
class Plan:
    """All that can be made, every cluster as it will be, and the VM containers.

    `steps` and `records` are by task, `clusters` and `made` by cluster: what its machines are, and are made of;
    `testbeds` by host: the tasks of what it is made of; `lots` by cluster: its share of a host that others use
    as well (`allocation`).  `reads` are the paths outside of the recipes that were looked
    at to make it, as they were given.  `warnings` are mistakes in the recipes that stop nothing.  They are part of the
    plan, so that a run that only remembers its plan tells them as well.  `broken` are the recipes of which nothing can
    be made: "clusters/mine" or "opkgs/mine" -> all their mistakes, one a line; what needs such a recipe is broken too,
    by the same mistakes.
    """

    steps: dict[str, Step] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    made: dict[str, Made] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    lots: dict[str, int] = field(default_factory=dict)
    testbeds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    def told(self) -> list[str]:
        """What is wrong with the recipes, for everybody who runs anything: a line for each fault and each warning."""
        by_fault: dict[str, list[str]] = {}
        for recipe, mistakes in self.broken.items():
            by_fault.setdefault(mistakes, []).append(recipe)
        faults = []
        for mistakes, recipes in by_fault.items():
            first, *others = mistakes.splitlines()
            more = f"{len(others) + 1} mistakes; " if others else ""
            faults.append(f"{first} ({more}so nothing is made of {', '.join(recipes)})")
        return [*faults, *self.warnings]

    def fault(self, task: str) -> str:
        """The mistakes for which there is no task of that name, or ""."""
        name = task.partition(":")[2].partition("/")[0]
        return next(
            (
                mistakes
                for recipe, mistakes in self.broken.items()
                if recipe in (f"clusters/{name}", f"distros/{name}", f"netboot/{name}", f"hosts/{name}")
            ),
            "",
        )

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """All that can be made, by task."""
        return {**self.steps, **self.records}

    def verdict(self, cluster: str) -> Record:
        """The verdict on a running cluster."""
        return self.records[naming.phase("verify", cluster)]

    def below(self, tasks: Iterable[str]) -> list[str]:
        """These tasks and all that they are made from, inputs first."""
        found: dict[str, None] = {}

        def visit(task: str) -> None:
            if task not in found:
                for parent in self.steps[task].parents:
                    visit(parent.task)
                found[task] = None

        for task in tasks:
            visit(task)
        return list(found)


@dataclass(frozen=True)
class Input:
    """A parent's published output as a builder sees it: the folder its files lie in, and their digest."""

    role: str
    task: str
    path: Path
    digest: str

    def file(self, name: str) -> Path:
        return self.path / name


@dataclass(frozen=True)
class Job:
    """What a builder gets: its step, its inputs, and three places.

    `out` is where its output files go (all of it is published, or none); `work` is scratch space that vanishes
    afterwards; `recipes` is the recipes folder, of which only `step.files` may be read; `pool` is the package
    pool that network steps fill.  Tools log to `log`.  `progress(done, total, unit)` shows how far it is; `note(text)`
    tells what a person should know although all is well.  `former` is the folder of what the task made before, if there
    is any and the step takes over of it: a shortcut that makes no difference to the output.
    """

    step: Step
    inputs: tuple[Input, ...]
    out: Path
    work: Path
    recipes: Path
    pool: Path
    log: Path
    progress: Callable[[int, int, str], None]
    note: Callable[[str], None]
    former: Path | None = None

    @property
    def params(self) -> Mapping[str, Any]:
        return self.step.params

    def input(self, role: str) -> Input:
        """The input with that role; KeyError where the plan gave none."""
        for item in self.inputs:
            if item.role == role:
                return item
        raise KeyError(role)

    def pass_on(self, role: str, name: str) -> None:
        """Make a file of an input one of the output as well: it takes no room of its own and is not hashed again."""
        (self.out / name).symlink_to(self.input(role).file(name))

    @property
    def layers(self) -> tuple[Input, ...]:
        """The inputs whose role is `layer`: a root file system's layers, lowest first."""
        return tuple(item for item in self.inputs if item.role == "layer")


#: What a builder is: it fills `job.out` or raises.
Builder = Callable[[Job], None]


class Spoiled(BuildError):
    """What a builder read was damaged, meanwhile or before.  It is made anew for whoever wants it next, so it is worth
    while to run the builder once more."""
