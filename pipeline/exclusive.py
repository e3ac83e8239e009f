"""One run at a time: what two runs must not do at once is done under a lock, for which nobody waits."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ClusterError


@contextlib.contextmanager
def exclusive(lock: Path, busy: str, *, hint: str) -> Iterator[None]:
    """Within the block no other process is in one with the same lock file; raises ClusterError(`busy`) if one is.

    The lock ends with the process that holds it, however that ends.
    """
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(busy, hint=hint) from None
        yield
