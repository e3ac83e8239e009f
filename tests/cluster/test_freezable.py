"""When a cluster that has passed is frozen by itself, and what is told where it is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import events
from pipeline.cluster import freezable
from pipeline.description import Host
from pipeline.errors import NotNow
from tests.samples import cluster
from tests.test_frozen import freeze


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What is told meanwhile."""
    found: list[str] = []
    end = events.subscribe(lambda event: found.append(getattr(event, "text", "")))
    found.clear()
    yield found
    end()


def life(
    own: Path, *, image: str = "sha256:1", hypervisor: str = "qemu", devices: Any = "virtio", fresh: str = "booted_here"
) -> Any:
    """A cluster that runs, made of the image with that digest and of the same disk as in `test_frozen`."""
    (own / "run/one/disks").mkdir(parents=True, exist_ok=True)
    digests = {"image:one": image, "disk:one/head": "sha256:2"}
    here = {"booted_here": False, "verified_here": False, fresh: True}
    described = cluster("one")
    machines = [dataclasses.replace(machine, devices=devices) for machine in described.machines]
    return SimpleNamespace(
        **here,
        cluster=dataclasses.replace(described, head=machines[0], nodes=tuple(machines[1:])),
        host=Host("local", hypervisor, "private"),  # type: ignore[arg-type]
        run_dir=own / "run/one",
        made=SimpleNamespace(parts=lambda: {"image": "image:one", "disk/head": "disk:one/head"}),
        engine=SimpleNamespace(own=own, keys=SimpleNamespace(entry=lambda task: SimpleNamespace(digest=digests[task]))),
    )


def test_one_that_is_frozen_as_it_is_today_is_not_frozen_again(tmp_path: Path, told: list[str]) -> None:
    assert not freezable.is_settled(life(tmp_path))
    cold = freeze(tmp_path)
    assert told == ["verified, and not frozen as it is"]
    assert freezable.is_settled(life(tmp_path))
    assert not freezable.is_settled(life(tmp_path, image="sha256:3"))
    (cold.folder / "record.json").write_text("{}")
    assert not freezable.is_settled(life(tmp_path)), "nobody can read that one any more"


def test_one_that_people_may_have_worked_on_is_frozen_if_they_say_so(tmp_path: Path, told: list[str]) -> None:
    assert freezable.is_settled(life(tmp_path, fresh="nothing"))
    assert told == []
    assert not freezable.is_settled(life(tmp_path, fresh="verified_here"))


@pytest.mark.parametrize("wrong", [{"hypervisor": "xen"}, {"devices": "pc"}])
def test_where_it_can_never_be_nothing_is_told(tmp_path: Path, told: list[str], wrong: dict[str, str]) -> None:
    with pytest.raises(NotNow):
        freezable.require(life(tmp_path, **wrong))
    assert freezable.is_settled(life(tmp_path, **wrong))
    assert told == []


@pytest.mark.parametrize(("short", "of"), [("_DISK", "file system"), ("_MEMORY", "memory")])
def test_where_there_is_not_enough_room_that_is_told(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch, short: str, of: str
) -> None:
    monkeypatch.setattr(freezable, short, 1 << 20)
    assert freezable.is_settled(life(tmp_path))
    (text,) = told
    assert text.startswith("one: not frozen: ") and of in text and "doit freeze one" in text
