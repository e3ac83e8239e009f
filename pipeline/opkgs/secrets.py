"""The secrets that an OPKG declares: files with random bytes that all machines of a cluster share, as munge's key.

An OPKG's file `secrets` has a line for each, "PATH BYTES"; what follows a # is a comment.  The bytes are made once a
cluster and reach machines only when they start or are installed: no layer, image or report holds them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.description import Secret
from pipeline.layers import volatile
from pipeline.mistakes import Mistake, fail, quoted, shown

FILE = "secrets"

_PATH = re.compile(r"(/[A-Za-z0-9._+-]+){2,}")
_LEAST, _MOST = 16, 65536
#: What a machine is given besides: its keys, who may enter it, what it knows of the cluster, its settings.
_TAKEN = re.compile(
    r"/etc/((ssh|oscar)/.*|machine-id|hosts|hostname|fstab|passwd|shadow|group)"
    r"|/root/\.ssh/.*|/home/.*|/boot/.*"
)


def read(folder: Path) -> tuple[Secret, ...]:
    """What the OPKG in that folder declares; raises ManifestError with the line of each mistake."""
    file = folder / FILE
    if not file.is_file():
        return ()
    try:
        lines = file.read_text().splitlines()
    except (OSError, ValueError) as error:
        fail([Mistake(shown(file), 1, "", f"cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}")])
    found: dict[str, Secret] = {}
    mistakes: list[Mistake] = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        wrong = _wrong(words) or next(
            (
                f"{quoted(words[0])} and {quoted(other)}; expected files, none in another"
                for other in found
                if in_the_way(words[0], other)
            ),
            "",
        )
        if wrong:
            mistakes.append(Mistake(shown(file), number, "", wrong))
        else:
            found[words[0]] = Secret(words[0], int(words[1]))
    if mistakes:
        fail(mistakes)
    return tuple(found.values())


def in_the_way(one: str, other: str) -> bool:
    """Whether there cannot be files at both of these paths."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _wrong(words: list[str]) -> str:
    """What is wrong with a line, or ""."""
    path = words[0]
    if len(words) != 2 or not (words[1].isascii() and words[1].isdigit() and len(words[1]) < 9):
        return f'{quoted(" ".join(words))}; expected "PATH BYTES", as in "/etc/munge/munge.key 128"'
    if not _PATH.fullmatch(path) or os.path.normpath(path) != path:
        return f"{quoted(path)} is no path of a file on the machines; expected one like /etc/munge/munge.key"
    if not _LEAST <= int(words[1]) <= _MOST:
        return f"{quoted(words[1])} bytes; expected {_LEAST} to {_MOST}"
    if _TAKEN.fullmatch(path) or volatile.SCRATCH.fullmatch(path[1:]):
        return f"{quoted(path)} is made for each machine, or emptied when it starts; expected another path"
    return ""
