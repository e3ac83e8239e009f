"""Nodes come to a cluster's recipe and leave it by a command: where in the file that goes, and what it comes to.

Machines of a membership are numbered from 1, without holes, and what they are called and where they are counts from
their number.  So the last ones can leave, and those that come are behind them: all others keep what they have.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from pipeline import description
from pipeline.errors import ManifestError
from pipeline.manifests import editing, setting
from pipeline.manifests.membership import Group
from pipeline.manifests.recipes import Recipes
from pipeline.manifests.setting import Changes, Draft, Value
from pipeline.mistakes import Key, shown


def more(
    recipes: Recipes, cluster: str, membership: str, count: int, values: Mapping[str, Value], lot: int = 0
) -> Draft:
    """The recipe with that many more machines of a membership, which have these fields; raises ManifestError for what
    its checks refuse.  One without that membership gets it."""
    if membership == "head":
        raise ManifestError(f"{cluster} has its head node", hint="a cluster of its own: doit cluster add NAME")
    before = recipes.describe(cluster, lot)
    values = dict(values)
    mac = values.pop("mac", None)  # which no membership has: it is one machine's
    groups = {group.membership: group for group in recipes.cluster(cluster).groups}
    if membership not in groups:
        place = _place(membership)
        changes: Changes = {(*place, "count"): count, **{(*place, field): value for field, value in values.items()}}
        if mac is not None:
            changes[("machines", f"{membership}1", "mac")] = mac
        return _draft(recipes, before, lot, changes)
    group = groups[membership]
    changes = {(*_place(membership), "count"): group.table.count + count}
    plain = _draft(recipes, before, lot, changes)  # which says what they have without that
    has = {one.name: one for one in plain.after.machines}
    for name in _numbered(group, count):
        for field, value in values.items():
            if getattr(has[name], setting.FIELDS[field]) != setting.described(value):
                changes[("machines", name, field)] = value
        if mac is not None:
            changes[("machines", name, "mac")] = mac
    return _draft(recipes, before, lot, changes)


def fewer(recipes: Recipes, cluster: str, machines: Collection[str]) -> Draft:
    """The recipe without these machines, and without what it says of them alone; raises ManifestError where others
    would be called otherwise, or what is left is refused."""
    before = recipes.describe(cluster)
    changes: Changes = {}
    tables: list[Key] = []
    for group in recipes.cluster(cluster).groups:
        names, place = group.names(), _place(group.membership)
        going = [name for name in names if name in machines]
        left = names[: len(names) - len(going)]
        if going and going != names[len(left) :]:
            raise ManifestError(
                f"{shown(recipes.file(cluster))}: {going[0]} is not the last of its membership, and those behind it "
                "would be called otherwise",
                hint=f"the last ones are {' '.join(names[names.index(going[0]) :])}; what is on one disk goes, and the "
                f"name stays, by doit vm install {cluster} {going[0]}",
            )
        if not going:
            continue
        tables += [(*kind, name) for name in going for kind in (("machines",), ("xen", "machines"))]
        if left or group.membership == "compute" or not _has(recipes, cluster, place):
            changes[(*place, "count")] = len(left)
        else:
            tables.append(place)
    return _draft(recipes, before, 0, changes, tables)


def _draft(
    recipes: Recipes, before: description.Cluster, lot: int, changes: Changes, tables: Collection[Key] = ()
) -> Draft:
    """The recipe with these changes and without these tables, if neither it nor one that extends it gives a machine
    that is there already anything else."""
    cluster = before.name
    file = recipes.file(cluster)
    text = editing.read(file)
    try:
        changed = setting.edited(file, text, changes)
        for table in tables:
            if _has(recipes, cluster, table):
                changed = _without(file, changed, table)
        for name in (cluster, *setting.extending(recipes, cluster)):
            _require_same(recipes, name, file, changed)
        after = recipes.describe(cluster, lot, drafts={file: changed})
    except ManifestError as error:
        error.hint = error.hint or "nothing was changed"
        raise
    return Draft(file, text, changed, before, after)


def _require_same(recipes: Recipes, cluster: str, file: Path, changed: str) -> None:
    """Raise ManifestError where a machine that stays would be another one."""
    try:
        before = {machine.name: machine for machine in recipes.describe(cluster).machines}
    except ManifestError:  # it is broken already
        return
    for machine in recipes.describe(cluster, drafts={file: changed}).machines:
        if machine.name in before and machine != before[machine.name]:
            raise ManifestError(
                f"{shown(recipes.file(cluster))}: {machine.name} would have another address or MAC, which count from "
                "the order of memberships",
                hint=f"say first_node in the table of each membership, as {before[machine.name].address_on('private')} "
                f"for {machine.name}",
            )


def _without(file: Path, text: str, table: Key) -> str:
    try:
        return editing.without(text, table)
    except ValueError as error:
        raise editing.refused(file, error, {}) from None


def _has(recipes: Recipes, cluster: str, table: Key) -> bool:
    """Whether that table stands in the file itself, and not in one that it extends."""
    found = tomllib.loads(editing.read(recipes.file(cluster)))
    for part in table:
        if str(part) not in found:
            return False
        found = found[str(part)]
    return True


def _place(membership: str) -> Key:
    return ("compute",) if membership == "compute" else ("memberships", membership)


def _numbered(group: Group, count: int) -> list[str]:
    """What the next ones are called."""
    return [f"{group.prefix}{group.table.count + number}" for number in range(1, count + 1)]
