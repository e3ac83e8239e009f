"""What the machines of a cluster that runs are told when its recipe has other nodes, or says other things of them."""

from __future__ import annotations

import shlex

from pipeline.cluster.records import Notes
from pipeline.shell import ClusterShell

#: Programs of the OPKG sis on the head node: one takes the cluster's names and identity from standard input, one brings
#: them to nodes, one forgets that a node has been installed.
_REDEFINE = "/usr/lib/xen-oscar/redefine-cluster"
_UPDATE = "/usr/lib/xen-oscar/update-nodes"
_FORGET = "/usr/lib/xen-oscar/forget-node"
#: Seconds that each may take, where nodes are few.
_TOLD = 120


def tell_head(shell: ClusterShell, archive: bytes, notes: Notes, *, patience: float) -> None:
    """Tell a head node that is up what the cluster is by now; nodes and OPKGs are to be told afterwards."""
    with shell.connected():
        shell.send(shell.cluster.head.name, _REDEFINE, archive, timeout=_TOLD * patience)
    notes.add("renamed")
    notes.remove("deployed")


def tell_nodes(shell: ClusterShell, notes: Notes, *, patience: float) -> None:
    """Bring to all nodes, which are up, what has changed of the cluster since they were installed."""
    nodes = [node.name for node in shell.cluster.nodes]
    with shell.connected():
        shell.send(shell.cluster.head.name, shlex.join([_UPDATE, *nodes]), b"", timeout=_TOLD * patience)
    notes.remove("renamed")


def forget(shell: ClusterShell, node: str) -> None:
    """A node is to be installed once more: the head node gives it its identity again."""
    address = shell.cluster.machine(node).address_on("private")
    with shell.connected():
        shell.send(shell.cluster.head.name, shlex.join([_FORGET, address]), b"", timeout=_TOLD)
