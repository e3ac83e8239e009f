"""Names of machines as people type several at once: `node[1-3,7]` as the field's tools have it (pdsh, ClusterShell),
`node*` as shells do."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence

from pipeline.errors import NotThere, WrongUse
from pipeline.mistakes import no_such

_RANGE = re.compile(r"(.*?)\[([^\[\]]*)\](.*)", re.DOTALL)
_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
#: Numbers that one bracket may stand for.
_MOST = 100_000


def expand(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """The machines meant, each once, in the order of `known`; raises NotThere for a word that is none of them, and
    WrongUse for one that is no pattern."""
    meant = set()
    for word in words:
        for name in _expand(word):
            found = fnmatch.filter(known, name) if set("*?") & set(name) else [name] if name in known else []
            if not found:
                raise (
                    no_such("machine", name, known)
                    if name == word
                    else NotThere(
                        f"there is no machine {name!r}, which {word} stands for", hint=f"there are: {', '.join(known)}"
                    )
                )
            meant.update(found)
    return [name for name in known if name in meant]


def _expand(word: str) -> Iterator[str]:
    """What a word with ranges stands for."""
    found = _RANGE.fullmatch(word)
    if found is None:
        if set("[]") & set(word):
            raise WrongUse(f"{word!r} is no pattern: a bracket is missing", hint="expected one like node[1-3,7]")
        yield word
        return
    before, ranges, after = found.groups()
    count = 0
    for part in ranges.split(","):
        limits = _PART.fullmatch(part)
        if limits is None:
            raise WrongUse(f"{word!r} is no pattern: {part!r} is no range", hint="expected one like node[1-3,7]")
        first, last = limits[1], limits[2] or limits[1]
        count += int(last) - int(first) + 1
        if int(last) < int(first) or count > _MOST:
            raise WrongUse(f"{word!r} is no pattern: {part!r} is no range from a number to a larger one, or too long")
        for number in range(int(first), int(last) + 1):
            for rest in _expand(after):
                yield f"{before}{number:0{len(first)}}{rest}"
