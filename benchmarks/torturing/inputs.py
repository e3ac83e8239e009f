"""Nonsense for parsers (written when the parsers of guests' words are)."""

from __future__ import annotations

from benchmarks.torturing.kills import Tally


def feed(count: int, seed: int, tally: Tally, until: float) -> None:
    """Feed that many inputs."""
