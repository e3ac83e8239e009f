"""Debian's words between packages: the order of versions, relations, and what a package provides.

The rules are those of the policy manual (5.6.12 and 7); dpkg is held against them in the tests.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

_RELATION = re.compile(
    # what is taken is kept (+), so that no time goes into trying again
    r"\s*+(?P<name>[A-Za-z0-9][A-Za-z0-9+.-]*+)\s*+(?::\s*+(?P<architecture>[a-z0-9-]++))?"
    r"\s*+(?:\(?\s*+(?P<rel><<|<=|>=|>>|=|<|>)\s*+(?P<version>[A-Za-z0-9][A-Za-z0-9.+~:-]*+)\s*+\)?)?\s*+"
)
#: In recipes "less" means less.  (In control files, long ago, it meant "less or equal".)
_STRICT = {"<": "<<", ">": ">>"}

#: A number by its digits, however many there are.
Number = tuple[int, str]
Order = tuple[tuple[tuple[int, ...], Number], ...]


@dataclass(frozen=True, order=True)
class Relation:
    """A package, and which of its versions will do: `rel` is <<, <=, =, >=, >>, or "" where all do.

    `architecture` is what stands after a colon, "" where nothing does.
    """

    name: str
    rel: str = ""
    version: str = ""
    architecture: str = ""

    @classmethod
    def parse(cls, text: str) -> Relation | None:
        """ "name", "name>=1.2" or "name (>= 1.2)"; None where it is nothing of these."""
        match = _RELATION.fullmatch(text)
        if match is None:
            return None
        rel = match["rel"] or ""
        return cls(match["name"], _STRICT.get(rel, rel), match["version"] or "", match["architecture"] or "")

    def admits(self, version: str) -> bool:
        """Whether a version will do."""
        if not self.rel:
            return True
        order = compare(version, self.version)
        return {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[self.rel]

    def __str__(self) -> str:
        return f"{self.name} ({self.rel} {self.version})" if self.rel else self.name


def relations(field: str) -> list[list[Relation]]:
    """A field like `Depends`: all of the groups must be met, each by one of its alternatives."""
    groups = ([Relation.parse(text) for text in group.split("|")] for group in field.split(","))
    return [found for group in groups if (found := [item for item in group if item])]


def provides(field: str, need: Relation) -> bool:
    """Whether a field `Provides` meets a need; what is provided without a version meets only needs without one."""
    for item in (one for group in relations(field) for one in group):
        if item.name == need.name and (not need.rel or (item.rel == "=" and need.admits(item.version))):
            return True
    return False


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as version `one` is earlier than `other`, the same, or later."""
    left, right = _key(one), _key(other)
    return (left > right) - (left < right)


#: Sorts versions, the earliest first.
by_version = functools.cmp_to_key(compare)


@functools.lru_cache(4096)
def _key(version: str) -> tuple[Number, Order, Order]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return _number(epoch), _order(upstream), _order(revision)


def _order(part: str) -> Order:
    """Letters and digits in turn: `~` sorts before the end, the end before letters, letters before all else."""
    found = re.findall(r"([^0-9]*)([0-9]*)", part)
    pairs = [((*map(_rank, letters), 0), _number(digits)) for letters, digits in found]
    nothing = ((0,), _number(""))
    while len(pairs) > 1 and pairs[-1] == nothing:
        pairs.pop()
    return (*pairs, nothing)


def _number(digits: str) -> Number:
    plain = digits.lstrip("0")
    return len(plain), plain


def _rank(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256
