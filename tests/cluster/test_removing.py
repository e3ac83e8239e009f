"""Which OPKGs may go from a cluster that runs, and what goes with them."""

from __future__ import annotations

import pytest

from pipeline.cluster.added import Added
from pipeline.cluster.removing import packages_to_go, require_free
from pipeline.errors import NotNow

THERE = {
    "lib": Added("lib", "whole", packages={"head": {"libx": "1", "common": "1"}}),
    "tool": Added("tool", "whole", {"lib": ("tool", "lib")}, {"head": {"toolx": "1", "common": "1"}}),
    "more": Added("more", "begun", {"tool": ("more", "tool"), "lib": ("more", "tool", "lib")}),
}


def test_one_that_others_need_stays_and_the_chains_are_told() -> None:
    with pytest.raises(NotNow) as caught:
        require_free("ci", ("base",), THERE, ["lib"])
    assert caught.value.message == "OPKG lib is required: tool -> lib, more -> tool -> lib"
    assert caught.value.hint == "doit opkg remove ci tool more lib takes all away"
    with pytest.raises(NotNow, match="OPKG tool is required: more -> tool"):
        require_free("ci", ("base",), THERE, ["tool"])
    require_free("ci", ("base",), THERE, ["lib", "tool", "more", "nowhere"])


def test_one_of_the_recipe_stays() -> None:
    with pytest.raises(NotNow, match="OPKG base is in the recipe of ci"):
        require_free("ci", ("base",), THERE, ["base"])


def test_packages_go_that_no_other_one_needs() -> None:
    assert packages_to_go(THERE["tool"], THERE, "head") == ["toolx"]
    assert packages_to_go(THERE["tool"], {"tool": THERE["tool"]}, "head") == ["toolx", "common"]
    assert packages_to_go(THERE["tool"], THERE, "compute") == []
