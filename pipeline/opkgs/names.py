"""What software on a machine may know of its cluster: /etc/oscar and /etc/hosts.

Names reach machines when they start or are installed, so that no image knows them, and one more node changes none.
Where a script of an OPKG reads them while a root is built, they are there as long as it runs, and its layer alone
depends on them: on all of them if it asks for the nodes, else on what is the same however many nodes there are.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from pipeline.description import Cluster, Machine

FOLDER = "/etc/oscar"
_HOSTS = "/etc/hosts"

#: How much of it somebody asks for.
Asks = Literal["nothing", "cluster", "nodes"]

_ASKS: tuple[Asks, ...] = get_args(Asks)

#: A text that mentions one of these asks for the nodes: the files that list them, or the folder as a whole.
_NODES = re.compile(
    rb"""\bOSCAR_(?:NODES|MEMBERS_\w+)\b|/etc/oscar/(nodes\b|cluster\.json|\*)|/etc/oscar/?(?=["'`\s;|&)]|\Z)"""
)
_CLUSTER = re.compile(rb"/etc/oscar/cluster\.sh")


def asks(text: bytes) -> Asks:
    """What the text of a script asks for."""
    if _NODES.search(text):
        return "nodes"
    return "cluster" if _CLUSTER.search(text) else "nothing"


def most(asked: Iterable[Asks]) -> Asks:
    """The most of what several ask for."""
    return max(asked, key=_ASKS.index, default="nothing")


def files(cluster: Cluster) -> dict[str, str]:
    """All files by absolute path, the same on each machine."""
    nodes = [
        (node.name, node.address_on("private"), node.interfaces[0].mac, node.cpus, node.memory_mib, node.membership)
        for node in cluster.nodes
    ]
    hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    hosts += [
        f"{machine.address_on('private')} {machine.name}.{cluster.domain} {machine.name}"
        for machine in cluster.machines
    ]
    return {
        f"{FOLDER}/cluster.json": json.dumps(cluster.to_json(), indent=1, sort_keys=True) + "\n",
        f"{FOLDER}/cluster.sh": _variables(
            {
                **_lasting(cluster),
                "OSCAR_NODES": _named(cluster.nodes),
                **{
                    f"OSCAR_MEMBERS_{kind.upper().replace('-', '_')}": _named(each)
                    for kind, each in cluster.members.items()
                },
            }
        ),
        f"{FOLDER}/nodes": "".join(" ".join(map(str, node)) + "\n" for node in nodes),
        _HOSTS: "\n".join(hosts) + "\n",
    }


def while_built(cluster: Cluster, asked: Asks) -> Mapping[str, str]:
    """The files that scripts find while a root is built, by what they ask for."""
    if asked == "nodes":
        return {path: text for path, text in files(cluster).items() if path != _HOSTS}
    return {f"{FOLDER}/cluster.sh": _variables(_lasting(cluster))} if asked == "cluster" else {}


def _named(nodes: Iterable[Machine]) -> str:
    return " ".join(node.name for node in nodes)


def _lasting(cluster: Cluster) -> dict[str, str]:
    """What does not depend on the nodes."""
    head = cluster.head
    return {
        "OSCAR_CLUSTER": cluster.name,
        "OSCAR_DOMAIN": cluster.domain,
        "OSCAR_HEAD": head.name,
        "OSCAR_HEAD_ADDRESS": head.address_on("private"),
        "OSCAR_HEAD_PUBLIC_ADDRESS": head.address_on("public"),
        "OSCAR_PRIVATE_CIDR": cluster.network("private").cidr,
    }


def _variables(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
