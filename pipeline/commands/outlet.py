"""Where a run tells what happens.  That may go away while the run goes on: a pipe's reader, a terminal, room on a disk.

Then nothing is told any more, nobody who wants to tell something gets an error for it, and the run is asked to end, as
by a terminal that is closed; under nohup it goes on.
"""

from __future__ import annotations

import signal
import threading
from typing import Any, TextIO

from pipeline.commands.ending import hush


class Outlet:
    """A text stream that never fails; `loss` is why nothing is written to it any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.loss: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if self.loss is None:
            self.loss = error
            hush(self._stream)
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGHUP)

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's own: whether it is a terminal, its encoding."""
        return getattr(self._stream, name)
