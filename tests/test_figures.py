"""Times and sizes as people read them."""

from __future__ import annotations

import pytest

from pipeline.figures import duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (100, "1 min 40 s"),
        (3599, "59 min 59 s"),
        (7260, "2 h 01 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (1000, "1.0 KiB"),
        (3_250_000, "3.1 MiB"),
        (10_400_000, "9.9 MiB"),
        (10_480_000, "10 MiB"),
        (400 << 20, "400 MiB"),
        (1 << 30, "1.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (5 << 60, "5242880 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
