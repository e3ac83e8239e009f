"""Early cutoff: a change that leads to the same bytes rebuilds nothing downstream.

Prints which tasks ran after each change.  A task counts as downstream when it ran because an input of it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.checkout import CLUSTER, OUTPUTS, copy
from benchmarks.measure import Row, machine, report, say, start


def _touch(path: Path) -> None:
    for file in path.rglob("*"):
        if file.is_file():
            file.touch()


def _comment(path: Path) -> None:
    path.write_text(f"{path.read_text()}\n# a remark that changes no output\n")


#: What is changed, how, where, and the artifacts asked for.  The head node keeps the scripts of all OPKGs, so there a
#: changed remark is a changed file; compute nodes don't.
_CHANGES: tuple[tuple[str, Callable[[Path], None], str, tuple[str, ...]], ...] = (
    ("every file of all OPKGs touched", _touch, "recipes/opkgs", OUTPUTS),
    (
        "a comment in a client script of an OPKG",
        _comment,
        "recipes/opkgs/sis/scripts/client-post-install",
        (f"image:{CLUSTER}",),
    ),
    ("a comment in the builder of ramdisks", _comment, "pipeline/builders/initrd.py", OUTPUTS),
)


def main() -> None:
    before = machine()
    rows = []
    with copy() as made:
        say("making everything once")
        made.doit(*OUTPUTS)
        for what, change, place, outputs in _CHANGES:
            path = made.top / place
            content = path.read_text() if path.is_file() else ""
            say(what)
            change(path)
            run = made.doit(*outputs)
            if path.is_file():
                path.write_text(content)
            downstream = [task for task in run.built if "input " in run.reasons.get(task, "")]
            rows += [
                Row(f"{what}: tasks downstream", len(downstream), "", 0, ", ".join(downstream)),
                Row(
                    "  until all was up to date again", run.seconds, detail=f"ran: {', '.join(run.built) or 'nothing'}"
                ),
            ]
    report("cutoff", "Changes that lead to identical output", rows, before)


if __name__ == "__main__":
    start(main)
