"""What a cluster's recipe says of machines is set by a command: where in the file that goes, and what it comes to."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import description
from pipeline.errors import ManifestError, NotNow
from pipeline.manifests import editing, loader
from pipeline.manifests.fields import mebibytes
from pipeline.manifests.recipes import Recipes
from pipeline.mistakes import Key, shown

#: Field of a machine in recipes -> what it is called when it is described.
FIELDS = {"memory": "memory_mib", "cpus": "cpus"}

Value = str | int
#: By key; None = it goes.
Changes = dict[Key, Value | None]


@dataclass(frozen=True)
class Draft:
    """A recipe as it would be: its file, the text as it was and would be, and the cluster before and after; nothing is
    written yet."""

    file: Path
    was: str
    text: str
    before: description.Cluster
    after: description.Cluster

    @property
    def is_other(self) -> bool:
        return self.text != self.was

    def write(self) -> None:
        """Raises NotNow where somebody has saved it meanwhile, in an editor perhaps."""
        if not self.is_other:
            return
        if editing.read(self.file) != self.was:
            raise NotNow(f"{shown(self.file)} was changed meanwhile: nothing is written", hint="the same once more")
        editing.write(self.file, self.text)


def draft(recipes: Recipes, cluster: str, machines: Collection[str], values: Mapping[str, Value]) -> Draft:
    """The recipe with these fields of these machines; raises ManifestError for what its checks refuse."""
    before = recipes.describe(cluster)
    file = recipes.file(cluster)
    text = editing.read(file)
    try:
        changes = _changes(recipes, cluster, before, tomllib.loads(text), machines, values)
        changed = edited(file, text, changes)
        after = recipes.describe(cluster, drafts={file: changed})
        # where the recipe that this one extends says something else of one machine, that has to be said of it here
        left: Changes = {
            ("machines", name, field): value
            for field, value in values.items()
            for name in machines
            if getattr(after.machine(name), FIELDS[field]) != described(value)
        }
        if left:
            changed = edited(file, changed, left)
            after = recipes.describe(cluster, drafts={file: changed})
    except ManifestError as error:
        error.hint = error.hint or "nothing was changed"
        raise
    return Draft(file, text, changed, before, after)


def extending(recipes: Recipes, cluster: str) -> list[str]:
    """The clusters that extend this one, directly or by others: what is changed here changes them as well."""
    bases: dict[str, Any] = {}
    for name in recipes.names("clusters"):
        with contextlib.suppress(ManifestError):
            bases[name] = loader.read(recipes.file(name)).data.get("extends")
    found = [cluster]
    for one in found:
        found += [name for name, base in bases.items() if base == one and name not in found]
    return sorted(found[1:])


def _changes(
    recipes: Recipes,
    cluster: str,
    before: description.Cluster,
    own: Mapping[str, Any],
    machines: Collection[str],
    values: Mapping[str, Value],
) -> Changes:
    """All machines of a membership together have it in its table, single ones in tables of their own."""
    manifest = recipes.cluster(cluster)
    places: list[tuple[Key, list[str]]] = [(("head",), [manifest.head.name])]
    for group in manifest.groups:
        place: Key = ("compute",) if group.membership == "compute" else ("memberships", group.membership)
        places.append((place, group.names()))
    found: Changes = {}
    for place, names in places:
        meant = [name for name in names if name in machines]
        for field, value in values.items():
            if all(getattr(before.machine(name), FIELDS[field]) == described(value) for name in meant):
                continue  # it is so already, wherever that is said
            single: Changes = {("machines", name, field): value for name in meant}
            if meant == names and (len(names) > 1 or place == ("head",)):
                found[(*place, field)] = value
                single = {key: None for key in single if field in own.get("machines", {}).get(key[1], {})}
            found |= single
    return found


def described(value: Value) -> int:
    """What a value in a recipe comes to; 0 for one that its checks refuse."""
    if isinstance(value, int):
        return value
    try:
        return mebibytes(value)
    except ValueError:
        return 0


def edited(file: Path, text: str, changes: Changes) -> str:
    try:
        return editing.edited(text, changes)
    except ValueError as error:
        raise editing.refused(file, error, changes) from None
