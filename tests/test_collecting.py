"""Keeping the artifacts folder small: the least recently used goes first, what is in use stays, nothing ever fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from pipeline.collecting import collect
from pipeline.holding import Holder
from pipeline.locks import locked
from pipeline.store import Entry, Store

_BYTES = 64 << 10


def put(store: Store, letter: str, used: int, text: str = "x") -> Entry:
    """An entry of 64 KiB and a bit, used last so many seconds after the epoch."""
    with store.building(letter * 64) as folder:
        (folder / "files").mkdir()
        (folder / "files" / "data").write_text(text * (_BYTES // len(text)))
        (folder / "manifest.json").touch()
        entry = store.publish(letter * 64, folder, {"task": f"root:{letter}"})
    os.utime(entry.folder, (used, used))
    return entry


def filled(artifacts: Path, letters: str) -> Store:
    """Entries by another run that has ended, the first letter's the longest unused."""
    for age, letter in enumerate(letters):
        put(Store(artifacts), letter, age)
    return Store(artifacts)


def there(store: Store) -> str:
    return "".join(entry.key[0] for entry in store.entries())


def forget_holders(artifacts: Path) -> None:
    """As if the runs that made the entries had ended: this process has let go of nothing."""
    for file in (artifacts / "store/.using").glob("*"):
        file.unlink()


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = filled(tmp_path, "abcd")
    forget_holders(tmp_path)
    done = collect(store, limit=2 * _BYTES + _BYTES // 2)
    assert there(store) == "cd"
    assert [path.name[0] for path in done.gone] == ["a", "b"]
    assert done.freed >= 2 * _BYTES and done.left <= 2 * _BYTES + _BYTES // 2


def test_nothing_goes_while_there_is_room(tmp_path: Path) -> None:
    store = filled(tmp_path, "ab")
    forget_holders(tmp_path)
    assert collect(store, limit=1 << 30).gone == ()
    assert there(store) == "ab"


def test_what_somebody_holds_stays_whatever_the_limit(tmp_path: Path) -> None:
    store = filled(tmp_path, "abc")
    forget_holders(tmp_path)
    holder = Holder(store.root)
    holder.hold(["a" * 64])
    collect(store, limit=0)
    assert there(store) == "a"
    holder.close()
    collect(store, limit=0)
    assert there(store) == ""


def test_packages_count_once_and_go_with_the_last_entry_that_shows_them(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for name in ("old", "new"):
        (pool / f"{name}.deb").write_bytes(b"x" * 4 * _BYTES)
    store = Store(tmp_path)
    for letter, name, used in (("a", "old", 1), ("b", "new", 2)):
        with store.building(letter * 64) as folder:
            (folder / "files").mkdir()
            os.link(pool / f"{name}.deb", folder / "files" / "package.deb")
            os.utime(store.publish(letter * 64, folder, {}).folder, (used, used))
    forget_holders(tmp_path)
    done = collect(Store(tmp_path), limit=6 * _BYTES)
    assert there(store) == "b"
    assert [path.name for path in pool.iterdir() if not path.name.startswith(".")] == ["new.deb"]
    assert 4 * _BYTES <= done.freed < 5 * _BYTES


def test_packages_that_are_being_fetched_stay(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "some.deb").write_bytes(b"x" * _BYTES)
    with locked(pool / ".lock", shared=True):
        collect(Store(tmp_path), limit=0)
        assert (pool / "some.deb").exists()
    collect(Store(tmp_path), limit=0)
    assert not (pool / "some.deb").exists()


def test_what_failed_and_what_does_not_run_goes_as_well(tmp_path: Path) -> None:
    failed, run = tmp_path / "failed/root-x", tmp_path / "run/old"
    for folder in (failed, run):
        folder.mkdir(parents=True)
        (folder / "data").write_bytes(b"x" * _BYTES)
        os.utime(folder, (1, 1))
    gone: list[str] = []
    collect(filled(tmp_path, "a"), limit=2 * _BYTES, idle=[(run, lambda: not gone.append("run"))])  # type: ignore[func-returns-value]
    assert gone == ["run"]
    assert not failed.exists()


def test_collecting_by_many_at_once_never_fails(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                collect(Store(tmp_path), limit=0)
                Store(tmp_path).clear_leftovers()
        except BaseException as error:
            errors.append(error)

    for round_ in range(6):
        filled(tmp_path, "abcdef")
        forget_holders(tmp_path)
        for number in range(20):
            left = tmp_path / "store/.building" / f"{number:064x}"
            (left / "files").mkdir(parents=True)
            (left / "files/half").touch()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, (round_, errors)
        assert there(Store(tmp_path)) == ""
        assert not list((tmp_path / "store/.building").iterdir())


_REMOVER = """
import sys
from pathlib import Path
from pipeline.collecting import collect
from pipeline.store import Store
print("ready", flush=True)
collect(Store(Path(sys.argv[1])), limit=0)
"""


def test_a_kill_at_any_moment_of_removing_leaves_a_store_that_works(tmp_path: Path) -> None:
    for delay in range(12):
        filled(tmp_path, "abcdef")
        forget_holders(tmp_path)
        with subprocess.Popen(
            [sys.executable, "-c", _REMOVER, tmp_path],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(timeout=delay / 1000)  # a moment that differs from one time to the next
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        store = Store(tmp_path)
        for entry in store.entries():
            assert not store.damage(entry)
        put(store, "a", 1)
        assert store.remove("a" * 64)
        collect(store, limit=0)
    assert not list((tmp_path / "store/.building").iterdir())
