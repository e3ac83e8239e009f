"""Roots of RPM packages, installed by the suite's own rpm: what they hold, the same bytes twice, what goes wrong."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import stat
import struct
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pipeline import listing
from pipeline.doctor import isolation
from pipeline.errors import BuildError
from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.rpm import database, fetch, index, layer, resolve, root
from pipeline.packages.rpm.assemblers import Base
from pipeline.packages.rpm.files import extract
from pipeline.sandbox import SOURCE_DATE_EPOCH, environment
from pipeline.step import Builder, Input
from tests import rpmsuite
from tests.namespaced import inside, job
from tests.rpmsuite import DATABASE, Suite

BASE = ["filesystem", "setup", "busybox", "rpm"]
#: A package that is there for two architectures, with a program at one path.
TWINS: dict[str, Callable[[], bytes]] = {
    "x86_64": Path("/usr/bin/true").read_bytes,
    "i686": partial(isolation.program_32_bit, b""),
}
TOP = ["app", "owned", "looks"]
FAILING = {
    "pre-fails": (
        "%pre\necho it is not so >&2\nexit 3\n",
        r"pre-fails-1-1\.noarch: its script %prein? failed: exit status 3",
    ),
    "post-fails": ("%post\nexit 4\n", r"post-fails-1-1\.noarch: its script %post failed: exit status 4"),
    "calls-nothing": ("%post\nno-such-program\nexit 0\n", ".*did not find what it calls: no-such-program: not found"),
    "nobodys": (
        "",
        ".*root's: user nobody-here does not exist",
    ),
    "damaged": ("", r"damaged-1-1\.noarch cannot be unpacked: .*cpio: "),
    "cut-off": ("", r"cut-off-1-1\.noarch cannot be unpacked: .*cpio: "),
}
#: What somebody has done to a file before it was published.
SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "damaged": lambda content: content[:-9] + bytes(byte ^ 255 for byte in content[-9:]),
    "cut-off": lambda content: content[:-9],
}
ASSEMBLED = ["target-rpm", "host-rpm", "justdb"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite, locked and fetched: `base`, and on top of it `top`, and packages that fail."""
    place = tmp_path_factory.mktemp("root")
    suite = rpmsuite.make(place / "suite")
    suite.base()
    rpm = suite.rpm
    rpm("app", "1", tags="Requires(post): busybox", scripts="%post\ncp /usr/share/app/data /etc/app.made\n")
    owned = [
        "%attr(4755,root,root) /usr/bin/setuid",
        "%attr(0640,root,daemon) /etc/secret",
        "%dir %attr(2775,root,daemon) /srv",
    ]
    rpm("owned", "1", files={"/usr/bin/setuid": "#!x", "/etc/secret": "s", "/srv/x": ""}, listed=owned)
    rpm("looks", "1", tags="Requires: app", scripts='%post\nsleep 1000 &\n[ "$1" = 1 ] && test -e /etc/app.made\n')
    for name, (script, _) in FAILING.items():
        listed = [f"%attr(0644,nobody-here,root) /usr/share/{name}/data"] if name == "nobodys" else []
        file = rpm(name, "1", scripts=script, listed=listed)
        file.write_bytes(SPOILED.get(name, bytes)(file.read_bytes()))
    for architecture, program in TWINS.items():
        tree = place / "twins" / architecture
        (tree / "usr/bin").mkdir(parents=True)
        (tree / "usr/bin/twin").write_bytes(program())
        (tree / "usr/bin/twin").chmod(0o755)
        rpm("twin", "1", architecture=architecture, tree=tree)
    suite.publish()
    _locked(place, suite, "base", [*BASE, *(f"twin.{architecture}" for architecture in TWINS)])
    for name, wanted in {"top": TOP, **{name: [name] for name in FAILING}}.items():
        _locked(place, suite, name, wanted, place / "base/lock/out")
    inside(build_both, place, "one")
    return place


def _locked(place: Path, suite: Suite, name: str, wanted: list[str], base: Path | None = None) -> None:
    params = {"distro": "tiny", "repositories": [{"name": "base", "path": "base"}], "architecture": "x86_64",
              "mirror": str(suite.root), "keys": [], "packages": dict.fromkeys(wanted, "a test")}  # fmt: skip
    found = job(place / name / "index", params)
    index.build(found)
    inputs = [Input("index", "", found.out, ""), *([Input("base", "", base, "")] if base else [])]
    made = job(place / name / "lock", params, *inputs)
    resolve.build(made)
    fetch.build(job(place / name / "fetch", params, Input("lock", "", made.out, ""), pool=place / "pool"))


def _built(
    place: Path, name: str, number: str, builder: Builder, *below: Input, assembler: str = "target-rpm"
) -> Input:
    """Inner side: one layer."""
    os.environ.update(environment())
    inputs = [Input(role, "", place / name / role / "out", "") for role in ("lock", "fetch")]
    made = job(
        place / f"{name}-{number}",
        {"database": DATABASE, "assembler": assembler, "architecture": "x86_64"},
        *below,
        *inputs,
    )
    builder(made)
    digest = hashlib.sha256((made.out / stacking.LAYER).read_bytes()).hexdigest()
    return Input("layer", name, made.out, digest)


def build_both(folder: str, number: str) -> None:
    """Inner side: the base root, and a layer on top of it."""
    place = Path(folder)
    base = _built(place, "base", number, root.build)
    top = _built(place, "top", number, layer.build, base)
    print(base.digest, top.digest)


def assemble(folder: str, assembler: str, number: str) -> None:
    """Inner side: the base root by one of the assemblers; what is in it."""
    place = Path(folder) / assembler / number
    place.mkdir(parents=True)
    for role in ("lock", "fetch"):
        (place / "base" / role).mkdir(parents=True)
        (place / "base" / role / "out").symlink_to(Path(folder) / "base" / role / "out")
    made = _built(place, "base", number, root.build, assembler=assembler)
    for name, entry in listing.load((made.path / "layer.list").read_text()).items():
        if not name.startswith(DATABASE.lstrip("/")):
            print(name, entry)
    print("digest", made.digest)


def look(folder: str, number: str) -> None:
    """Inner side: what is in the root with both layers."""
    place = Path(folder)
    layers = [
        Input("layer", name, place / f"{name}-{number}/out",
              hashlib.sha256((place / f"{name}-{number}/out" / stacking.LAYER).read_bytes()).hexdigest())
        for name in ("base", "top")
    ]  # fmt: skip
    with stacking.stacked(job(place / "look"), layers) as tree:
        for path in ("usr/bin/setuid", "etc/secret", "srv", "tmp", "root", "etc/app.made", "bin", "etc/machine-id"):
            found = (tree / path).lstat()
            print(path, oct(stat.S_IMODE(found.st_mode)), found.st_uid, found.st_gid, stat.S_ISLNK(found.st_mode))
        copy = place / "rpmdb.sqlite"
        copy.write_bytes((tree / DATABASE.lstrip("/") / "rpmdb.sqlite").read_bytes())
        print("left", [path.name for path in (tree / DATABASE.lstrip("/")).iterdir()])


def test_what_a_root_holds(folder: Path) -> None:
    said = inside(look, folder, "one").splitlines()
    assert said[:8] == [
        "usr/bin/setuid 0o4755 0 0 False",
        "etc/secret 0o640 0 2 False",
        "srv 0o2775 0 2 False",
        "tmp 0o1777 0 0 False",
        "root 0o700 0 0 False",
        "etc/app.made 0o644 0 0 False",
        "bin 0o777 0 0 True",
        "etc/machine-id 0o444 0 0 False",
    ]
    assert said[8] == "left ['rpmdb.sqlite']"
    with sqlite3.connect(folder / "rpmdb.sqlite") as connection:
        names = {
            row[0].decode() if isinstance(row[0], bytes) else row[0]
            for row in connection.execute("SELECT key FROM Name")
        }
        assert names == {*BASE, *TOP, "twin"}
        times = {struct.unpack("=i", key)[0] for (key,) in connection.execute("SELECT key FROM Installtid")}
        assert times == {SOURCE_DATE_EPOCH}
    locked = {one.name for name in ("base", "top") for one in lock.read(folder / name / "lock/out" / lock.NAME)}
    assert names == locked


@pytest.mark.parametrize("assembler", ASSEMBLED)
def test_of_programs_for_two_architectures_the_64_bit_one_is_there(folder: Path, assembler: str) -> None:
    listed = inside(assemble, folder, assembler, "twins")
    (line,) = [line for line in listed.splitlines() if line.startswith("usr/bin/twin ")]
    assert f"{len(TWINS['x86_64']())} bytes" in line, line


def test_the_same_packages_give_the_same_bytes(folder: Path) -> None:
    assert inside(build_both, folder, "two").split()[-2:] == inside(build_both, folder, "three").split()[-2:]


@pytest.mark.parametrize("assembler", ASSEMBLED[1:])
def test_all_assemblers_give_the_same_root(folder: Path, assembler: str) -> None:
    usual = inside(assemble, folder, ASSEMBLED[0], f"for-{assembler}").splitlines()
    first, second = (inside(assemble, folder, assembler, number).splitlines() for number in ("one", "two"))
    assert first == second
    assert first[:-1] == usual[:-1]
    assert any(line.startswith("usr/bin/rpm") for line in first)


def fail(folder: str, name: str) -> None:
    """Inner side: a layer that fails."""
    place = Path(folder)
    base = place / "base-one/out"
    digest = hashlib.sha256((base / stacking.LAYER).read_bytes()).hexdigest()
    try:
        _built(place, name, "failing", layer.build, Input("layer", "base", base, digest))
    except BuildError as error:
        print(f"told: {error.message}\ntail: {error.tail}\nhint: {error.hint}")


@pytest.mark.parametrize("name", FAILING)
def test_what_fails_is_told_with_its_package(folder: Path, name: str) -> None:
    said = inside(fail, folder, name)
    assert re.search(f"told: {FAILING[name][1]}", said), said
    assert "# chroot" not in said and "should not be used" not in said, said


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/etc", "there is a folder"),
        ("/etc/passwd/x", "a file stands where it needs a folder"),
        ("/etc/circle/x", "links on the way lead in a circle"),
        ("/etc/" + "x" * 300, "its name is too long"),
    ],
    ids=range(4),
)
def test_what_is_in_the_way_of_a_file_of_the_recipe(tmp_path: Path, path: str, told: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").touch()
    (tmp_path / "etc/circle").symlink_to("circle")
    base = Base(tmp_path, [], tmp_path, DATABASE, "x86_64", tmp_path, tmp_path / "log", {path: "text"})
    with pytest.raises(BuildError, match=f"the recipe's file {path} cannot be put into the root: {told}"):
        base.begin()


def unpack(folder: str) -> None:
    """Inner side: a package with a link in place of a folder, and the next one with a file in that folder."""
    place = Path(folder)
    (place / "unpacked").mkdir()
    extract(sorted((place / "suite/mirror/links/Packages").iterdir()), place / "unpacked", place)
    within = place / "unpacked" / str(place / "outside").lstrip("/")
    print(*("|".join(sorted(path.name for path in one.iterdir())) for one in (place / "outside", within)), sep=";")


def test_no_link_of_a_package_leads_out(folder: Path) -> None:
    suite = Suite(folder / "suite/mirror", folder / "suite/made")
    (folder / "outside").mkdir()
    tree = folder / "evil"
    tree.mkdir()
    (tree / "evil").symlink_to(folder / "outside")
    suite.rpm("aa", repository="links", tree=tree, files={f"{folder}/outside/kept": "x"})
    suite.rpm("bb", repository="links", files={"/evil/file": "x"})
    said = inside(unpack, folder)
    assert said.splitlines()[-1] == ";file|kept"


def rebuild(folder: str) -> None:
    """Inner side: a Berkeley DB of a lower layer is rebuilt by this machine's rpm, which writes its own kind."""
    place = Path(folder)
    os.environ.update({**environment(), "RPM_FORCE_DEBIAN": "1"})
    below = job(place / "below")
    with stacking.changed(below) as tree:
        (tree / "var/lib/rpm").mkdir(parents=True)
        number = 'tie(my %table, "DB_File", $ARGV[0], O_RDWR | O_CREAT, 0644, $DB_HASH); $table{"\\0" x 4} = "\\0" x 4;'
        subprocess.run(["perl", "-MDB_File", "-MFcntl", "-e", number, tree / "var/lib/rpm/Packages"], check=True)
    digest = hashlib.sha256((below.out / stacking.LAYER).read_bytes()).hexdigest()
    above = job(place / "above")
    with stacking.changed(above, [Input("layer", "below", below.out, digest)]) as tree:
        own = tree / "var/lib/rpm"
        database.settle(own, lambda: subprocess.run(["rpm", "--dbpath", own, "--rebuilddb"], check=True))
        print("left", *sorted(path.name for path in own.parent.iterdir()))
    print("layer", *listing.load((above.out / "layer.list").read_text()))


def test_a_database_of_a_lower_layer_is_rebuilt(tmp_path: Path) -> None:
    """Which rpm does in a folder of its own, that takes the name of the one that was there."""
    left, changed = inside(rebuild, tmp_path).splitlines()[-2:]
    assert left == "left rpm"
    assert {f"{DATABASE.lstrip('/')}/{name}" for name in ("Packages", "rpmdb.sqlite")} < set(changed.split())


def test_a_header_without_the_times() -> None:
    header = struct.pack(">IIIIiIIIiI", 2, 8, 1008, 4, 0, 1, 1000, 4, 4, 1) + struct.pack(">II", 5, 6)
    changed = database.timeless(header)
    assert struct.unpack(">II", changed[-8:]) == (SOURCE_DATE_EPOCH, 6)
    with pytest.raises(ValueError, match="no header"):
        database.timeless(header[:-1])
