"""`doit run` (and plain `doit TASK`): doit's own command, made fit for a person at a terminal.

- `--json` shows one JSON object a line, `--fresh` verifies anew although a verdict is known, `--yes` answers whatever
  would be asked, `--mirror NAME=WHERE` says where a distribution's packages are; they may stand anywhere.
- A UserError is shown as its message and its hint, wherever it comes from; a traceback means a bug.
- Ctrl-C, SIGTERM, a closed terminal and an output that nobody reads any more end every process that was started, wait
  until the tasks have cleaned up, and leave a state from which the next run goes on.

Tasks run in threads.  doit keeps only the text of their exceptions and abandons the threads on an interrupt, so each
action is wrapped in a `Watch`, which knows what runs and keeps the exception itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fnmatch
import functools
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import doit.doit_cmd
from doit.action import PythonAction
from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand, TaskError, TaskFailed

from pipeline import events, planned
from pipeline.commands.ending import OrderlyDoit, hush
from pipeline.commands.outlet import Outlet
from pipeline.errors import UserError
from pipeline.packages import given
from pipeline.run import cleans_up, end_all
from pipeline.views.jsonlines import error_fields, write_json

#: How long interrupted tasks may take to clean up, in seconds, and after which part of that they are pushed.
_PATIENCE = 60.0
_PUSH_AFTER = 2.0


def run_tasks(*words: str) -> int:
    """Run tasks within another command, as `doit WORDS` does, and return its exit status.  It tells all on standard
    error: the other's answer is elsewhere."""
    events.subscribe(lambda _: None)()  # what was to be told of the recipes is told by this run
    with contextlib.redirect_stdout(sys.__stderr__):
        return int(doit.doit_cmd.DoitMain().run(["run", *words]))


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
        self.status = 0
        """The exit status that the failures so far call for."""
        self._changed = threading.Condition()
        self._running: dict[int, str] = {}  # by thread
        self._ended = False

    def wrap(self, task: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """`action` with its exceptions turned into doit's failures, which carry them."""

        @functools.wraps(action)  # doit looks at the signature
        def watched(*args: Any, **kwargs: Any) -> Any:
            thread = threading.get_ident()
            with self._changed:
                if self._ended:
                    return UserFailed(UserError("not started: the run was interrupted"))
                self._running[thread] = task
            try:
                return action(*args, **kwargs)
            except Exception as error:
                from pipeline import trouble

                explained = trouble.explain(error, trouble.usual_places())
                with self._changed:
                    self.status = max(self.status, explained.status if explained else 1)
                return UserFailed(explained) if explained else BugFound(error)
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
                    pushed = True  # one that waits for a machine, say, has no process to lose
                    for thread in self._running:
                        if not cleans_up(thread):
                            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                                ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
                            )
                self._changed.wait(0.2)


def _prepare_workers() -> None:
    from pipeline import workers  # only where something may be built

    workers.prepare()


class Run(OrderlyDoit, DoitRun):
    """doit's `run` with `--json`, `--fresh`, `--yes`, readable errors and an orderly end."""

    name = "run"
    doc_purpose = "run tasks: doit cluster:debian12"
    cmd_options = (
        *DoitRun.cmd_options,
        {
            "name": "json",
            "short": "",
            "long": "json",
            "type": bool,
            "default": False,
            "help": "show one JSON object a line",
        },
        {
            "name": "fresh",
            "short": "",
            "long": "fresh",
            "type": bool,
            "default": False,
            "help": "verify anew, although a verdict on the same digests is known",
        },
        {
            "name": "yes",
            "short": "",
            "long": "yes",
            "type": bool,
            "default": False,
            "help": "give up the memory of saved machines where a cluster is made anew, without being asked",
        },
        {
            "name": "mirror",
            "short": "",
            "long": "mirror",
            "type": list,
            "default": [],
            "help": "NAME=FOLDER_OR_URL: where the packages of a distribution are (as often as there are places)",
        },
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._watch = Watch()
        self._as_json = False
        self._left: list[str] = []
        self._outlet = Outlet(sys.stdout)
        planned.beside(_prepare_workers)

    def execute(self, params: Any, args: list[str]) -> int:
        self._as_json = params["json"]
        if params["json"]:
            params["reporter"] = "events"
        for name in ("fresh", "yes"):
            if params[name]:
                doit.doit_cmd.set_var(name, "1")  # tasks ask doit.get_var("fresh")
        try:
            failed = bool(super().execute(params, args))  # doit has statuses of its own
            return max(self._watch.status, 1) if failed else 0
        finally:
            self._left = self._watch.end()

    def _execute(
        self,
        outfile: Any,
        verbosity: Any = None,
        always: bool = False,
        continue_: bool = False,
        reporter: Any = "live",
        num_process: int = 0,
        par_type: str = "thread",
        single: bool = False,
        auto_delayed_regex: bool = False,
        force_verbosity: bool = False,
        failure_verbosity: int = 0,
        pdb: bool = False,
        mirror: Sequence[str] = (),
    ) -> int:
        """Put every action under watch, and the output.  doit reads the names of these parameters."""
        self._require_tasks()
        indexes = [task.name for task in self.task_list if task.name.startswith("index:")]
        given.take(mirror, [name.removeprefix("index:") for name in indexes])
        for task in self.task_list:
            # doit captures output by exchanging sys.stdout, which threads would do to each other
            task.io.capture = False
            for action in task.actions:
                if isinstance(action, PythonAction) and not pdb:
                    action.py_callable = self._watch.wrap(task.name, action.py_callable)
        with contextlib.ExitStack() as stack:
            if isinstance(outfile, str):
                self._outlet = Outlet(stack.enter_context(open(outfile, "w", encoding="utf-8")))
            return int(
                super()._execute(
                    self._outlet,
                    0 if verbosity is None else verbosity,
                    always,
                    continue_,
                    reporter,
                    num_process,
                    par_type,
                    single,
                    auto_delayed_regex,
                    force_verbosity,
                    failure_verbosity,
                    pdb,
                )
            )

    def _require_tasks(self) -> None:
        """Raise for a word that fits no task, before anything is run; doit finds out all but these."""
        names = [task.name for task in self.task_list]
        for word in self.sel_tasks or ():
            if word.startswith("-") or ("*" in word and not fnmatch.filter(names, word)):
                raise InvalidCommand(not_found=word)

    def interrupted(self, number: signal.Signals) -> int:
        """What a signal has ended was ended when the tasks were; a lost output is one as well."""
        what, status = f"ended by {number.name}", 128 + number
        if isinstance(self._outlet.loss, BrokenPipeError):
            what, status = "ended: nobody reads what it tells", 128 + signal.SIGPIPE
        elif self._outlet.loss is not None and self._outlet.loss.errno != errno.EIO:  # which a closed terminal gives
            what, status = f"ended: what it tells could not be written: {self._outlet.loss.strerror}", 1
        self.tell(
            UserError(
                what,
                hint=f"still running: {', '.join(self._left)}"
                if self._left
                else "nothing half-made was kept; the same command goes on from here",
            )
        )
        return status

    def tell(self, error: UserError) -> None:
        if not self._as_json or self._outlet.loss is not None:
            super().tell(error)
            return
        try:
            write_json(sys.stdout, "error", **error_fields(error))
        except OSError:
            hush(sys.stdout)  # or the end of Python would try again, and change the status
