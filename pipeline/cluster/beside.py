"""Threads that do the same on several machines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor


@contextlib.contextmanager
def threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Threads, which have ended when the block is left; but whoever is interrupted does not wait for them: then their
    processes are ended, and they with these."""
    pool = ThreadPoolExecutor(number)
    wait = True
    try:
        yield pool
    except KeyboardInterrupt:
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=not wait)
