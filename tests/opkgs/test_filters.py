"""Versions in OPKGs have the order that rpm gives them."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from pipeline.opkgs.filters import Versioned
from pipeline.run import which

VERSIONS = [
    "1", "1.0", "1.0-1", "1.0~rc1", "1.0~rc1-2", "1.0~~", "1.0^git1", "1.0a", "a", "1.0.1", "1.0.a", "0:1", "1:0",
    "2:1.0-1", "1.10", "1.9", "1.09", "01", "1..0", "1a1", "el5", "20.04", "12", "1.0+b", "1_0", "b^1", "b~2", "9" * 99,
]  # fmt: skip


@pytest.mark.skipif(which("rpm") is None, reason="needs rpm")
def test_versions_have_the_order_that_rpm_gives_them() -> None:
    pairs = list(itertools.product(VERSIONS, VERSIONS))
    calls = "".join(f"print(rpm.vercmp('{one}', '{other}'), '')" for one, other in pairs)
    done = subprocess.run(
        ["rpm", "--eval", f"%{{lua:{calls}}}"], capture_output=True, text=True, check=True, timeout=60
    )
    said = done.stdout.split()
    assert len(said) == len(pairs)
    for (one, other), order in zip(pairs, map(int, said), strict=True):
        wanted = {"<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">": order > 0}
        assert {rel: Versioned("x", rel, other).admits(one) for rel in wanted} == wanted, (one, other)


def test_numbers_of_any_length() -> None:
    assert Versioned("x", ">", "2" * 4999).admits("1" * 5000)
