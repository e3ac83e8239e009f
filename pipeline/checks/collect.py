"""One round of questions to all machines of a cluster.

Under emulation a new ssh connection costs each side seconds, a line more in a script nothing.  So the head node
gets one script, which asks the nodes side by side, and all that was seen comes back as one text.
"""

from __future__ import annotations

import secrets
import shlex
from pathlib import Path

from pipeline.checks.facts import Facts, FactsError, parse
from pipeline.checks.shell import Shell
from pipeline.description import Cluster, Machine

_FOLDER = Path(__file__).parent
_IMAGES = "/var/lib/systemimager/images"


def collect(cluster: Cluster, shell: Shell, image: str, *, timeout: float) -> dict[str, Facts]:
    """The facts by machine; a node that did not answer has only those that the head node knows about it."""
    mark = new_mark()
    status, stdout, stderr = shell.run(cluster.head.name, script(cluster, image, mark), timeout=timeout)
    facts = parse(stdout, mark)
    if cluster.head.name not in facts or not facts[cluster.head.name].complete:
        raise FactsError((stderr.strip() or f"exit status {status}, no output").splitlines()[-1])
    return facts


def new_mark() -> str:
    """What sections start with: nothing that a machine prints by chance or by intent."""
    return f"=={secrets.token_hex(8)}=="


def script(cluster: Cluster, image: str, mark: str) -> str:
    """The whole script for the head node."""
    words = {
        "mark": mark,
        "collector": (_FOLDER / "collect.sh").read_text(),
        "image": f"{_IMAGES}/{image}",
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in words.items()]
    lines.append((_FOLDER / "fanout.sh").read_text())
    for node in cluster.nodes:
        given = f"mark={shlex.quote(mark)} mounts={shlex.quote(' '.join(_mounts(node)))}"
        lines.append(f"gather {shlex.quote(node.name)} {shlex.quote(given)}")
    lines.append(f"finish {shlex.quote(cluster.head.name)}")
    return "\n".join(lines) + "\n"


def _mounts(machine: Machine) -> list[str]:
    return [plan.mount for plan in machine.filesystems if plan.type != "swap"]
