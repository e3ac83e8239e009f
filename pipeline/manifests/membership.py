"""Memberships: which kinds of machines a cluster has besides its head node, what these are called, where they are.

"compute" is always one; others stand in `[memberships.NAME]`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.manifests.fields import Address, HostName, Items, PackageName
from pipeline.manifests.machine import Compute, Installed
from pipeline.manifests.network import PrivateNetwork
from pipeline.mistakes import Key, did_you_mean, quoted

#: Addresses that a membership has where its manifest does not say which.
_BLOCK = 32
#: The last two bytes of a MAC: below are compute nodes by number, from here on all others by their addresses.
_OTHERS = 0x8000
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?")
#: How many names of machines are compared with a wrong one.
_COMPARED = 200


class Membership(Installed):
    """Machines of another kind, which are installed as compute nodes are; jobs run on compute nodes alone."""

    prefix: HostName | None = None
    """The host name without the number; without it, the membership's name: "login" for login1, login2, ..."""
    first_node: Address | None = None
    """The address of the first one, the others follow; without it, they begin 32 addresses before the private network's
    end, or that much before those of the membership above."""
    packages: Items[PackageName] = ()
    """The distribution packages that they have besides those of compute nodes."""


@dataclass(frozen=True)
class Group:
    """The machines of one membership: they are called `prefix` and a number from 1; addresses follow `first`."""

    membership: str
    table: Installed
    prefix: str
    first: ipaddress.IPv4Address

    def names(self) -> list[str]:
        return [f"{self.prefix}{number}" for number in range(1, self.table.count + 1)]

    def address(self, number: int) -> ipaddress.IPv4Address:
        return self.first + number - 1

    def mac_index(self, number: int, private: PrivateNetwork) -> int:
        """Its place in the last two bytes of a MAC: it stays when other machines come or go."""
        if self.membership == "compute":
            return number
        return _OTHERS | (int(self.address(number)) - int(private.subnet.network_address)) & (_OTHERS - 1)


def groups(compute: Compute, others: Mapping[str, Membership], private: PrivateNetwork) -> tuple[Group, ...]:
    """Those of a cluster: compute nodes, then the others as they stand in the manifest."""
    found = [Group("compute", compute, compute.prefix, ipaddress.IPv4Address(private.first_node_address))]
    for number, (name, table) in enumerate(others.items(), 1):
        # a small subnet ends before that, which is told as any address outside of it
        begin = max(0, int(private.subnet.broadcast_address) + 1 - _BLOCK * number)
        first = ipaddress.IPv4Address(table.first_node or begin)
        found.append(Group(name, table, table.prefix or name, first))
    return tuple(found)


def faults(head: str, found: Sequence[Group], private: PrivateNetwork) -> Iterator[tuple[Key, str]]:
    """What is wrong with the memberships of a cluster whose head node has that name; compute nodes alone are judged
    elsewhere."""
    compute, *others = found
    if not others:
        return
    called = dict.fromkeys(compute.names(), "compute") | {head: "head"}
    macs = {compute.mac_index(number, private): "compute" for number in range(1, compute.table.count + 1)}
    if compute.table.count >= _OTHERS:
        yield ("compute", "count"), f"expected fewer than {_OTHERS} in a cluster with other memberships"
    taken = [(int(compute.first), compute.table.count, "the compute nodes")]
    taken += [(int(ipaddress.IPv4Address(private.head_address)), 1, "the head node")]
    taken += [(int(ipaddress.IPv4Address(private.host)), 1, "the host")] if private.host else []
    for group in others:
        key: Key = ("memberships", group.membership)
        if not _NAME.fullmatch(group.membership):
            yield (
                key,
                f"{quoted(group.membership)} is no name; expected a-z, 0-9 and inner hyphens, 20 at most",
            )
        elif group.membership in ("head", "compute"):
            yield key, f"{quoted(group.membership)} is always there; expected another name, or [{group.membership}]"
        same = next((name for name in group.names() if name in called), None)
        if same:
            yield (*key, "prefix"), f"{quoted(same)} is one of {called[same]} too; expected another prefix"
        if len(group.names()[-1]) > 63:
            yield (*key, "prefix"), f"too long: {quoted(group.names()[-1])}; expected at most 63 letters"
        begin, count = int(group.first), group.table.count
        ends = int(private.subnet.network_address), int(private.subnet.broadcast_address)
        other = next((who for start, size, who in taken if begin < start + size and start < begin + count), None)
        where = f"{count} of them from {group.first} on"
        if not ends[0] < begin <= begin + count - 1 < ends[1]:
            count = 0  # which have no MACs to compare
            yield (*key, "first_node"), f"{where} are not in {private.cidr}; expected an address with room behind it"
        elif other:
            yield (
                (*key, "first_node"),
                f"{where} have addresses of {other}; expected another one, or fewer machines",
            )
        own = {group.mac_index(number, private) for number in range(1, count + 1)}
        if own & macs.keys() and not other:
            yield (
                (*key, "first_node"),
                f"they would have MACs of {macs[min(own & macs.keys())]}; expected another one",
            )
        called |= dict.fromkeys(group.names(), group.membership)
        macs |= dict.fromkeys(own, group.membership)
        taken.append((begin, count, group.membership))


def unknown(name: str, head: str, found: Sequence[Group]) -> Iterator[str]:
    """What is wrong with the name of a machine of a cluster with these groups, if anything is."""
    numbered = [
        match for group in found if (match := re.fullmatch(f"({re.escape(group.prefix)})([1-9][0-9]{{0,5}})", name))
    ]
    counts = {group.prefix: group.table.count for group in found}
    if name == head or any(int(match[2]) <= counts[match[1]] for match in numbered):
        return
    ranges = [f"{prefix}1" if count == 1 else f"{prefix}1 to {prefix}{count}" for prefix, count in counts.items()]
    # node3 of two nodes is not a slip of the pen: there is no better guess than the list
    names = [] if numbered else [head, *(name for group in found for name in group.names()[:_COMPARED])]
    there = f"{', '.join([head, *ranges[:-1]])} or {ranges[-1]}"
    yield f"there is no machine {quoted(name)}; expected {there}{did_you_mean(name, names)}"
