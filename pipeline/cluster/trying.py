"""`doit try`: today's change of OPKGs, or of packages under test, is brought to a cluster that runs, without a new
installation.

Only layers of these are made, as for an installation, with all that scripts do while a root is built; what differs in
them from what the machines have travels: to the head node by its own connection, and from there to the nodes by rsync
from its image server, as SystemImager's updateclient does.  So what was tried is bit for bit what an installation
brings.  Then services start again, the phases run that have their place on machines that are up, and the checks that
such a change can reach, and the OPKGs' own tests, tell whether it is well.

It is written down before the first machine is touched.  What breaks off is done once more by the next try, and an
installation takes all of it away.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from pipeline.checks.facts import Facts
from pipeline.checks.opkgs import run_tests
from pipeline.checks.result import Result
from pipeline.checks.verify import Expected, judge
from pipeline.cluster import changing, differing, onmachine, tried
from pipeline.cluster.added import Added
from pipeline.cluster.adding import head_phases
from pipeline.cluster.beside import threads
from pipeline.cluster.carrying import Load, archive, services
from pipeline.cluster.course import few
from pipeline.cluster.differing import Target
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.opkglog import log
from pipeline.cluster.opkgphase import configured
from pipeline.cluster.tried import Layer, Share, Tried, What
from pipeline.errors import ClusterError, NotNow
from pipeline.guests import flavours
from pipeline.mistakes import no_such
from pipeline.opkgs.phases import PACKAGES, PHASES, has_script, that_run
from pipeline.packages.families import FAMILIES

#: The checks of machines that a file, a script or a service can reach.
CHECKS = ("kernel log", "services", "disk files", "image files")
#: OPKGs that are tested at a time, as in a verification.
_LANES = 2

#: A machine, or none, and what was done or found there.
Told = tuple[str, str]


def attempt(life: Lifecycle, names: Sequence[str]) -> Iterator[Told]:
    """Try what has changed of these OPKGs, or of all, and of packages under test; what was done and found where, as it
    happens.  Packages alone are followed by the checks alone, and by the phases and tests of OPKGs that are named.

    Raises NotNow, before anything is touched, where that cannot be done in place; ClusterError where a script, a
    service, a check or a test fails.
    """
    cluster, started = life.cluster, time.monotonic()
    for name in names:
        if name not in cluster.opkgs:
            raise no_such(f"OPKG of {cluster.name}", name, list(cluster.opkgs))
    with life.runner.alone():
        marks = differing.marks(life)
        known = tried.read(life.run_dir) or Tried(
            {membership: Share(layer, layer) for membership, layer in differing.installed(life, marks).items()}
        )
        layers = differing.today(life)
        differing.require_same(life, marks)
        differing.require_kept(life, {each: share.last for each, share in known.shares.items()}, layers)
        changed = _changed(known, layers)
        if others := [name for name in changed.opkgs if names and name not in names]:
            raise NotNow(
                f"OPKG {few(others)} has changed, too, and all OPKGs are one layer of a machine",
                hint=f"doit try {cluster.name} {' '.join(changed.opkgs)}",
            )
        if changed.packages:  # which OPKGs these matter to is known to whoever names them
            changed |= What(tuple(names))
        fresh = {
            membership: differing.paths(share.last.changes, layers[membership].changes)
            | (share.touched if known.pending else frozenset())
            for membership, share in known.shares.items()
        }
        if not changed and not any(fresh.values()):
            yield "", "nothing has changed since its machines were made or since the last try"
            return
        changed = changed or What(tuple(cluster.opkgs))  # what makes layers of them is another one by now
        differing.require_applicable(life, fresh)
        yield from _try(life, known, layers, changed, fresh)
    seconds = time.monotonic() - started
    yield "", f"tried in place, not installed: {changed}: all is well after {seconds:.1f} s"
    yield "", f"the verdict on its recipe is not touched; doit cluster:{cluster.name} installs it clean"


def _changed(known: Tried, layers: Mapping[str, Layer]) -> What:
    """The OPKGs of which a file is another one than the machines have, and the packages of another version."""
    found = known.pending
    for membership, layer in layers.items():
        had = known.shares[membership].last
        for path in sorted(layer.files.keys() | had.files.keys()):
            if layer.files.get(path) != had.files.get(path):
                found |= What(opkgs=(path.split("/")[1],))
        for name, version in sorted(layer.packages.items()):
            if had.packages.get(name) != version:
                found |= What(packages=(name,))
    return found


def _try(
    life: Lifecycle,
    known: Tried,
    layers: Mapping[str, Layer],
    changed: What,
    fresh: Mapping[str, Collection[str]],
) -> Iterator[Told]:
    """Bring it, have it heeded, look."""
    guest = flavours.of(life.cluster.guest)
    by = configured(life.run_dir)
    loads, left = {}, []
    for membership, share in known.shares.items():
        layer = layers[membership]
        # nodes get that over all else; on the head node those scripts run again
        overridden = {} if membership == "head" else by["compute"]
        target = Target(life, membership, share.installed, layer, overridden)
        reach = share.touched | differing.paths(share.installed.changes, layer.changes)
        own = {path: why for path in reach if (why := target.own(path))}
        left += [(membership, path, why) for path, why in own.items() if path in fresh[membership]]
        loads[membership] = Load(
            target,
            frozenset(reach - own.keys()),
            # a package's daemons are those of its units, changed or not
            services(
                changed.opkgs,
                layer.files,
                {*fresh[membership], *(layer.changes if changed.packages else ())},
                life.engine.recipes,
                guest,
            ),
        )
    for membership, path, why in left:
        yield "", f"/{path} of {membership} is left as it is: {why}"
    data = archive(loads.values(), guest)
    begun = Tried(
        {
            membership: dataclasses.replace(share, touched=share.touched | loads[membership].paths)
            for membership, share in known.shares.items()
        },
        known.what | changed,
        changed,
    )
    tried.write(life.run_dir, begun)
    yield from _on_machines(life, loads, changed.opkgs, fresh, data, again=bool(known.pending))
    tried.write(
        life.run_dir,
        dataclasses.replace(
            begun,
            pending=What(),
            shares={name: dataclasses.replace(share, last=layers[name]) for name, share in begun.shares.items()},
        ),
    )


def _on_machines(
    life: Lifecycle,
    loads: Mapping[str, Load],
    opkgs: Sequence[str],
    fresh: Mapping[str, Collection[str]],
    data: bytes,
    *,
    again: bool,
) -> Iterator[Told]:
    """All that is done on machines, and looked at; raises ClusterError where something is not well."""
    cluster, shell, patience = life.cluster, life.shell(), life.patience()
    on, guest = onmachine.of(life, shell), flavours.of(cluster.guest)
    begun = [_with_scripts(name, loads["head"]) for name in (*opkgs, *_overwritten(life, opkgs, fresh["head"]))]
    when_all_up = any(phase.name in one.scripts for phase in that_run("all up", "server") for one in begun)
    when_head_up = any(phase.name in one.scripts for phase in that_run("head up", "server") for one in begun)
    groups = {"head": [cluster.head]} | {
        membership: [node for node in cluster.nodes if node.membership == membership]
        for membership in cluster.members
        if fresh[membership]
    }
    found: dict[str, Facts] = {}

    def call(membership: str, steps: Sequence[str], data: bytes, *, look: bool) -> Iterator[Told]:
        """Functions on all machines of a membership, and a look at them where nothing more is to come."""
        function = " && ".join([*steps, *([shlex.join(["look_tried", membership])] if look else [])])
        if look:
            answers = on.tell(groups[membership], function, "a try", data)
            found.update({name: facts for name, (_, facts) in answers.items()})
            return _done([(name, line) for name, (lines, _) in answers.items() for line in lines])
        return _done(on.call(groups[membership], "", function, "a try", data))

    with shell.connected():
        for membership in groups:
            is_head = membership == "head"
            fetch = shlex.join(["fetch_tried", membership, cluster.head.address_on("private")])
            steps = [
                "receive_tried" if is_head else fetch,
                *_steps(loads[membership], fresh[membership], guest.at_boot),
            ]
            look = not when_all_up and not (is_head and when_head_up)
            yield from call(membership, steps, data if is_head else b"", look=look)
            if is_head and when_head_up and ((yield from head_phases(life, begun, "head up", shell)) or again):
                changing.tell_nodes(shell, life.runner.notes, patience=patience)
        if when_all_up:
            yield from head_phases(life, begun, "all up", shell)
        with threads(_LANES) as pool:
            tests = [pool.submit(run_tests, name, cluster.head.name, shell, patience=patience) for name in opkgs]
            for membership in groups:
                if groups[membership][0].name not in found:
                    yield from call(membership, [], b"", look=True)
            results = _judged(life, loads, found)
            yield from map(_told, results)
            for test in tests:
                results += test.result()
                yield from map(_told, test.result())
    _require_passed(life, results)


def _steps(load: Load, paths: Collection[str], at_boot: tuple[str, ...]) -> list[str]:
    """What is done on a machine of which these paths are to change."""
    heeds = load.services and any(not f"/{path}/".startswith(f"{PACKAGES}/") for path in paths)
    starts = any(path.startswith(at_boot) for path in paths)
    steps = [
        (starts, ["begin_starting"]),
        (True, ["bring_tried", load.target.membership]),
        (starts, ["start_tried"]),
        (heeds, ["heed_tried", load.target.membership]),
    ]
    return [shlex.join(words) for wanted, words in steps if wanted]


def _overwritten(life: Lifecycle, changed: Sequence[str], paths: Collection[str]) -> list[str]:
    """Other OPKGs whose phases on the running cluster have changed one of these paths of the head node: they are to do
    so again."""
    by = configured(life.run_dir)["head"]
    names = dict.fromkeys(by[path].rpartition(" of OPKG ")[2] for path in paths if path in by)
    return [name for name in names if name in life.cluster.opkgs and name not in changed]


def _with_scripts(opkg: str, load: Load) -> Added:
    files = load.target.layer.files
    return Added(opkg, "begun", scripts=tuple(one.name for one in PHASES if has_script(one.name, opkg, files)))


_WORDS = {"brought": "files brought", "removed": "files removed", "restarted": "restarted", "started": "started"}


def _done(lines: Sequence[Told]) -> Iterator[Told]:
    """What machines have said that they did, in a line for each kind of it."""
    found: dict[tuple[str, str], list[str]] = {}
    for machine, line in lines:
        word, _, what = line.partition(" ")
        found.setdefault((machine, _WORDS.get(word, word)), []).append(what)
    for (machine, word), whats in found.items():
        yield machine, f"{word}: {few(whats)}"


def _judged(life: Lifecycle, loads: Mapping[str, Load], found: Mapping[str, Facts]) -> list[Result]:
    """What the checks say of the machines that were looked at."""
    expected = Expected(
        {membership: {} for membership in loads},
        {membership: load.brought() for membership, load in loads.items()},
        flavours.of(life.cluster.guest),
        FAMILIES[life.made.family],
        configured(life.run_dir),
    )
    results: list[Result] = []
    for machine in life.cluster.machines:
        if machine.name in found:
            only = [name for name in CHECKS if loads[machine.membership].paths or not name.endswith("files")]
            results += judge(life.cluster, found[machine.name], expected, time.time(), only)
    return results


def _told(result: Result) -> Told:
    return result.machine, f"{result.name}: {result.outcome}" + (f": {result.message}" if result.message else "")


def _require_passed(life: Lifecycle, results: Sequence[Result]) -> None:
    """Raise ClusterError where a check or a test does not pass."""
    bad = [one for one in results if one.outcome != "passed"]
    if bad:
        text = "\n".join(f"{one.machine}: {one.name}: {one.message}\n{one.output}" for one in bad)
        raise ClusterError(
            f"{life.cluster.name}: tried in place, not installed: {len(bad)} of {len(results)} checks did not pass",
            tail="\n".join(f"{one.machine}: {one.name}: {one.message}" for one in bad),
            log=log(life.run_dir, "checks of a try", text),
            hint=f"the next doit try {life.cluster.name} does all of it once more; doit cluster:{life.cluster.name} "
            "installs it clean",
        )
