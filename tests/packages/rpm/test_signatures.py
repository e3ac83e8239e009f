"""What is not as its repository, its lock or its signature says is refused: real keys, packages signed by rpmsign."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BuildError, UserError
from pipeline.packages import lock
from pipeline.packages.rpm import fetch, index, resolve, signatures
from pipeline.step import Input
from tests import rpmsuite
from tests.growing import require_linear
from tests.namespaced import job
from tests.rpmsuite import Suite


@dataclass(frozen=True)
class Signer:
    """A key of its own."""

    home: Path

    @property
    def public(self) -> Path:
        return self.home / "public.asc"

    def gpg(self, *words: str | Path) -> None:
        subprocess.run(
            ["gpg", "--homedir", self.home, "--batch", "--yes", "--quiet", "--passphrase", "", *words],
            check=True,
            timeout=120,
        )

    def sign(self, package: Path) -> None:
        macros = {"_gpg_name": "signer", "__gpg": shutil.which("gpg"), "_gpg_path": self.home}
        defined = [word for macro, value in macros.items() for word in ("--define", f"{macro} {value}")]
        environment = {**os.environ, "RPM_FORCE_DEBIAN": "1"}
        subprocess.run(["rpmsign", *defined, "--addsign", package], check=True, env=environment, timeout=120)


def signer(home: Path) -> Signer:
    home.mkdir(mode=0o700)
    made = Signer(home)
    made.gpg("--quick-generate-key", "signer", "rsa2048", "sign", "never")
    made.gpg("--armor", "--export", "--output", made.public)
    return made


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Signer, Signer]]:
    """The distribution's, and a stranger's."""
    made = signer(tmp_path_factory.mktemp("keys") / "own"), signer(tmp_path_factory.mktemp("keys") / "strange")
    yield made
    for one in made:
        subprocess.run(["gpgconf", "--homedir", one.home, "--kill", "all"], check=True, timeout=60)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Signer, Signer]) -> Suite:
    made = rpmsuite.make(tmp_path_factory.mktemp("suite"))
    own, strange = keys
    own.sign(made.rpm("good"))
    own.sign(made.rpm("zero", epoch="0"))
    own.sign(made.rpm("needs-good", tags="Requires: good"))
    strange.sign(made.rpm("strange"))
    made.rpm("unsigned")
    repomd = made.publish() / "repodata/repomd.xml"
    own.gpg("--armor", "--detach-sign", "--output", f"{repomd}.asc", repomd)
    return made


def params(suite: Suite, *keys: Signer, **more: Any) -> dict[str, Any]:
    return {
        "distro": "tiny",
        "repositories": [{"name": "base", "path": "base", "signed": True}],
        "architecture": "x86_64",
        "mirror": str(suite.root),
        "keys": [str(key.public) for key in keys],
        **more,
    }


def locked(folder: Path, given: dict[str, Any], *wanted: str) -> Input:
    found = job(folder / "index", given)
    index.build(found)
    made = job(
        folder / "lock", {**given, "packages": dict.fromkeys(wanted, "a test")}, Input("index", "", found.out, "")
    )
    resolve.build(made)
    return Input("lock", "", made.out, "")


def fetched(folder: Path, given: dict[str, Any], found: Input) -> list[str]:
    made = job(folder / "fetch", given, found, pool=folder / "pool")
    fetch.build(made)
    return sorted(path.name for path in (made.out / "packages").iterdir())


def test_what_the_distribution_signed_is_taken(suite: Suite, keys: tuple[Signer, Signer], tmp_path: Path) -> None:
    given = params(suite, keys[0])
    assert fetched(tmp_path, given, locked(tmp_path, given, "needs-good", "zero")) == [
        "good-1-1.noarch.rpm",
        "needs-good-1-1.noarch.rpm",
        "zero-1-1.noarch.rpm",
    ]


@pytest.mark.parametrize("name", ["unsigned", "strange"])
def test_other_packages_are_refused_by_name(
    suite: Suite, keys: tuple[Signer, Signer], tmp_path: Path, name: str
) -> None:
    given = params(suite, keys[0])
    found = locked(tmp_path, given, "good", name)
    with pytest.raises(BuildError, match="not signed by a key of the recipe: 1 of 2 packages") as caught:
        fetched(tmp_path, given, found)
    assert f"{name}-1-1.noarch.rpm" in caught.value.tail and "good" not in caught.value.tail


def test_metadata_that_a_stranger_signed_are_refused(suite: Suite, keys: tuple[Signer, Signer], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="its metadata are not signed by a key of the recipe"):
        locked(tmp_path / "strange", params(suite, keys[1]), "good")
    changed = Suite(Path(shutil.copytree(suite.root, tmp_path / "mirror")), suite.folder)
    repomd = changed.root / "base/repodata/repomd.xml"
    repomd.write_bytes(repomd.read_bytes() + b"\n")
    with pytest.raises(BuildError, match="its metadata are not signed by a key of the recipe"):
        locked(tmp_path / "changed", params(changed, keys[0]), "good")


def test_no_keys_in_a_file_of_keys(suite: Suite, tmp_path: Path) -> None:
    none = Signer(tmp_path)
    with pytest.raises(BuildError, match=r"public\.asc are missing"):
        locked(tmp_path / "1", params(suite, none), "good")
    none.public.write_text("these are no keys\n")
    with pytest.raises(BuildError, match="holds no OpenPGP keys"):
        locked(tmp_path / "2", params(suite, none), "good")


@pytest.mark.parametrize("line", ["Version: 1\n", "-----BEGIN PGP SIGNATURE-----\n\n", "\n", "abcd\n", "=abc\n", "-"])
def test_time_for_keys_grows_with_their_file(tmp_path: Path, line: str) -> None:
    file = tmp_path / "key.asc"

    def read(size: int) -> None:
        file.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n" + line * size)
        made = job(tmp_path, {"keys": [str(file)]})
        with pytest.raises(BuildError, match="holds no OpenPGP keys"):
            signatures.Keys.of(made)

    require_linear(read)


def test_keys_as_people_paste_them(keys: tuple[Signer, Signer], tmp_path: Path) -> None:
    """Several in a file, with words between them, headers, and lines that end as on other systems."""
    file = tmp_path / "keys.asc"
    texts = [one.public.read_text() for one in keys]
    pasted = "Our keys:\n\n" + "and another one:\n".join(texts) + "the end\n"
    headed = pasted.replace("BLOCK-----\n\n", "BLOCK-----\nVersion: x\nComment: y\n\n")
    data = tmp_path / "data"
    data.write_bytes(b"data")
    for text in (pasted, headed, pasted.replace("\n", "\r\n")):
        file.write_bytes(text.encode())
        found = signatures.Keys.of(job(tmp_path, {"keys": [str(file)]}))
        for number, one in enumerate(keys):
            signed = tmp_path / f"{number}.asc"
            signed.unlink(missing_ok=True)
            one.gpg("--armor", "--detach-sign", "--output", signed, data)
            found.require(b"data", signed.read_bytes(), "it")
    file.write_text(texts[0].rpartition("-----END")[0])
    with pytest.raises(BuildError, match="holds no OpenPGP keys"):
        signatures.Keys.of(job(tmp_path, {"keys": [str(file)]}))


def test_a_package_that_is_not_what_was_locked(suite: Suite, tmp_path: Path) -> None:
    """Another one of the same size, a truncated one, one that is gone; and metadata that have changed since."""
    changed = Suite(Path(shutil.copytree(suite.root, tmp_path / "mirror")), suite.folder)
    given = params(changed, repositories=[{"name": "base", "path": "base"}])
    found = locked(tmp_path, given, "good")
    package = changed.root / "base/Packages/good-1-1.noarch.rpm"
    content = package.read_bytes()
    for number, wrong in enumerate((content[:-1] + bytes([content[-1] ^ 1]), content[:-9], None)):
        package.unlink()
        if wrong is not None:
            package.write_bytes(wrong)
        with pytest.raises(UserError) as caught:
            fetched(tmp_path / str(number), given, found)
        assert "good-1-1.noarch.rpm" in caught.value.message, caught.value.message
        assert list((tmp_path / str(number) / "pool").rglob("good*")) == []
        package.write_bytes(content)
    (changed.root / "base/repodata/repomd.xml").write_text("<html>")  # what was locked needs no metadata any more
    assert fetched(tmp_path / "last", given, found) == ["good-1-1.noarch.rpm"]
    (one,) = json.loads((found.path / lock.NAME).read_text())["packages"]
    assert one["name"] == "good" and len(one["sha256"]) == 64


@pytest.mark.parametrize(
    "href",
    ["../../good.rpm", "/etc/good.rpm", "http://elsewhere/good.rpm", "a&#10;b.rpm", "..", "x[a].rpm", "-e.rpm", ""],
)
def test_a_file_that_is_said_to_be_elsewhere(suite: Suite, tmp_path: Path, href: str) -> None:
    changed, given = spoiled(suite, tmp_path)
    change_primary(changed, 'href="Packages/good-1-1.noarch.rpm"', f'href="{href}"')
    with pytest.raises(BuildError, match=r"good-1-1.noarch: its file is said to be"):
        locked(tmp_path, given, "good")


def test_metadata_of_another_package_than_the_file_holds(suite: Suite, tmp_path: Path) -> None:
    """As where an old package that was signed is called new, by somebody on the way."""
    changed, given = spoiled(suite, tmp_path)
    change_primary(changed, '<name>good</name>\n  <arch>noarch</arch>\n  <version epoch="0" ver="1"',
                   '<name>good</name>\n  <arch>noarch</arch>\n  <version epoch="0" ver="9"')  # fmt: skip
    found = locked(tmp_path, given, "good")
    with pytest.raises(BuildError, match=r"good-1-1.noarch.rpm is good 1-1 noarch, and its metadata say good 9-1"):
        fetched(tmp_path, given, found)


def test_files_of_one_name(suite: Suite, tmp_path: Path) -> None:
    changed, given = spoiled(suite, tmp_path)
    change_primary(changed, 'href="Packages/good-1-1.noarch.rpm"', 'href="other/unsigned-1-1.noarch.rpm"')
    with pytest.raises(BuildError, match="its file is called unsigned-1-1"):
        locked(tmp_path, given, "good", "unsigned")
    change_primary(changed, 'href="other/unsigned-1-1.noarch.rpm"', 'href="./Packages/./good-1-1.noarch.rpm"')
    assert locked(tmp_path / "again", given, "good")  # as some tools write them


def test_damaged_metadata_whose_checksum_is_right(suite: Suite, tmp_path: Path) -> None:
    changed, given = spoiled(suite, tmp_path)
    primary = changed.root / "base/repodata/primary.xml.gz"
    content = bytearray(primary.read_bytes())
    content[30:60] = b"\xff" * 30
    publish(changed, bytes(content))
    with pytest.raises(BuildError, match="says: damaged"):
        locked(tmp_path, given, "good")


def test_mirrors_that_are_none(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mirror in ("ftp://mirror.example/x", "http://[x"):
        with pytest.raises(UserError, match="is no mirror"):
            locked(tmp_path / mirror.partition(":")[0], params(suite, mirror=mirror), "good")
    monkeypatch.setenv("XEN_OSCAR_MIRROR_TINY", "./mirror")
    with pytest.raises(UserError, match="is no whole path"):
        locked(tmp_path / "relative", params(suite), "good")


def spoiled(suite: Suite, folder: Path) -> tuple[Suite, dict[str, Any]]:
    """A copy to change, that nobody signed; and what a recipe says of it."""
    made = Suite(Path(shutil.copytree(suite.root, folder / "mirror")), suite.folder)
    return made, params(made, repositories=[{"name": "base", "path": "base"}])


def change_primary(suite: Suite, old: str, new: str) -> None:
    primary = suite.root / "base/repodata/primary.xml.gz"
    text = gzip.decompress(primary.read_bytes()).decode()
    assert old in text
    publish(suite, gzip.compress(text.replace(old, new).encode()))


def publish(suite: Suite, primary: bytes) -> None:
    """Put these metadata into a repository, with the checksum that they have now."""
    folder = suite.root / "base/repodata"
    before = hashlib.sha256((folder / "primary.xml.gz").read_bytes()).hexdigest()
    size = (folder / "primary.xml.gz").stat().st_size
    (folder / "primary.xml.gz").write_bytes(primary)
    repomd = folder / "repomd.xml"
    text = repomd.read_text().replace(before, hashlib.sha256(primary).hexdigest())
    repomd.write_text(text.replace(f"<size>{size}</size>", f"<size>{len(primary)}</size>"))
