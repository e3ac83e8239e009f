"""Lots: a cluster's share of the MACs and of the default subnets on a VM container that several clusters use.

A lot is a number.  The fourth byte of a MAC is twice the lot, and one more for the private network; so are the third
bytes of the default subnets, 10.77.x.0/24.  What a cluster without others on its host has is lot 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from pipeline.errors import UserError

#: Two networks a lot, counted in one byte.
MOST = 128
_NETWORKS = ("public", "private")


def allocate(wanted: Iterable[str], taken: Mapping[str, int], host: str) -> dict[str, int]:
    """A lot for each of the wanted clusters of a host, where `taken` are those that clusters have there.

    Whoever has one keeps it; the others get the smallest free ones, in order of names.  Raises UserError where there
    are none left.
    """
    found = dict(taken)
    free = (lot for lot in itertools.count() if lot not in set(taken.values()))
    for name in sorted(set(wanted) - set(taken)):
        found[name] = next(free)
        if found[name] >= MOST:
            raise UserError(
                f"the {MOST} lots of MACs and subnets of the host {host} are given to clusters already",
                hint="clusters whose recipes are gone and that do not run make room; or give this one another host",
            )
    return {name: found[name] for name in wanted}


def mac(prefix: str, lot: int, network: str, index: int) -> str:
    """The MAC of the machine with this index; `prefix` are the first three bytes, like "00:16:3e"."""
    return f"{prefix}:{_byte(lot, network):02x}:{index >> 8:02x}:{index & 255:02x}"


def subnet(lot: int, network: str) -> str:
    """The default subnet of a network, "public" or "private"."""
    return f"10.77.{_byte(lot, network)}.0/24"


def _byte(lot: int, network: str) -> int:
    return 2 * lot + _NETWORKS.index(network)
