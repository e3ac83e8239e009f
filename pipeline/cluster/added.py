"""OPKGs that have come to a cluster while it ran: which, how far they got, and what that has changed on its machines.

It is written down in the run folder, which the next boot takes away with the machines.  `added.json` has the OPKGs,
`changed/MACHINE` is what stands on a machine where OPKGs that came or went have changed it, as they left it: it is held
against that, path by path, and nothing of it is passed over.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline import listing
from pipeline.cluster import tried
from pipeline.files import write_whole
from pipeline.inventory import Changes

_FILE, _TREES = "added.json", "changed"

#: `begun`: not all was done that makes it whole.  `leaving`: not all was done that takes it away.  `gone`: it was.
State = Literal["begun", "whole", "leaving", "gone"]

_WORDS: Mapping[State, str] = {
    "begun": "not wholly installed",
    "whole": "added while it ran",
    "leaving": "not wholly removed",
    "gone": "added while it ran, and removed",
}


@dataclass(frozen=True)
class Added:
    """One OPKG.

    `chains` are the OPKGs that it needs, each with how it comes to need it: itself first.  `packages` are those that it
    needs besides the recipe's, by membership: name -> version.  `scripts` are its phases that have one, `machines`
    are those that have it.
    """

    name: str
    state: State
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    packages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()

    def files(self) -> set[str]:
        """Its scripts, as paths below the folder of all recipes."""
        return {f"opkgs/{self.name}/scripts/{phase}" for phase in self.scripts}


class Notes:
    """Those of one cluster."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def all(self) -> dict[str, Added]:
        """Every OPKG that came, by name, in their order; also those that have gone again."""
        try:
            found = json.loads((self._run_dir / _FILE).read_bytes())
        except FileNotFoundError:
            return {}
        return {record["name"]: _added(record) for record in found}

    def there(self) -> dict[str, Added]:
        """Those that have not gone again."""
        return {name: one for name, one in self.all().items() if one.state != "gone"}

    def put(self, one: Added) -> None:
        """Note what became of an OPKG; one that had gone comes after those that stayed."""
        known = self.all()
        if one.name in known and known[one.name].state == "gone":
            del known[one.name]
        self._write({**known, one.name: one})

    def forget(self, machine: str) -> None:
        """A machine is made anew, of what the recipe says."""
        self._tree(machine).unlink(missing_ok=True)
        known = self.all()
        if any(machine in one.machines for one in known.values()):
            self._write(
                {
                    name: dataclasses.replace(one, machines=tuple(each for each in one.machines if each != machine))
                    for name, one in known.items()
                }
            )

    def changed(self, machine: str) -> Changes:
        """What stands on a machine where it was changed."""
        try:
            return listing.load(self._tree(machine).read_text())
        except FileNotFoundError:
            return {}

    def put_changed(self, machine: str, changes: Changes) -> None:
        """Note what stands there by now, besides what was noted before."""
        write_whole(self._tree(machine), listing.dump({**self.changed(machine), **changes}).encode())

    def packages(self, machine: str, membership: str) -> dict[str, str]:
        """What OPKGs have brought to a machine: name -> version."""
        return {
            name: version
            for one in self.there().values()
            if machine in one.machines
            for name, version in one.packages.get(membership, {}).items()
        }

    def told(self, machines: Iterable[str]) -> str:
        """How the cluster differs from its recipe, in words, also by what was tried; "" where it does not."""
        names: dict[str, list[str]] = {}
        for one in self.all().values():
            lacking = [name for name in machines if name not in one.machines] if one.state == "whole" else []
            words = _WORDS[one.state] + (f", and not on {', '.join(lacking)}" if lacking else "")
            names.setdefault(words, []).append(one.name)
        told = [f"OPKG {', '.join(each)}: {words}" for words, each in names.items()]
        return "; ".join(filter(None, [*told, tried.told(self._run_dir)]))

    def _tree(self, machine: str) -> Path:
        return self._run_dir / _TREES / machine

    def _write(self, known: Mapping[str, Added]) -> None:
        text = json.dumps([dataclasses.asdict(one) for one in known.values()], indent=1)
        write_whole(self._run_dir / _FILE, f"{text}\n".encode())


def _added(record: dict[str, Any]) -> Added:
    return Added(
        record["name"],
        record["state"],
        {name: tuple(chain) for name, chain in record["chains"].items()},
        record["packages"],
        tuple(record["scripts"]),
        tuple(record["machines"]),
    )
