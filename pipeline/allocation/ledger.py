"""The ledger: which cluster has which lot on which host, in one file that all checkouts of an artifacts folder share.

    {"schema": 1, "lots": {"qemu+ssh://root@m/system": {"debian12": 0, "checkouts/other-1a2b3c4d/debian12": 1}}}

A cluster is named by where its checkout keeps what is its own, since every checkout may have a `debian12`.  What it has
been given stays its own as long as it has a recipe, or may run without.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.allocation import lots
from pipeline.errors import UserError
from pipeline.files import write_whole
from pipeline.locks import Busy, locked

_SCHEMA = 1
#: Seconds that others may take to read and write it.
_PATIENCE = 60


class Ledger:
    """That of an artifacts folder."""

    def __init__(self, artifacts: Path) -> None:
        self.file = artifacts / "locks" / "allocation.json"

    def give(
        self, wanted: Mapping[str, Iterable[str]], is_gone: Callable[[str], bool]
    ) -> Mapping[str, Mapping[str, int]]:
        """The lots of clusters, by host: those that they have, and new ones for those that have none.

        Only where new ones are given, lots go back: those of clusters that nobody will ever start again.
        """
        if not wanted:
            return {}
        known = self._read()
        if all(set(names) <= set(known.get(host, {})) for host, names in wanted.items()):
            return {host: {name: known[host][name] for name in names} for host, names in wanted.items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.file.with_name(".allocation.lock"), within=_PATIENCE):
                known = {
                    host: {name: lot for name, lot in taken.items() if not is_gone(name)}
                    for host, taken in self._read().items()
                }
                given = {host: lots.allocate(names, known.get(host, {}), host) for host, names in wanted.items()}
                after = {host: {**known.get(host, {}), **given.get(host, {})} for host in {*known, *given}}
                kept = {host: taken for host, taken in after.items() if taken}
                text = json.dumps({"schema": _SCHEMA, "lots": kept}, indent=1, sort_keys=True)
                write_whole(self.file, f"{text}\n".encode())
        except Busy:
            raise UserError(
                f"{self.file}: somebody else has been allocating for {_PATIENCE} s", hint="see what holds it up"
            ) from None
        return given

    def content(self) -> bytes | None:
        """All of it, to be compared; None where there is no ledger yet.  Raises UserError where it cannot be read."""
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._damaged(str(error.strerror)) from None

    def _read(self) -> dict[str, dict[str, int]]:
        """What has been given; nothing where there is no ledger yet."""
        content = self.content()
        if content is None:
            return {}
        try:
            data: Any = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._damaged(str(error)) from None
        if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
            raise self._damaged(f"it is no ledger of schema {_SCHEMA}")
        found = data.get("lots")
        if not isinstance(found, dict) or not all(map(_is_sound, found.values())):
            raise self._damaged("a lot stands there that is none, or twice")
        return found

    def _damaged(self, why: str) -> UserError:
        return UserError(
            f"{self.file}: {why}",
            hint="put back what it was; or stop all clusters on shared hosts and remove it: they are given MACs and "
            "subnets anew",
        )


def _is_sound(taken: object) -> bool:
    if not isinstance(taken, dict):
        return False
    numbers = list(taken.values())
    return all(type(lot) is int and 0 <= lot < lots.MOST for lot in numbers) and len({*numbers}) == len(numbers)
