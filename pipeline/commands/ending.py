"""How every command ends: with a result, with words for a person, or by a signal; a traceback is a bug.

- A signal that asks to end (Ctrl-C, SIGTERM, a closed terminal) ends what the command has started; the exit status is
  128 and its number, as a shell has it.  Further ones do no harm.
- Whoever reads the output may stop reading: what only shows something has then shown enough.
- Errors of the operating system that a person can put right are told as such.
"""

from __future__ import annotations

import contextlib
import difflib
import getopt
import os
import re
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO

from doit.cmd_base import Command
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

from pipeline.errors import ManifestError, NotThere, UserError, WrongUse
from pipeline.run import end_all

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


class Orderly(Command):
    """A command that ends as described above; a subclass does its work in `obey`."""

    def obey(self, words: list[str]) -> int:
        """Do what the command line says, but for the command's name; the result is the exit status."""
        raise NotImplementedError

    def parse_execute(self, in_args: list[str]) -> int:
        """What doit calls."""
        status = self._obeyed(in_args)
        return status or self._output_lost() or 0

    def _output_lost(self) -> int | None:
        """The exit status if nothing more can be written to standard output, which is told where that is news."""
        try:
            sys.stdout.flush()
            return None
        except OSError as error:
            gone = is_gone(sys.stdout)
            hush(sys.stdout)
            if not gone:
                self.tell(UserError(f"the output could not be written: {error.strerror}"))
            return 0 if gone else 1

    def _obeyed(self, words: list[str]) -> int:
        try:
            with _signals_interrupt():
                return self.obey(words)
        except Interrupted as interrupt:
            return self.interrupted(interrupt.signal)
        except (CmdParseError, InvalidCommand, InvalidDodoFile, InvalidTask) as error:
            told = self.misunderstood(error)
            self.tell(told)
            return told.status
        except Exception as error:
            if isinstance(error, BrokenPipeError) and is_gone(sys.stdout):
                return 0  # whoever read it has seen enough
            lost = self._output_lost() if isinstance(error, OSError) and error.filename is None else None
            if lost is not None:
                return lost
            from pipeline import trouble

            explained = trouble.explain(error, trouble.usual_places())
            if explained is None:
                traceback.print_exc()
                return 1
            self.tell(explained)
            return explained.status

    def interrupted(self, number: signal.Signals) -> int:
        """End what the command has started."""
        end_all()
        self.tell(UserError(f"ended by {number.name}"))
        return 128 + number

    def misunderstood(self, error: Exception) -> UserError:
        """The error for a command line that means nothing."""
        return WrongUse(str(error).strip())

    def tell(self, error: UserError) -> None:
        """Show an error to whoever has called the command, if anybody still listens."""
        try:
            print(error.render(), file=sys.stderr, flush=True)
        except OSError:
            hush(sys.stderr)


class OrderlyDoit(Orderly):
    """One of doit's own commands: its options may stand anywhere, and every word means something."""

    task_list: list[Any]

    def obey(self, words: list[str]) -> int:
        return int(Command.parse_execute(self, self._arranged(words)) or 0)

    def _arranged(self, words: list[str]) -> list[str]:
        """Options before all else, where doit wants them."""
        known = self.cmdparser
        try:
            options, rest = getopt.gnu_getopt(words, known.get_short(), known.get_long())
        except getopt.GetoptError as error:
            raise InvalidCommand(f"doit {self.name}: {error.msg}") from None
        if "" in rest:  # over which doit itself stumbles
            raise InvalidCommand(not_found="")
        arranged = []
        for option, value in options:
            if known.get_option(option)[0].type is bool:
                arranged.append(option)
            else:
                arranged += [f"{option}={value}"] if option.startswith("--") else [option, value]
        return [*arranged, "--", *rest]

    def misunderstood(self, error: Exception) -> UserError:
        """With the words that may have been meant."""
        word = getattr(error, "not_found", None)
        if word is None:
            said = re.fullmatch(r"'(.*)' is not a task\.", str(error), re.DOTALL)
            if said is None:
                return WrongUse(str(error).strip(), hint=f"doit help {self.name} tells what it takes")
            word = said[1]
        return self.no_task(word)

    def no_task(self, word: str) -> UserError:
        """The error for a word that is no task: what is broken in its recipe, or the nearest words that are tasks."""
        if word in self.loader.cmd_names:
            return NotThere(f"there is no task {word!r}", hint=f"a command comes first: doit {word} ...")
        tasks = getattr(self, "task_list", ())
        recipe = word.partition(":")[2].partition("/")[0]
        for task in tasks:
            if task.meta and task.name.partition(":")[2] == recipe:
                return ManifestError(task.meta["broken"])
        names = [task.name for task in tasks]
        near = difflib.get_close_matches(word, names, cutoff=0.5)
        return NotThere(
            f"there is no task {word!r}",
            hint=f"did you mean {' or '.join(near)}?" if near else "`doit list --all` names every task",
        )


def is_gone(stream: TextIO) -> bool:
    """Whether nobody reads any more what is written to `stream`."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return bool(poll.poll(0))


def hush(stream: TextIO) -> None:
    """Let everything that is still written to `stream`, or is in its buffer, go nowhere."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Within the block the first signal raises; later ones must not disturb the cleaning up.

    They are heard and not heeded, rather than ignored: what is started while cleaning up would ignore them too.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for item in heeded:
            signal.signal(item, _not_again)
        raise Interrupted(number)

    heeded = [item for item in _SIGNALS if signal.getsignal(item) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {item: signal.signal(item, interrupt) for item in heeded}
    try:
        yield
    except Interrupted:
        raise  # the cleaning up comes after this block
    except BaseException:
        _restore(before)
        raise
    _restore(before)


def _not_again(number: int, frame: FrameType | None) -> None:
    """A signal after the first."""


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for item, handler in handlers.items():
        signal.signal(item, handler)
