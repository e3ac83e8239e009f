"""The store: whole entries or none, damage is seen, and little-used entries go first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store import Entry, Store, canonical, file_digest

KEY = "a" * 64
OTHER = "b" * 64


def put(store: Store, key: str, **files: str) -> Entry:
    with store.building(key) as folder:
        (folder / "files").mkdir()
        for name, text in files.items():
            (folder / "files" / name).write_text(text)
        return store.publish(key, folder, {"task": f"root:{key[:1]}"})


def test_published_entry_is_found_again_with_the_same_digest(tmp_path: Path) -> None:
    entry = put(Store(tmp_path), KEY, one="1", two="2")
    found = Store(tmp_path).get(KEY)
    assert found is not None
    assert found.digest == entry.digest
    assert found.part("one") != found.part("two")


def test_equal_content_has_an_equal_digest_under_another_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert put(store, KEY, one="1").digest == put(store, OTHER, one="1").digest


def test_a_failed_build_leaves_no_entry(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.building(KEY) as folder:
        (folder / "files").mkdir()
        (folder / "files" / "half").write_text("half")
        raise RuntimeError
    assert store.get(KEY) is None
    assert not list((tmp_path / "store" / ".building").iterdir())


def test_what_a_killed_build_left_is_not_in_the_next_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    left = tmp_path / "store" / ".building" / KEY / "files"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    assert store.get(KEY) is None
    assert set(put(store, KEY, whole="1").files) == {"whole"}


@pytest.mark.parametrize("damage", ["changed", "truncated", "removed"])
def test_a_corrupt_entry_is_set_aside_and_counts_as_missing(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    file = put(store, KEY, one="12345").path / "one"
    if damage == "changed":
        file.write_text("54321")
    elif damage == "truncated":
        file.write_text("1")
    else:
        file.unlink()
    assert store.get(KEY) is None
    assert (tmp_path / "store" / ".corrupt" / KEY).is_dir()
    assert put(store, KEY, one="12345").digest


def test_a_touched_but_equal_file_is_not_corrupt(tmp_path: Path) -> None:
    store = Store(tmp_path)
    os.utime(put(store, KEY, one="1").path / "one", (1, 1))
    assert store.get(KEY) is not None


def test_damage_that_keeps_size_and_time_is_found_by_hashing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = put(store, KEY, one="1")
    file = entry.path / "one"
    before = file.stat()
    file.write_text("2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.damage(entry) == ["one: content differs"]


def test_links_follow_the_newest_entry(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.link("disk:fc4/node1", put(store, KEY, one="1"))
    store.link("disk:fc4/node1", put(store, OTHER, one="2"))
    assert (tmp_path / "fc4" / "disk-node1" / "files" / "one").read_text() == "2"
    linked = store.linked("disk:fc4/node1")
    assert linked is not None and linked.key == OTHER


def test_collect_removes_the_least_recently_used_but_never_what_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keys = [letter * 64 for letter in "abc"]
    for age, key in enumerate(keys):
        os.utime(put(store, key, one="x" * 8192).folder, (age, age))
    gone = store.collect(limit=2 * 8192, keep=[keys[0]])
    assert [entry.key for entry in gone] == [keys[1]]


def test_image_digest_does_not_depend_on_holes(tmp_path: Path) -> None:
    sparse, full = tmp_path / "sparse.img", tmp_path / "full.img"
    with sparse.open("wb") as file:
        file.seek(5 << 20)
        file.write(b"data")
        file.truncate(9 << 20)
    full.write_bytes(sparse.read_bytes())
    assert sparse.stat().st_blocks < full.stat().st_blocks
    assert file_digest(sparse) == file_digest(full)


@given(st.integers(0, (3 << 20) - 1), st.integers(1, 255))
def test_image_digest_covers_every_byte(tmp_path_factory: pytest.TempPathFactory, position: int, value: int) -> None:
    image = tmp_path_factory.mktemp("image") / "disk.img"
    with image.open("wb") as file:
        file.truncate(3 << 20)
    blank = file_digest(image)
    with image.open("r+b") as file:
        file.seek(position)
        file.write(bytes([value]))
    assert file_digest(image) != blank


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())))
def test_canonical_json_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    assert canonical(value) == canonical(dict(reversed(value.items())))
