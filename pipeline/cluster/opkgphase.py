"""The phases of OPKGs that have their place on the head node of a cluster that is up.

What a script changes in /etc there, or puts over the image of the nodes, is the cluster's configuration from then on:
it is written down in the run folder, so that verification does not take it for a fault.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import cast

from pipeline.builders.image import OVERRIDES
from pipeline.checks.collect import new_mark
from pipeline.cluster.opkglog import log
from pipeline.description import Cluster, Role
from pipeline.errors import ClusterError
from pipeline.files import write_whole
from pipeline.opkgs.phases import PACKAGES, When, environment, has_script, that_run
from pipeline.report.model import Phase
from pipeline.shell import ClusterShell

#: Seconds for one script, where the nodes are few.
_DEADLINE = 120

#: Its status is the script's.  What changes is seen by the times of the last change of any kind, which nobody can set;
#: a run that was ended meanwhile has left the list from before the script for the next one.
_SCRIPT = """\
{variables}
export LC_ALL=C
before=/var/lib/xen-oscar/before-{opkg}-{phase}
list() {{
    find /etc {overrides} -xdev ! -path '*
*' -printf '%C@ %p\\n' | sort
}}
[ -e "$before" ] || {{ list > "$before.new" && mv "$before.new" "$before"; }}
{home}/scripts/{phase} < /dev/null
status=$?
printf '\\n%s\\n' {mark}
list | comm -3 "$before" - | sed 's/^[[:space:]]*[0-9.]* //' | sort -u | head -c {most}
rm -f "$before"
exit $status
"""
_ETC = "/etc"
_FILE = "configured.json"
#: Bytes of names that one script may change and that are known afterwards.
_MOST = 1 << 20


class OpkgPhases:
    """Of one cluster.  `files` are the paths (below the folder of all recipes) of what the head node has of OPKGs."""

    def __init__(self, cluster: Cluster, files: Container[str], run_dir: Path, record: Callable[[Phase], None]) -> None:
        self._cluster = cluster
        self._files = files
        self._run_dir = run_dir
        self._record = record

    def run(self, when: When, shell: ClusterShell, *, patience: float) -> list[str]:
        """Run the scripts that have their place now, phase by phase, one after the other; the paths that they changed.

        Raises ClusterError at the first that fails.
        """
        scripts = [
            (phase.name, opkg)
            for phase in that_run(when, "server")
            for opkg in self._cluster.opkgs
            if has_script(phase.name, opkg, self._files)
        ]
        changed: list[str] = []
        if scripts:
            with shell.connected():
                for phase, opkg in scripts:
                    changed += self._run(phase, opkg, shell, patience)
        return changed

    def _run(self, phase: str, opkg: str, shell: ClusterShell, patience: float) -> list[str]:
        started, head, mark = time.time(), self._cluster.head.name, new_mark()
        script = _SCRIPT.format(
            variables="\n".join(
                f"export {name}={shlex.quote(value)}" for name, value in environment(opkg, "head").items()
            ),
            home=shlex.quote(f"{PACKAGES}/{opkg}"),
            opkg=shlex.quote(opkg),
            phase=phase,
            mark=mark,
            overrides=OVERRIDES,
            most=_MOST,
        )
        status, out, errors = shell.run(head, script, timeout=_DEADLINE * patience)
        said, _, changed = out.partition(f"\n{mark}\n")
        self._record(Phase(head, f"{opkg} {phase}", started, time.time()))
        _note(self._run_dir, f"{phase} of OPKG {opkg}", changed)
        kept = log(self._run_dir, f"{head}: {phase} of OPKG {opkg}, status {status}", said + errors)
        if status != 0:
            raise ClusterError(
                f"{head}: {phase} of OPKG {opkg} ended with status {status}",
                tail="\n".join((said + errors).splitlines()[-12:]),
                log=kept,
                hint=f"recipes/opkgs/{opkg}/scripts/{phase}",
            )
        return changed.splitlines()


def configured(run_dir: Path) -> dict[Role, dict[str, str]]:
    """What OPKGs have changed on machines of a role since these were made: path below / -> who did."""
    found: dict[Role, dict[str, str]] = {"head": {}, "compute": {}}
    for by, paths in _noted(run_dir).items():
        for path in paths:
            if path.startswith(f"{OVERRIDES}/"):  # the image's name or a node's, and the path on it
                found["compute"][path.removeprefix(f"{OVERRIDES}/").partition("/")[2]] = by
            elif path.startswith(f"{_ETC}/"):
                found["head"][path[1:]] = by
    return found


def _note(run_dir: Path, by: str, changed: str) -> None:
    """Note what a script has changed, besides what it changed when it ran before."""
    noted = _noted(run_dir)
    noted[by] = sorted({*noted.get(by, ()), *filter(None, changed[:_MOST].split("\n"))})
    write_whole(run_dir / _FILE, json.dumps(noted).encode())


def _noted(run_dir: Path) -> dict[str, list[str]]:
    try:
        return cast("dict[str, list[str]]", json.loads((run_dir / _FILE).read_bytes()))
    except FileNotFoundError:
        return {}
