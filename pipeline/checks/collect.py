"""One round of questions to all machines of a cluster.

Under emulation a new ssh connection costs each side seconds, a line more in a script nothing.  So the head node
gets one script, which asks the nodes side by side, some at a time, and all that was seen comes back as one stream, one
machine after the other: whoever judges a machine can forget it before the next one comes.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline import sandbox
from pipeline.checks.facts import Facts, FactsError, parse
from pipeline.checks.files import checksums
from pipeline.checks.shell import Tells
from pipeline.description import Cluster, Machine
from pipeline.guests.guest import Guest
from pipeline.inventory import Changes
from pipeline.packages.family import Family

FOLDER = Path(__file__).parent
_IMAGES = "/var/lib/systemimager/images"
#: MiB of the head node's memory for each node that it asks at a time: an ssh client takes 8, what a node says one.
_LANE_MIB = 16


def collect(
    cluster: Cluster,
    shell: Tells,
    guest: Guest,
    family: Family,
    *,
    changes: Mapping[str, Changes] = MappingProxyType({}),
    lanes: int,
    timeout: float,
) -> Iterator[Facts]:
    """The facts of the head node, then those of each node when it has answered, `lanes` at a time.  Of the files of a
    node those count as seen that its image has, and those in `changes`, by its name.

    A node that did not answer has only those that the head node knows about it.  Raises FactsError where the head node
    has no facts, and UserError where it does not answer or `timeout` seconds are over.
    """
    marks = new_mark(), new_mark()
    lanes = max(1, min(lanes, cluster.head.memory_mib // _LANE_MIB))
    lines = shell.lines(cluster.head.name, script(cluster, guest, family, *marks, lanes, changes), timeout=timeout)
    known = {machine.name for machine in cluster.machines}
    head = None
    for facts in parse(lines, *marks):
        if head is None:
            head = facts
            if head.machine != cluster.head.name or not head.complete:
                break
        if facts.machine in known:
            yield facts
    if head is None or head.machine != cluster.head.name or not head.complete:
        raise FactsError("it did not come to the end of telling about itself")


def new_mark() -> str:
    """What sections start with: nothing that a machine prints by chance or by intent."""
    return f"=={secrets.token_hex(8)}=="


def script(
    cluster: Cluster,
    guest: Guest,
    family: Family,
    mark: str,
    inner: str,
    lanes: int,
    changes: Mapping[str, Changes] = MappingProxyType({}),
) -> str:
    """The whole script for the head node.  Nodes get only the `inner` mark, with which none can speak for another."""
    lister = f"tree={shlex.quote((FOLDER / 'tree.pl').read_text())}\n"
    asking = family.listing + guest.services
    words = {
        "mark": mark,
        "collector": lister + asking + (FOLDER / "collect.sh").read_text(),
        "lanes": str(lanes),
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in words.items()]
    lines.append((FOLDER / "fanout.sh").read_text())
    for node in cluster.nodes:
        given = f"mark={shlex.quote(inner)} sums=given mounts={shlex.quote(mount_points(node))}"
        image = f"{_IMAGES}/{node.membership}"
        if more := checksums(changes.get(node.name, {})):
            lines.append(f"more {shlex.quote(node.name)} '{_escaped(''.join(more))}'")
        lines.append(f"node {shlex.quote(node.name)} {shlex.quote(image)} {shlex.quote(given)}")
    given = f"sums={sandbox.SOURCE_DATE_EPOCH} mounts={shlex.quote(mount_points(cluster.head))}"
    lines.append(f"finish {shlex.quote(cluster.head.name)} {shlex.quote(given)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """A text with names of any bytes as a format of printf(1), in which nothing needs quotes."""
    return re.sub(rb"[^\n !#$&(-\[\]-~]", lambda byte: b"\\%03o" % ord(byte[0]), os.fsencode(text)).decode("ascii")


def mount_points(machine: Machine) -> str:
    """The mount points of a machine, as words for sh."""
    return " ".join(plan.mount for plan in machine.filesystems if plan.type != "swap")
