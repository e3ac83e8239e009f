"""What all that uses ssh shares: its options, a place for shared connections, and why one broke."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import Unreachable

#: The least at which ssh says why a connection broke.
LOG_LEVEL = "LogLevel=INFO"

#: What ssh says when something else arrives than was sent: on Xen in QEMU 7.2 the sign of an emulated processor that
#: computes wrongly, as it was seen to do with AVX or XSAVE.
_CORRUPT = ("Corrupted MAC", "message authentication code incorrect", "Bad packet length", "Corrupted padding")
#: Characters of a folder's name up to which ssh can use a socket in it: a name has 107 at most, and ssh adds some.
_SOCKET_FOLDER = 60


def option(name: str, path: str | Path) -> str:
    """An option of ssh's that is a path, as ssh reads it: spaces part paths, and % stands for something else."""
    quoted = re.sub(r'(["\\])', r"\\\1", str(path)).replace("%", "%%")
    return f'{name}="{quoted}"'


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder for the socket of a shared connection, which nobody else can prepare, and whose name is short."""
    usual = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(prefix="xen-oscar-", dir=usual if len(usual) < _SOCKET_FOLDER else "/tmp") as name:
        yield Path(name)


def broken(machine: str, what: str, words: str, *, hint: str, log: Path | None = None) -> Unreachable:
    """The error for a connection that broke (exit status 255), from what ssh said about it."""
    if any(sign in words for sign in _CORRUPT):
        what = "what comes from it is corrupt; nothing that was made there can be trusted"
        hint = "start it anew; if that happens again, its processor or memory is not sound"
    return Unreachable(f"{machine}: {what}", tail="\n".join(words.strip().splitlines()[-12:]), hint=hint, log=log)
