"""Layers: one normal form, and stacked they give back the tree that was written."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import sandbox
from pipeline.errors import UserError
from pipeline.layers import cache, stacking
from pipeline.step import Input, Spoiled
from tests import oddfiles
from tests.namespaced import inside, job, subordinate_user

#: cap_net_raw+ep, as setcap writes it.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def make(folder: Path, name: str, change: Callable[[Path], object], *below: Input) -> Input:
    """Inner side: a layer with a change on top of others."""
    work = job(folder / name, None, *below, pool=folder / "artifacts/pool")
    sandbox.scratch(work.work, 1 << 30)
    with stacking.changed(work, below) as root:
        change(root)
    file = work.out / stacking.LAYER
    return Input("layer", f"layer:{name}", work.out, hashlib.sha256(file.read_bytes()).hexdigest())


@contextlib.contextmanager
def look(folder: Path, *stack: Input) -> Iterator[Path]:
    """Inner side: layers as one tree."""
    work = job(folder / f"look-{time.monotonic_ns()}-{os.getpid()}", pool=folder / "artifacts/pool")
    with stacking.stacked(work, stack) as root:
        yield root


def content(layer: Input) -> list[str]:
    """The names in a layer; of a removed one with a minus in front."""
    plain = subprocess.run(["zstd", "-dc", str(layer.file(stacking.LAYER))], check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        return [
            f"-{member.name}" if member.ischr() else f"{member.name}/" if member.isdir() else member.name
            for member in tar
        ]


def tree(root: Path) -> dict[str, str]:
    """What there is: type, mode, owner, content."""
    found = {}
    for path in sorted(root.rglob("*")):
        state = path.lstat()
        what = path.read_text() if path.is_file() and not path.is_symlink() else ""
        target = str(path.readlink()) if path.is_symlink() else ""
        owner = f"{state.st_uid}:{state.st_gid}"
        found[str(path.relative_to(root))] = f"{stat.filemode(state.st_mode)} {owner} {target}{what}"
    return found


def base(root: Path) -> None:
    for name in ("keep", "edit", "delete", "etc/passwd", "dir/a", "dir/b/c", "gone/x", "swap/file"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "swap/link").symlink_to("file")
    os.link(root / "keep", root / "linked")
    (root / "tool").write_text("tool")
    os.setxattr(root / "tool", "security.capability", CAPABILITY)
    os.chown(root / "edit", 7, 8)
    (root / "edit").chmod(0o4750)


def edit(root: Path) -> None:
    (root / "edit").write_text("edited")
    (root / "edit").chmod(0o4750)  # a write takes the bit off, for an ordinary user
    (root / "delete").unlink()
    (root / "etc/passwd").write_text("etc/passwd")  # the same again: only its time, which is clamped
    shutil.rmtree(root / "gone")
    shutil.rmtree(root / "dir")
    (root / "dir/b").mkdir(parents=True)  # replaced: a is gone, b/c is what it was, new is new
    (root / "dir/b/c").write_text("dir/b/c")
    (root / "dir/new").write_text("new")
    shutil.rmtree(root / "swap")
    (root / "swap").write_text("a file now")
    (root / "var/log").mkdir(parents=True)
    (root / "var/log/dpkg.log").write_text("today")
    (root / "var/log/wtmp").touch()
    (root / "etc/ssh").mkdir()
    (root / "etc/ssh/ssh_host_ed25519_key").write_text("secret")
    (root / "tmp").mkdir()
    (root / "tmp/x").write_text("x")


def in_one_normal_form(folder: str) -> None:
    place = Path(folder)
    first = make(place, "base", base)
    assert content(first) == [
        "delete",
        "dir/",
        "dir/a",
        "dir/b/",
        "dir/b/c",
        "edit",
        "etc/",
        "etc/passwd",
        "gone/",
        "gone/x",
        "keep",
        "linked",
        "swap/",
        "swap/file",
        "swap/link",
        "tool",
    ]
    second = make(place, "edit", edit, first)
    assert sorted(content(second)) == sorted(
        [
            "-delete",
            "-gone",
            "-dir/a",
            "dir/",
            "dir/new",
            "edit",
            "etc/",
            "etc/ssh/",
            "swap",
            "tmp/",
            "var/",
            "var/log/",
            "var/log/wtmp",
        ]
    )
    assert make(place, "base again", base).digest == first.digest
    assert make(place, "edit again", edit, first).digest == second.digest
    with look(place, first, second) as root:
        found = tree(root)
        assert os.getxattr(root / "tool", "security.capability") == CAPABILITY
        assert (root / "keep").stat().st_nlink == 2
        assert int((root / "edit").stat().st_mtime) == sandbox.SOURCE_DATE_EPOCH
        with pytest.raises(OSError, match="Read-only"):
            (root / "new").write_text("x")
    assert "delete" not in found
    assert "gone" not in found
    assert {name for name in found if name.startswith("dir")} == {"dir", "dir/b", "dir/b/c", "dir/new"}
    assert found["swap"] == "-rw-r--r-- 0:0 a file now"
    assert found["edit"] == "-rwsr-x--- 7:8 edited"


def test_layers_are_in_one_normal_form(folder: Path) -> None:
    inside(in_one_normal_form, folder)


def test_and_the_same_on_disk(folder: Path) -> None:
    inside(on_disk, folder)


def on_disk(folder: str) -> None:
    sandbox._TMPFS_NEEDS = cache._RESERVE = 1 << 60
    cache._MEMORY = Path(folder) / "no memory"
    in_one_normal_form(folder)
    assert list((Path(folder) / "artifacts/cache/layers").glob("*"))


def rename(root: Path) -> None:
    edit(root)
    try:
        (root / "moved").rename(root / "there")
    except OSError as error:  # as a command in the root would be told of
        raise UserError("rename", tail=str(error)) from None


def renaming(folder: str) -> None:
    place = Path(folder)

    def with_more(root: Path) -> None:
        base(root)
        (root / "moved/deep").mkdir(parents=True)
        (root / "moved/deep/file").write_text("x")

    first = make(place, "base", with_more)
    work = job(place / "rename", None, first, pool=place / "artifacts/pool")
    sandbox.scratch(work.work, 1 << 30)
    with pytest.raises(UserError), stacking.changed(work) as root:
        rename(root)
    stacking.change(work, rename)
    # the rest is what the same change gives without a rename
    rest = content(make(place, "edit", edit, first))
    assert sorted(content(Input("layer", "", work.out, ""))) == sorted(
        [*rest, "-moved", "there/", "there/deep/", "there/deep/file"]
    )


def test_a_folder_of_a_lower_layer_can_be_renamed(folder: Path) -> None:
    inside(renaming, folder)


def capabilities(folder: str) -> None:
    place = Path(folder)
    first = make(place, "base", base)

    def setcap(root: Path) -> None:
        os.setxattr(root / "keep", "security.capability", CAPABILITY)

    def same(root: Path) -> None:
        (root / "tool").write_text("tool")
        os.setxattr(root / "tool", "security.capability", CAPABILITY)

    def dropped(root: Path) -> None:
        os.removexattr(root / "tool", "security.capability")

    assert "keep" in content(make(place, "setcap", setcap, first))
    assert content(make(place, "same", same, first)) == []
    third = make(place, "dropped", dropped, first)
    assert content(third) == ["tool"]
    with look(place, first, third) as root, pytest.raises(OSError):
        os.getxattr(root / "tool", "security.capability")


def test_a_capability_alone_is_a_change(folder: Path) -> None:
    inside(capabilities, folder)


def deep(folder: str) -> None:
    """What one layer removes another may bring back, and the other way round."""
    place = Path(folder)

    def write(text: str) -> Callable[[Path], None]:
        def change(root: Path) -> None:
            (root / "a/b").mkdir(parents=True, exist_ok=True)
            (root / "a/b/c").write_text(text)

        return change

    def remove(root: Path) -> None:
        shutil.rmtree(root / "a")

    stack = [make(place, "1", write("one"))]
    stack.append(make(place, "2", remove, *stack))
    stack.append(make(place, "3", write("three"), *stack))
    stack.append(make(place, "4", write("four"), *stack))
    stack.append(make(place, "5", lambda root: (root / "a/b/c").rename(root / "a/d"), *stack))
    assert content(stack[1]) == ["-a"]
    assert content(stack[3]) == ["a/", "a/b/", "a/b/c"]
    with look(place, *stack) as root:
        assert list(tree(root)) == ["a", "a/b", "a/d"]
        assert (root / "a/d").read_text() == "four"
    with look(place, stack[0]) as root:
        assert (root / "a/b/c").read_text() == "one"
    assert content(make(place, "nothing", lambda root: None, *stack)) == []


def test_removed_and_brought_back(folder: Path) -> None:
    inside(deep, folder)


def odd(folder: str) -> None:
    place = Path(folder)

    def change(root: Path) -> None:
        for name in ("-rf", "with space", "new\nline", "ümläut", "a,b:c\\d", "@list", "--help"):
            (root / name).write_text(name)
        os.mkfifo(root / "fifo")
        os.mknod(root / "socket", stat.S_IFSOCK)

    layer = make(place / "odd, and:strange", "odd", change)
    with look(place / "odd, and:strange", layer) as root:
        assert {path.name for path in root.iterdir()} == {
            "-rf",
            "with space",
            "new\nline",
            "ümläut",
            "a,b:c\\d",
            "@list",
            "--help",
            "fifo",
        }


def test_odd_names(folder: Path) -> None:
    inside(odd, folder)


def failing(folder: str) -> None:
    work = job(Path(folder) / "failing")
    with pytest.raises(ZeroDivisionError), stacking.changed(work) as root:
        (root / "x").touch()
        raise ZeroDivisionError
    assert list(work.out.iterdir()) == []


def test_a_failed_builder_leaves_no_layer(folder: Path) -> None:
    inside(failing, folder)


# --- the cache of extracted layers


def _use_memory_at(place: Path) -> None:
    """Inner side: a cache of its own, that is never too full."""
    cache._MEMORY = place / "memory"
    cache._memory(sandbox.outer_uid()).mkdir(mode=0o700, parents=True)
    cache._RESERVE = 0


def eviction(folder: str) -> None:
    place = Path(folder)
    _use_memory_at(place)

    def filler(number: int) -> Callable[[Path], object]:
        return lambda root: (root / f"f{number}").write_text("x" * 100_000)

    made = [make(place, str(number), filler(number)) for number in range(3)]
    sizes = made[0].file(stacking.LAYER).stat().st_size * cache._EXPANSION
    cache._budget = lambda folder: 110_000 + sizes
    kept = cache._MEMORY / f"xen-oscar-{sandbox.outer_uid()}"
    artifacts = place / "artifacts"

    def there() -> set[int]:
        return {number for number in range(3) if (kept / made[number].digest).exists()}

    def use(number: int) -> contextlib.AbstractContextManager[Path]:
        return cache.extracted(made[number].file(stacking.LAYER), made[number].digest, artifacts)

    with use(0) as held:
        with use(1):
            assert there() == {0, 1}
        with use(2):
            assert there() == {0, 2}, "the one that nobody uses goes"
            assert (held / "f0").exists(), "the one in use stays"
    with use(1):
        assert 1 in there()
    (kept / f"{'0' * 64}.part").mkdir()
    (kept / f"{'0' * 64}.lock").touch()
    cache.clear(artifacts)
    assert list(kept.iterdir()) == []


def test_the_cache_is_bounded(folder: Path) -> None:
    inside(eviction, folder)


def seen(place: Path, layer: Input) -> dict[str, str] | None:
    """Inner side: the layer as somebody sees it who uses it; None if that is worth nothing."""
    try:
        with look(place, layer) as root:
            return tree(root)
    except Spoiled:
        return None


def spoiled(folder: str) -> None:
    """Whatever is done to an extracted layer, who uses it next gets it whole or is told so, and then it is whole."""
    place = Path(folder)
    _use_memory_at(place)
    layer = make(place, "base", base)
    whole = seen(place, layer)
    cached = next(cache._MEMORY.glob(f"*/{layer.digest}"))
    for path in [cached, *sorted(cached.rglob("*"))]:
        for applies, spoil in SPOILS:
            if applies(path):
                spoil(path)
                assert seen(place, layer) in (whole, None), path
                assert seen(place, layer) == whole, path
    cached.with_suffix(".lock").unlink()
    (cached / "keep").unlink()
    assert seen(place, layer) == whole
    lock = cached.with_suffix(".lock")
    lock.write_text("0f-an-earlier-boot " + lock.read_text().partition(" ")[2])
    assert seen(place, layer) == whole
    assert lock.read_text().startswith(cache._BOOT_ID.read_text().strip())


def is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def remove(path: Path) -> None:
    if is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink()


def other_content(path: Path) -> None:
    """The same size and time, as a disk with a fault has it, or somebody who is careful."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


#: What can be done to a path, and to which.
SPOILS: tuple[tuple[Callable[[Path], bool], Callable[[Path], object]], ...] = (
    (lambda path: True, remove),
    (is_file, lambda path: path.write_text("")),
    (is_file, other_content),
    (lambda path: not path.is_symlink(), lambda path: path.chmod(0o711)),
    (lambda path: True, lambda path: os.utime(path, (1, 1), follow_symlinks=False)),
    (is_folder, lambda path: (path / "new").touch()),
)


def test_an_extracted_layer_that_is_not_whole_any_more_is_not_used(folder: Path) -> None:
    inside(spoiled, folder)


def while_in_use(folder: str) -> None:
    place = Path(folder)
    _use_memory_at(place)
    layer = make(place, "base", base)
    for fault in (None, RuntimeError("for want of that file")):
        with pytest.raises(Spoiled, match="is not what it was"), look(place, layer):
            remove(next(cache._MEMORY.glob(f"*/{layer.digest}/edit")))
            if fault:
                raise fault
    with look(place, layer) as root:
        assert (root / "edit").exists()


def test_a_layer_that_vanishes_while_it_is_used_makes_no_artifact(folder: Path) -> None:
    inside(while_in_use, folder)


def waits(folder: str) -> None:
    """Inner side: two workers want a layer that nobody has extracted; neither waits for what the other does with it."""
    place = Path(folder)
    layer = Input("layer", "", place / "shared/out", (place / "digest").read_text())
    file = layer.file(stacking.LAYER)
    for _ in range(30):
        cache.clear(place / "artifacts")
        both = threading.Barrier(2, timeout=20)

        def use(both: threading.Barrier = both) -> None:
            with cache.extracted(file, layer.digest, place / "artifacts"):
                both.wait()  # inside at the same time

        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(use) for _ in range(2)]:
                done.result()


def test_workers_that_need_the_same_new_layer_use_it_side_by_side(folder: Path) -> None:
    inside(prepare, folder)
    inside(waits, folder)


def foreign(folder: str) -> None:
    place = Path(folder)
    cache._MEMORY = place / "memory"
    cache._RESERVE = 0
    kept = cache._MEMORY / f"xen-oscar-{sandbox.outer_uid()}"
    kept.mkdir(parents=True, mode=0o777)
    kept.chmod(0o777)
    layer = make(place, "1", lambda root: (root / "x").touch())
    with pytest.raises(UserError, match="not this user's alone"):
        make(place, "2", lambda root: None, layer)


def test_a_cache_that_others_can_write_to_is_refused(folder: Path) -> None:
    inside(foreign, folder)


def without_attributes(folder: str) -> None:
    """Inner side: as with a kernel whose tmpfs has no attributes of users."""
    place = Path(folder)
    _use_memory_at(place)
    cache._holds_attributes = lambda folder: folder.is_relative_to(place / "artifacts")
    plain = make(place, "plain", lambda root: (root / "x").touch())
    noted = make(place, "noted", lambda root: os.setxattr(root / "x", "user.x", b"value"), plain)
    with look(place, plain, noted) as root:
        assert os.getxattr(root / "x", "user.x") == b"value"
    memory = cache._MEMORY / f"xen-oscar-{sandbox.outer_uid()}"
    assert (memory / plain.digest).exists()
    assert (place / "artifacts/cache/layers" / noted.digest).exists()


def test_where_memory_holds_no_attributes_layers_that_have_some_are_on_disk(folder: Path) -> None:
    inside(without_attributes, folder)


def one_of_two(folder: str) -> None:
    """Inner side: take the layer, tell, and hold it a little."""
    place = Path(folder)
    layer = Input("layer", "", place / "shared/out", (place / "digest").read_text())
    with look(place, layer) as root:
        assert len(list(root.iterdir())) == 50


def prepare(folder: str) -> None:
    def many(root: Path) -> None:
        for number in range(50):
            (root / str(number)).write_bytes(os.urandom(20_000))

    (Path(folder) / "digest").write_text(make(Path(folder), "shared", many).digest)


def test_several_workers_and_killed_ones_share_it(folder: Path) -> None:
    inside(prepare, folder)
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(inside, one_of_two, folder) for _ in range(4)]:
            done.result()
    inside(killed, folder, status=137)
    inside(one_of_two, folder)


def killed(folder: str) -> None:
    """Inner side: die in the middle of extracting."""
    place = Path(folder)
    layer = place / "shared/out" / stacking.LAYER
    digest = (place / "digest").read_text()
    tree = cache.folder_for(layer, digest, place / "artifacts") / digest
    cache._remove(tree)
    (tree.with_suffix(".part") / "half").mkdir(parents=True)
    lock = os.open(tree.with_suffix(".lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os._exit(137)


# --- as an ordinary user


def test_an_ordinary_user_gets_the_same_bytes(folder: Path) -> None:
    """Root here becomes a user that has ranges of subordinate ids, if there is one."""
    user = subordinate_user()
    digests = []
    for name in ("root", user):
        place = Path("/dev/shm") / f"xen-oscar-test-{os.getpid()}-{name}"
        place.mkdir()
        try:
            shutil.chown(place, name)
            words = ["setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups"] if name != "root" else []
            inside(digest_of_both, place, prefix=words)
            digests.append((place / "digests").read_text())
        finally:
            subprocess.run(["rm", "-rf", str(place)], check=True)
    assert digests[0] == digests[1]


def digest_of_both(folder: str) -> None:
    place = Path(folder)
    first = make(place, "base", base)
    second = make(place, "edit", edit, first)
    third = make(place, "odd", lambda root: oddfiles.make(root / "odd"), first, second)
    with look(place, first, second, third) as root:
        assert os.getxattr(root / "odd/capable", "security.capability") == CAPABILITY
    (place / "digests").write_text(f"{first.digest} {second.digest} {third.digest}")
