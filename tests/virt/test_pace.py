"""How many at once, and how long: for few and many machines, few and many processors, emulated and not."""

from __future__ import annotations

import itertools

import pytest

from pipeline.virt import pace
from pipeline.virt.pace import Capacity, Work

#: What installing takes of an emulated processor, and of the head node's: seconds, measured.
NODE, SERVING = 20.5, 8.5


@pytest.mark.parametrize(
    ("processors", "accelerator", "install", "start"),
    [
        (1, "tcg", 2, 2),
        (2, "tcg", 3, 3),
        (4, "tcg", 4, 5),
        (64, "tcg", 4, 32),  # one emulated processor serves them all
        (2, "kvm", 8, 9),
        (64, "kvm", 8, 32),
    ],
)
def test_how_many_at_once(processors: int, accelerator: str, install: int, start: int) -> None:
    capacity = Capacity(processors, "kvm" if accelerator == "kvm" else "tcg")
    assert (pace.at_once("install", capacity), pace.at_once("start", capacity)) == (install, start)


def test_a_larger_head_node_serves_more_and_no_host_gets_more_than_is_good() -> None:
    assert pace.at_once("install", Capacity(64, "tcg", serving=4)) == 16
    assert pace.at_once("install", Capacity(1024, "kvm", serving=64)) == pace.MOST


def test_there_are_never_more_than_memory_allows_nor_none() -> None:
    assert pace.at_once("start", Capacity(64, "kvm", room=3)) == 3
    assert pace.at_once("start", Capacity(64, "kvm", room=0)) == 1


@pytest.mark.parametrize(
    ("machines", "processors", "accelerator", "seconds"),
    [
        (2, 2, "tcg", 1200),
        (12, 2, "tcg", 4800),
        (200, 2, "tcg", 80000),
        (2, 64, "tcg", 1200),
        (12, 64, "tcg", 3600),
        (200, 64, "tcg", 60000),
        (2, 2, "kvm", 1200),
        (12, 2, "kvm", 1800),
        (200, 2, "kvm", 30000),
        (2, 64, "kvm", 1200),
        (12, 64, "kvm", 1800),
        (200, 64, "kvm", 30000),
    ],
)
def test_how_long_where_all_are_at_it_at_once(machines: int, processors: int, accelerator: str, seconds: int) -> None:
    capacity = Capacity(processors, "kvm" if accelerator == "kvm" else "tcg")
    assert pace.deadline(machines, "install", capacity) == seconds


@pytest.mark.parametrize("work", ["start", "boot", "install", "verify"])
def test_in_waves_each_has_the_whole_time_of_one(work: Work) -> None:
    for processors, room in itertools.product((1, 2, 64), (1, 2, 100)):
        capacity = Capacity(processors, "tcg", room=room)
        assert pace.deadline(pace.at_once(work, capacity), work, capacity) == pace.deadline(1, work, capacity)


def test_a_deadline_is_far_from_what_an_installation_takes() -> None:
    """Whether processors or the head node are what all wait for: three times what was measured, at the least."""
    for processors, machines in itertools.product((1, 2, 4, 64), (1, 2, 12, 200)):
        capacity = Capacity(processors, "tcg")
        at_best = max(NODE, machines * (NODE + SERVING) / processors, machines * SERVING)
        assert pace.deadline(machines, "install", capacity) > 3 * at_best


def test_more_machines_never_have_less_time_and_more_processors_never_start_fewer() -> None:
    for work in ("start", "boot", "install", "verify"):
        times = [pace.deadline(machines, work, Capacity(2, "tcg")) for machines in range(1, 300)]
        assert times == sorted(times)
        numbers = [pace.at_once(work, Capacity(processors, "tcg")) for processors in range(1, 300)]
        assert numbers == sorted(numbers)
