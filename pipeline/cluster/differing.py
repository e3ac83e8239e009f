"""How what the machines of a cluster that runs were made of differs from what today's recipes make.

Machines are marked with the digests of their artifacts, and artifacts in the store say what they were made of: so both
are known to the file, and only the layers of packages under test and of OPKGs are made anew to find out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import listing
from pipeline.checks.files import reason
from pipeline.cluster import described
from pipeline.cluster.beside import threads
from pipeline.cluster.course import few
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.tried import Layer
from pipeline.description import Role
from pipeline.digests import canonical
from pipeline.errors import NotNow
from pipeline.guests import flavours
from pipeline.inventory import Changes, Entry, Tree
from pipeline.layers.cache import LIST
from pipeline.packages import lock
from pipeline.packages.families import FAMILIES
from pipeline.step import Step
from pipeline.store import Entry as Artifact
from pipeline.virt.connection import connect

#: What is tried: other layers of these.  What changes with them, and what is quick to find out and often the same in
#: the end.
_TRIED = ("localpackages", "opkgs")
_WITH_THEM = (*_TRIED, "diskbase", "imagebase")
_QUICK = ("index", "lock", "fetch")
#: What a machine boots by; that it is another one shows only when it does.
_BOOT = "boot/"

#: Role -> digest.
Marks = Mapping[str, str]


def marks(life: Lifecycle) -> dict[str, Marks]:
    """What each machine was made of; raises NotNow unless all are up, and are those that the recipe describes."""
    name = life.cluster.name
    home = life.runner.place.find()
    if home is None:
        raise NotNow(f"{name} does not run", hint=f"doit cluster:{name}")
    booted = described.read(life.run_dir)
    if booted is None or booted.cluster != life.cluster or booted.host != life.host:
        was, now = ({} if one is None else vars(one) for one in (booted and booted.cluster, life.cluster))
        other = [field for field in now if was.get(field) != now[field]] or ["host"]
        raise _cannot(life, [f"its recipe has other {few(other)} by now"])
    with connect(home.libvirt_uri) as connection:
        seen = life.runner.survey.seen(connection)
        running = life.runner.survey.running(connection)
    for machine in seen:
        if machine.state != "running" or not machine.ready:
            state = "not ready yet" if machine.state == "running" else machine.state or "not there"
            raise NotNow(f"{machine.name} is {state}", hint=f"doit cluster:{name}")
    return {machine: dict(item.metadata.artifacts) for machine, item in running.items()}


def installed(life: Lifecycle, found: Mapping[str, Marks]) -> dict[str, Layer]:
    """What packages under test and OPKGs had brought to machines of each membership when they were made; raises NotNow
    where that is no longer known."""
    layers: dict[str, Layer] = {}
    for membership, stack in life.made.stacks.items():
        _, recorded = _made_of(life, membership, found)
        role = "layer" if membership == "head" else f"image/{membership}"
        digests = {kind: digest for each, kind, digest in recorded["parents"] if each == role and kind in _TRIED}
        tasks = dict(zip(_TRIED, (stack.under_test, stack.opkgs), strict=True))
        layers[membership] = _layer(
            *(_recorded(life, kind, tasks[kind], digests[kind]) for kind in _TRIED if kind in digests)
        )
    return layers


def require_same(life: Lifecycle, found: Mapping[str, Marks]) -> None:
    """Raise NotNow where machines were made of other things than would be taken today, besides what is tried."""
    wrong: dict[str, None] = {}
    for membership in life.made.stacks:
        task, recorded = _made_of(life, membership, found)
        wrong.update(dict.fromkeys(_other(life, life.plan.steps[task], recorded)))
    for machine, own in found.items():
        now = life.composition.marks(machine)
        for role in ("settings", "kernel", "dom0"):
            if own.get(role) != now.get(role):
                wrong[f"{role} of {machine}"] = None
    if wrong:
        raise _cannot(life, [f"by now there would be other {few(list(wrong))}"])


def _made_of(life: Lifecycle, membership: str, found: Mapping[str, Marks]) -> tuple[str, Mapping[str, Any]]:
    """The task whose artifact has the layers of a membership, and of that one of which its machines were made, what it
    was recorded to be made of."""
    machine = next(one.name for one in life.cluster.machines if one.membership == membership)
    task = life.made.disks[machine] if membership == "head" else life.made.image
    kind = _kind(task)
    ingredients: Mapping[str, Any] = _recorded(life, kind, task, found[machine].get(kind, "")).manifest["ingredients"]
    return task, ingredients


def today(life: Lifecycle) -> dict[str, Layer]:
    """What they bring by today's recipes; made where it is not there.  Raises NotNow where that takes other layers."""
    engine, steps = life.engine, life.plan.steps
    wanted = {
        membership: tuple(filter(None, (stack.under_test, stack.opkgs)))
        for membership, stack in life.made.stacks.items()
    }
    tasks = list(dict.fromkeys(itertools.chain.from_iterable(wanted.values())))
    for task in life.plan.below(tasks):
        if steps[task].kind in _TRIED or engine.has(task):
            continue
        if steps[task].kind not in _QUICK:
            raise _cannot(life, [f"{task} would have to be made anew ({engine.keys.why(steps[task])})"])
        engine.build(task)
    with threads(2) as pool:
        while stale := [task for task in tasks if not engine.has(task)]:
            wave = [task for task in stale if not any(parent.task in stale for parent in steps[task].parents)]
            list(pool.map(engine.build, wave))
    return {membership: _layer(*map(engine.entry, each)) for membership, each in wanted.items()}


def require_kept(life: Lifecycle, before: Mapping[str, Layer], layers: Mapping[str, Layer]) -> None:
    """Raise NotNow where a package under test is gone: its scripts would have to say what else goes with it."""
    gone = {name for each, layer in layers.items() for name in before[each].packages.keys() - layer.packages.keys()}
    if gone:
        raise _cannot(life, [f"package {few(sorted(gone))}: no longer under test"])


def paths(before: Changes, after: Changes) -> set[str]:
    """The paths at which two layers over the same tree differ."""
    was, now = _comparable(before), _comparable(after)
    return {path for path in was.keys() | now.keys() if was.get(path, _ABSENT) != now.get(path, _ABSENT)}


_ABSENT = object()


def _comparable(changes: Changes) -> dict[str, Any]:
    """A file's inode is only a word for its other names."""
    present = {path: entry for path, entry in changes.items() if entry is not None}
    names = {name: tuple(group) for group in listing.names_of_one_file(present) for name in group}
    return {path: (entry and entry._replace(inode=""), names.get(path)) for path, entry in changes.items()}


class Target:
    """What machines of a membership are to hold by today's recipes.

    `was` is what had been brought when they were made, and `layer` what is brought by now; `overridden` is path -> who
    puts something else there when the machine is made already.
    """

    def __init__(
        self, life: Lifecycle, membership: str, was: Layer, layer: Layer, overridden: Mapping[str, str]
    ) -> None:
        self._life = life
        self._was = was
        self._overridden = overridden
        self.membership = membership
        self.layer = layer
        self._below: Tree | None = None

    @property
    def below(self) -> Tree:
        """What stands below what is tried."""
        if self._below is None:
            self._below = listing.stacked(listing.load((path / LIST).read_text()) for path in self.lower())
        return self._below

    def lower(self) -> list[Path]:
        """The folders of the layers below, the lowest first."""
        return [self._life.engine.entry(task).path for task in self._layers() if _kind(task) not in _TRIED]

    def upper(self) -> list[Path]:
        """The folders of what is tried, likewise."""
        return [self._life.engine.entry(task).path for task in self._layers() if _kind(task) in _TRIED]

    def _layers(self) -> list[str]:
        opkgs = self._life.made.stacks[self.membership].opkgs
        parents = self._life.plan.steps[opkgs].parents
        return [*(parent.task for parent in parents if parent.role == "layer"), opkgs]

    def at(self, path: str) -> Entry | None:
        """What stands at a path; None where nothing does."""
        if path in self.layer.changes:
            return self.layer.changes[path]
        return self.below.get(path)

    def own(self, path: str) -> str | None:
        """Why a machine has something of its own at that path and keeps it, if it has."""
        guest, family = flavours.of(self._life.cluster.guest), FAMILIES[self._life.made.family]
        if path.startswith(f"{family.database.strip('/')}/"):  # which tells of files that are brought
            return None
        known = guest.known_on(self._life.cluster)
        role: Role = "head" if self.membership == "head" else "compute"
        why = reason(path, "content", role, known, family)
        if why is None:
            return self._overridden.get(path)
        was = self._was.changes[path] if path in self._was.changes else self.below.get(path)
        return why if was is not None else reason(path, "added", role, known, family)


def require_applicable(life: Lifecycle, changed: Mapping[str, set[str]]) -> None:
    """Raise NotNow where a path is among these, by membership, that counts only when a machine boots."""
    if boots := sorted({f"/{path}" for each in changed.values() for path in each if path.startswith(_BOOT)}):
        raise _cannot(life, [f"{few(boots)}: what machines boot by"])


def _cannot(life: Lifecycle, reasons: list[str]) -> NotNow:
    name = life.cluster.name
    return NotNow(
        f"{name}: that cannot be tried in place: {'; '.join(reasons)}",
        hint=f"doit cluster:{name} makes the machines as the recipe has them",
    )


def _layer(*entries: Artifact) -> Layer:
    """What layers that lie one over the other change together, the lowest given first; on top are OPKGs."""
    changes: Changes = {}
    packages: Mapping[str, str] = {}
    for number, entry in enumerate(entries):
        changes = _over(changes, listing.load((entry.path / LIST).read_text()), number)
        if entry.manifest["kind"] == "localpackages":
            packages = lock.read_versions(entry.path / lock.VERSIONS)
    return Layer(dict(entries[-1].manifest["ingredients"]["files"]), changes, packages)


def _over(below: Changes, above: Changes, number: int) -> Changes:
    """What two layers change together; what names are one file is known in each of them alone."""
    hiding = {path for path, entry in above.items() if entry is None or entry.type != "d"}
    left = {path: entry for path, entry in below.items() if hiding.isdisjoint(_folders(path))}
    own = {
        path: entry._replace(inode=f"{number}/{entry.inode}") if entry and entry.inode else entry
        for path, entry in above.items()
    }
    return {**left, **own}


def _folders(path: str) -> Iterator[str]:
    """Those that it lies in."""
    while path := path.rpartition("/")[0]:
        yield path


def _kind(task: str) -> str:
    return task.partition(":")[0]


def _recorded(life: Lifecycle, kind: str, task: str, digest: str) -> Artifact:
    """An artifact of that kind with that digest, whichever recipes it was made by; most likely it is what `task` makes,
    or has made ("" = there is no such task any more)."""
    store = life.engine.store
    likely = [life.engine.keys.entry(task), store.linked(task)] if task else []
    for entry in itertools.chain(likely, store.entries()):
        if entry is not None and entry.digest == digest and entry.manifest.get("kind") == kind:
            store.hold(entry.key)
            return entry
    raise _cannot(life, [f"the {kind} that its machines were made of is no longer in the store (doit gc)"])


def _other(life: Lifecycle, step: Step, recorded: Mapping[str, Any]) -> Iterator[str]:
    """The tasks that by now make something else than what an artifact of that step was recorded to be made of."""
    if canonical(recorded["params"]) != canonical(dict(step.params)):
        yield f"layout of {step.task}"
    before = [tuple(each) for each in recorded["parents"] if each[1] not in _WITH_THEM]
    parents = [parent for parent in step.parents if _kind(parent.task) not in _WITH_THEM]
    for parent, was in itertools.zip_longest(parents, before):
        if parent is None:
            yield f"{was[1]} of {step.task}"
            continue
        kind, entry = _kind(parent.task), life.engine.keys.entry(parent.task)
        digest = entry and (entry.part(parent.part) if parent.part else entry.digest)
        if was != (parent.role, kind, digest):
            yield parent.task
