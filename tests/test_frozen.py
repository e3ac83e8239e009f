"""Frozen clusters as folders: whole or not there, nobody else's, and what they stand on stays."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from pipeline import frozen
from pipeline.collecting import collect
from pipeline.description import Host
from pipeline.errors import NotNow
from pipeline.frozen import Frozen, Part
from pipeline.store import Store
from tests.samples import cluster
from tests.test_collecting import filled, forget_holders, there

HERE = {"the accelerator": "tcg", "QEMU": "7.2"}


def record(own: Path, **changed: object) -> Frozen:
    parts = {"image": Part("image:one", "a" * 64, "sha256:1"), "disk/head": Part("disk:one/head", "b" * 64, "sha256:2")}
    made = Frozen(
        frozen.folder(own, "one"), cluster("one"), Host("local", "qemu", "private"), parts, HERE, {}, {}, "passed", 1.0
    )
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


def freeze(own: Path, content: str = "memory", **changed: object) -> Frozen:
    with frozen.making(own, "one") as folder:
        (folder / "ram").mkdir()
        (folder / "ram/head").write_text(content)
        frozen.publish(folder, record(own, **changed))
    found = frozen.read(own, "one")
    assert found is not None
    return found


def test_it_is_read_as_it_was_written_and_is_its_owners_alone(tmp_path: Path) -> None:
    found = freeze(tmp_path)
    assert found == record(tmp_path, sizes={"ram/head": 6})
    modes = {path.stat().st_mode & 0o777 for path in found.folder.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (found.folder, found.folder / "ram")} == {0o700}
    assert (tmp_path / "frozen").stat().st_mode & 0o777 == 0o700


def test_what_is_frozen_again_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    freeze(tmp_path, "old")
    found = freeze(tmp_path, "new")
    assert (found.folder / "ram/head").read_text() == "new"
    assert frozen.folders(tmp_path) == [found.folder]
    assert [path.name for path in (tmp_path / "frozen").iterdir() if path.is_dir()] == ["one"]


def test_what_fails_midway_leaves_nothing_and_what_was_there_stays(tmp_path: Path) -> None:
    before = freeze(tmp_path)
    with pytest.raises(ZeroDivisionError), frozen.making(tmp_path, "one") as folder:
        (folder / "half").touch()
        raise ZeroDivisionError
    assert frozen.read(tmp_path, "one") == before
    assert not folder.exists()


def test_what_a_killed_run_left_goes_and_what_is_being_made_stays(tmp_path: Path) -> None:
    with frozen.making(tmp_path, "one") as folder:
        frozen.clear_leftovers(tmp_path)
        assert folder.is_dir(), "somebody is at it"
    left = tmp_path / "frozen/.two.new"
    (left / "ram").mkdir(parents=True)
    left.with_name(".two.new.lock").touch()
    frozen.clear_leftovers(tmp_path)
    assert not left.exists()
    assert frozen.folders(tmp_path) == []


@pytest.mark.parametrize("took_its_place", [False, True])
def test_what_was_about_to_be_replaced_is_there_again_unless_something_took_its_place(
    tmp_path: Path, took_its_place: bool
) -> None:
    old = freeze(tmp_path, "old").folder
    old.rename(old.with_name(".one.new.old"))
    if took_its_place:
        (old / "ram").mkdir(parents=True)
        (old / "ram/head").write_text("new")
    frozen.clear_leftovers(tmp_path)
    assert (old / "ram/head").read_text() == ("new" if took_its_place else "old")
    assert [path.name for path in old.parent.iterdir() if path.is_dir()] == ["one"]


def test_a_mismatch_is_told_in_words(tmp_path: Path) -> None:
    cold = record(tmp_path)
    same = {role: part.digest for role, part in cold.parts.items()}
    assert cold.differs(same, HERE) == []
    assert cold.differs({**same, "image": "sha256:3"}, HERE) == ["it would be made of other artifacts now: image"]
    assert cold.differs({"image": "sha256:1"}, HERE) == ["it would be made of other artifacts now: disk/head"]
    assert cold.differs(same, {**HERE, "QEMU": "8.0"}) == ["QEMU is 8.0, and was 7.2"]
    assert cold.differs(same, {**HERE, "the processor": "X"}) == ["the processor is X, and was none"]


def test_damage_is_seen(tmp_path: Path) -> None:
    found = freeze(tmp_path)
    assert found.damage() == []
    (found.folder / "ram/head").write_text("more memory")
    assert found.damage() == ["ram/head has 11 bytes instead of 6"]
    (found.folder / "ram/head").unlink()
    assert found.damage() == ["ram/head is missing"]


def test_a_record_that_nobody_can_read_says_so(tmp_path: Path) -> None:
    assert frozen.read(tmp_path, "one") is None
    found = freeze(tmp_path)
    for text in ('{"schema": 0}', "[]", "{", '{"schema": 1}'):
        (found.folder / "record.json").write_text(text)
        with pytest.raises(NotNow) as error:
            frozen.read(tmp_path, "one")
        assert "doit freeze one" in error.value.hint
        assert frozen.held(tmp_path) == set()


def test_what_it_stands_on_is_not_collected_before_it_is(tmp_path: Path) -> None:
    store = filled(tmp_path, "abc")
    cold = freeze(tmp_path)
    forget_holders(tmp_path)
    os.utime(cold.folder, (9e9, 9e9))  # used after all of them
    assert collect(store, limit=1 << 17).gone[0] == store.root / ("c" * 64)
    assert there(Store(tmp_path)) == "ab"
    collect(store, limit=0)
    assert frozen.folders(tmp_path) == []
    collect(store, limit=0)
    assert there(Store(tmp_path)) == ""
