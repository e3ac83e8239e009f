"""The store: whole entries or none, damage is seen, and little-used entries go first."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.digests import canonical, file_digest
from pipeline.errors import BuildError
from pipeline.holding import Holder
from pipeline.store import Entry, Store

KEY = "a" * 64
OTHER = "b" * 64


_PROCESS = """
import sys
from pathlib import Path
from pipeline.store import Store
KEY = {key!r}
store = Store(Path({artifacts!r}))
{code}
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def other_process(artifacts: Path, code: str) -> Iterator[None]:
    """Another run that has done something and lives on; it is killed at the end."""
    program = _PROCESS.format(key=KEY, artifacts=str(artifacts), code=code)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


def left(artifacts: Path, _entry: Entry) -> None:
    """An entry by a run that has ended: as if this process held nothing."""
    for file in (artifacts / "store/.using").iterdir():
        file.unlink()


def made(store: Store, key: str) -> str:
    entry = store.get(key)
    assert entry is not None
    return entry.path.joinpath("one").read_text()


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
    assert len(list((tmp_path / "store" / ".corrupt").glob(f"{KEY}.*"))) == 1
    assert put(store, KEY, one="12345").digest


def test_a_touched_but_equal_file_is_not_corrupt_and_its_time_is_noted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    os.utime(put(store, KEY, one="1").path / "one", (1, 1))
    entry = store.get(KEY)
    assert entry is not None
    assert json.loads((entry.folder / "manifest.json").read_bytes())["files"][0]["mtime_ns"] == 1_000_000_000
    assert store.get(KEY) is not None


def test_what_is_built_again_stays_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = put(store, KEY, one="1").path.joinpath("one").stat().st_ino
    assert put(store, KEY, one="1").path.joinpath("one").stat().st_ino == first
    with pytest.raises(BuildError, match="came out different"):
        put(store, KEY, one="2")
    assert made(store, KEY) == "1"


def test_a_snapshot_that_differs_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, KEY, one="1")
    with store.building(KEY) as folder:
        (folder / "files").mkdir()
        (folder / "files" / "one").write_text("2")
        store.publish(KEY, folder, {}, replace=True)
    assert made(store, KEY) == "2"


# --- removing


def test_what_another_process_uses_is_not_removed(tmp_path: Path) -> None:
    left(tmp_path, put(Store(tmp_path), KEY, one="1"))
    with other_process(tmp_path, "store.hold(KEY)"):
        assert not Store(tmp_path).remove(KEY)
        assert made(Store(tmp_path), KEY) == "1"
    assert Store(tmp_path).remove(KEY)
    assert not list((tmp_path / "store/.using").iterdir()), "who has ended without a word holds nothing"


def test_what_this_process_uses_it_may_remove_itself(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, KEY, one="1")
    assert store.hold(KEY)
    assert store.remove(KEY)


def test_what_is_gone_cannot_be_held(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, KEY, one="1")
    store.remove(KEY)
    assert not store.hold(KEY)


def test_who_lets_go_holds_nothing_and_can_hold_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, KEY, one="1")
    assert store.hold(KEY)
    store.let_go()
    assert not list((tmp_path / "store/.using").iterdir())
    store.let_go()
    assert store.hold(KEY)


def test_a_holder_that_was_handed_over_lives_as_long_as_whoever_has_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    left(tmp_path, put(store, KEY, one="1"))
    holder = Holder(store.root)
    holder.hold([KEY])
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[holder.fileno()]) as cat:
        holder.hand_over()
        assert not Store(tmp_path).remove(KEY)
        cat.communicate()
    assert Store(tmp_path).remove(KEY)


def test_what_a_killed_removal_left_disturbs_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(3):
        put(store, KEY, one="1")
        gone = store.root / ".building" / f"{KEY}.gone"  # as it was called when names were not unique
        gone.mkdir(exist_ok=True)
        (gone / "file").touch()
        assert store.remove(KEY)
    store.clear_leftovers()
    assert not list((store.root / ".building").iterdir())


def test_a_build_that_goes_on_is_no_leftover(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.building(KEY) as folder:
        Store(tmp_path).clear_leftovers()
        (folder / "files").mkdir()
        (folder / "files" / "one").write_text("1")
        store.publish(KEY, folder, {})
    store.clear_leftovers()
    assert made(store, KEY) == "1"


def test_lock_files_go_with_their_entries(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in (KEY, OTHER):
        put(store, key, one="1")
    store.remove(OTHER)
    store.clear_leftovers()
    assert [file.name for file in (store.root / ".locks").glob("?" * 64)] == [KEY]


# --- digests


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
