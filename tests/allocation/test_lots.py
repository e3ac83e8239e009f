"""Lots: nobody's changes, none is given twice, and what counts from them differs."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.allocation import lots
from pipeline.errors import UserError

NAMES = st.text("abcdef", min_size=1, max_size=3)


@given(st.dictionaries(NAMES, st.integers(0, 40)), st.sets(NAMES, max_size=20))
def test_whoever_has_a_lot_keeps_it_and_new_ones_are_the_smallest_free(had: dict[str, int], wanted: set[str]) -> None:
    taken = {name: lot for lot, name in {lot: name for name, lot in had.items()}.items()}  # each lot once
    found = lots.allocate(wanted, taken, "host")
    assert found.keys() == wanted
    assert all(found[name] == taken[name] for name in wanted & taken.keys())
    new = [found[name] for name in sorted(wanted - taken.keys())]
    free = [lot for lot in range(100) if lot not in taken.values()]
    assert new == free[: len(new)]


def test_when_all_are_given_that_is_told() -> None:
    taken = {f"c{lot}": lot for lot in range(lots.MOST)}
    assert lots.allocate(["c5"], taken, "host") == {"c5": 5}
    with pytest.raises(UserError, match="the 128 lots of MACs and subnets of the host h are given"):
        lots.allocate(["more"], taken, "h")


def test_no_two_lots_share_a_mac_or_a_subnet() -> None:
    networks = [(lot, network) for lot in range(lots.MOST) for network in ("public", "private")]
    assert len({lots.mac("00:16:3e", *one, 65535) for one in networks}) == len(networks)
    subnets = [ipaddress.IPv4Network(lots.subnet(*one)) for one in networks]
    assert len(set(subnets)) == len(networks)


def test_lot_0_is_what_a_cluster_has_that_shares_no_host() -> None:
    assert lots.mac("00:16:3e", 0, "public", 0) == "00:16:3e:00:00:00"
    assert lots.mac("00:16:3e", 0, "private", 258) == "00:16:3e:01:01:02"
    assert (lots.subnet(0, "public"), lots.subnet(0, "private")) == ("10.77.0.0/24", "10.77.1.0/24")
