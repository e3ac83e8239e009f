"""`doit run` (and plain `doit TASK`): doit's own command, made fit for a person at a terminal.

- `--json` shows one JSON object a line, `--fresh` verifies anew although a verdict is known, `--yes` answers whatever
  would be asked; they may stand anywhere.
- A UserError is shown as its message and its hint, wherever it comes from; a traceback means a bug.
- Ctrl-C, SIGTERM and a closed terminal end every process that was started, wait until the tasks have cleaned up, and
  leave a state from which the next run goes on.

Tasks run in threads.  doit keeps only the text of their exceptions and abandons the threads on an interrupt, so each
action is wrapped in a `Watch`, which knows what runs and keeps the exception itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import doit.doit_cmd
from doit.action import PythonAction
from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand, TaskError, TaskFailed

from pipeline.errors import ManifestError, UserError
from pipeline.run import end_all
from pipeline.views import error_fields, write_json

#: How long interrupted tasks may take to clean up, in seconds, and after which part of that they are pushed.
_PATIENCE = 30.0
_PUSH_AFTER = 2.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UserFailed(TaskFailed):
    """A task ended with a UserError."""

    def __init__(self, error: UserError) -> None:
        super().__init__(error.message)
        self.error = error


class BugFound(TaskError):
    """A task ended with any other exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Watch:
    """Runs actions, keeps their exceptions, and knows which of them are still at it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: dict[int, str] = {}  # by thread
        self._ended = False

    def wrap(self, task: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """`action` with its exceptions turned into doit's failures, which carry them."""

        @functools.wraps(action)    # doit looks at the signature
        def watched(*args: Any, **kwargs: Any) -> Any:
            thread = threading.get_ident()
            with self._changed:
                if self._ended:
                    return UserFailed(UserError("not started: the run was interrupted"))
                self._running[thread] = task
            try:
                return action(*args, **kwargs)
            except UserError as error:
                return UserFailed(error)
            except Exception as error:
                return BugFound(error)
            finally:
                with self._changed:
                    del self._running[thread]
                    self._changed.notify_all()

        return watched

    def end(self) -> list[str]:
        """End all processes and wait for the actions to clean up; the names of those that do not."""
        begin = time.monotonic()
        pushed = False
        with self._changed:
            self._ended = True
        while True:
            end_all()
            with self._changed:
                waited = time.monotonic() - begin
                if not self._running or waited > _PATIENCE:
                    return sorted(self._running.values())
                if waited > _PUSH_AFTER and not pushed:
                    pushed = True   # one that waits for a machine, say, has no process to lose
                    for thread in self._running:
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(
                            ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
                self._changed.wait(0.2)


class Run(DoitRun):
    """doit's `run` with `--json`, `--fresh`, `--yes`, readable errors and an orderly end."""

    name = "run"
    doc_purpose = "run tasks: doit cluster:debian12"
    cmd_options = (
        *DoitRun.cmd_options,
        {"name": "json", "short": "", "long": "json", "type": bool, "default": False,
         "help": "show one JSON object a line"},
        {"name": "fresh", "short": "", "long": "fresh", "type": bool, "default": False,
         "help": "verify anew, although a verdict on the same digests is known"},
        {"name": "yes", "short": "", "long": "yes", "type": bool, "default": False,
         "help": "give up the memory of saved machines where a cluster is made anew, without being asked"},
    )

    def parse_execute(self, in_args: list[str]) -> int:
        """Take our own options from wherever they stand; doit wants options before tasks."""
        ours = [word for word in in_args if word in ("--json", "--fresh", "--yes")]
        return int(super().parse_execute([*ours, *(word for word in in_args if word not in ours)]))

    def execute(self, params: Any, args: list[str]) -> int:
        self._watch = Watch()
        if params["json"]:
            params["reporter"] = "events"
        for name in ("fresh", "yes"):
            if params[name]:
                doit.doit_cmd.set_var(name, "1")     # tasks ask doit.get_var("fresh")
        try:
            with _signals_interrupt():
                return int(super().execute(params, args))
        except UserError as error:
            _show(error, as_json=params["json"])
            return 1
        except InvalidCommand as error:
            unknown = self._unknown(error)
            _show(unknown, as_json=params["json"])
            return 1 if isinstance(unknown, ManifestError) else 3
        except _Interrupted as interrupt:
            left = self._watch.end()
            _show(UserError(
                f"ended by {interrupt.signal.name}",
                hint=(f"still running: {', '.join(left)}" if left else
                      "nothing half-made was kept; the same command goes on from here")), as_json=params["json"])
            return 128 + interrupt.signal

    def _execute(self, outfile: Any, verbosity: Any = None, always: bool = False, continue_: bool = False,
                 reporter: Any = "live", num_process: int = 0, par_type: str = "thread", single: bool = False,
                 auto_delayed_regex: bool = False, force_verbosity: bool = False, failure_verbosity: int = 0,
                 pdb: bool = False) -> int:
        """Put every action under watch.  doit reads the names of these parameters."""
        for task in self.task_list:
            # doit captures output by exchanging sys.stdout, which threads would do to each other
            task.io.capture = False
            for action in task.actions:
                if isinstance(action, PythonAction) and not pdb:
                    action.py_callable = self._watch.wrap(task.name, action.py_callable)
        return int(super()._execute(
            outfile, 0 if verbosity is None else verbosity, always, continue_, reporter, num_process, par_type, single,
            auto_delayed_regex, force_verbosity, failure_verbosity, pdb))

    def _unknown(self, error: InvalidCommand) -> UserError:
        """A word that is no task: what is broken in its recipe, or the nearest words that are tasks."""
        if error.not_found is None:
            return UserError(str(error))
        recipe = error.not_found.partition(":")[2].partition("/")[0]
        for task in self.task_list:
            if task.meta and task.name.partition(":")[2] == recipe:
                return ManifestError(task.meta["broken"])
        near = difflib.get_close_matches(error.not_found, [task.name for task in self.task_list], cutoff=0.5)
        return UserError(f"there is no task {error.not_found!r}",
                         hint=f"did you mean {' or '.join(near)}?" if near else "`doit list --all` names every task")


class _Interrupted(KeyboardInterrupt):
    """A signal asked the run to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Within the block the first signal raises; later ones must not disturb the cleaning up."""
    def interrupt(number: int, frame: FrameType | None) -> None:
        for item in _SIGNALS:
            signal.signal(item, signal.SIG_IGN)
        raise _Interrupted(number)

    heeded = [item for item in _SIGNALS if signal.getsignal(item) is not signal.SIG_IGN]     # nohup ignores SIGHUP
    before = {item: signal.signal(item, interrupt) for item in heeded}
    try:
        yield
    except _Interrupted:
        raise   # and keep ignoring signals: the cleaning up comes after this block
    except BaseException:
        _restore(before)
        raise
    _restore(before)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for item, handler in handlers.items():
        signal.signal(item, handler)


def _show(error: UserError, *, as_json: bool) -> None:
    if as_json:
        write_json(sys.stdout, "error", **error_fields(error))
        return
    with contextlib.suppress(BrokenPipeError, OSError):     # a terminal that was closed
        os.write(2, f"{error.render()}\n".encode())
