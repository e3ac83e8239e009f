"""doit's own commands besides `run`, made fit for a person: every word means something, and every end is orderly.

Some of them work on what doit remembers of earlier runs.  Here nothing is remembered, the artifact store is asked, so
they are refused with what to do instead.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable
from typing import Any

from doit.cmd_clean import Clean as DoitClean
from doit.cmd_help import Help as DoitHelp
from doit.cmd_info import Info as DoitInfo
from doit.exceptions import InvalidCommand

from pipeline.commands.ending import Orderly, OrderlyDoit
from pipeline.errors import UserError


class Info(OrderlyDoit, DoitInfo):
    """One task, with what it depends on."""

    name = "info"

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        for word in pos_args[:1]:
            if word not in [task.name for task in self.task_list]:
                raise InvalidCommand(not_found=word)
        return int(super()._execute(pos_args, hide_status))


class Help(OrderlyDoit, DoitHelp):
    """What commands and tasks are for."""

    name = "help"

    def execute(self, params: Any, args: list[str]) -> int:
        if len(args) > 1:
            raise InvalidCommand("doit help takes one word")
        return int(super().execute(params, args))

    def _execute(self, pos_args: list[str]) -> bool:
        if not super()._execute(pos_args):
            raise InvalidCommand(not_found=pos_args[0])
        return True


class Clean(OrderlyDoit, DoitClean):
    """Remove what tasks have made."""

    name = "clean"

    def _execute(self, dryrun: bool, cleandep: bool, cleanall: bool, cleanforget: bool, pos_args: list[str]) -> int:
        """Go on after a failure, and tell it at the end.  doit reads the names of these parameters."""
        failed: list[UserError] = []
        for task in self.task_list:
            for action in task.clean_actions:
                action.py_callable = _noting(failed, action.py_callable)
        super()._execute(dryrun, cleandep, cleanall, cleanforget, pos_args)
        for error in failed:
            self.tell(error)
        return 1 if failed else 0

    def _expand(self, clean_list: list[str]) -> list[str]:
        for word in clean_list:
            if "*" in word and not fnmatch.filter([task.name for task in self.task_list], word):
                raise InvalidCommand(not_found=word)
        found: list[str] = super()._expand(clean_list)
        return found


def _noting(failed: list[UserError], action: Callable[..., Any]) -> Callable[..., Any]:
    """`action` with what a person can put right noted in `failed`."""

    @functools.wraps(action)  # doit looks at the signature
    def noting(*args: Any, **kwargs: Any) -> Any:
        try:
            return action(*args, **kwargs)
        except Exception as error:
            from pipeline import trouble

            explained = trouble.explain(error, trouble.usual_places())
            failed.append(explained or UserError(f"not cleaned: {error}"))
            if explained is None:
                raise  # a bug, which doit shows

    return noting


class _Refused(Orderly):
    """A command that makes no sense here."""

    doc_purpose = "(nothing is remembered between runs: refused)"
    doc_description = None
    instead = ""

    def obey(self, words: list[str]) -> int:
        raise UserError(
            f"doit {self.name} is not used here: nothing is remembered between runs, the store is asked",
            hint=self.instead,
        )


class Forget(_Refused):
    name = "forget"
    instead = "`doit -a TASK` makes it all the same; `doit clean TASK` removes what it has made"


class Ignore(_Refused):
    name = "ignore"
    instead = "name the tasks that you want"


class DumpDb(_Refused):
    name = "dumpdb"
    instead = "`doit status` shows what there is, `doit why TASK` what would be made"


class ResetDep(_Refused):
    name = "reset-dep"
    instead = "`doit why TASK` tells what has changed"


class Strace(_Refused):
    name = "strace"
    doc_purpose = "(builders run in sandboxes: refused)"
    instead = "artifacts/logs/ has the log of each step"
