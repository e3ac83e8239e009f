"""Every way in which an archive cannot be used is told as what it is, with a hint for that and for nothing else."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.packages.deb.apt import network_options
from pipeline.packages.deb.index import build as build_index
from pipeline.packages.deb.mirrors import VARIABLE
from tests.debmirror import Answer, Archive, served
from tests.namespaced import job

PAGE = (200, {"Content-Type": "text/html"}, b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    archive = Archive(folder / "mirror", folder / "gnupg")
    archive.add("apt")
    try:
        yield archive
    finally:
        archive.close()


@pytest.fixture
def archive(archives: Archive, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive that is in order, for a host that is strict about dates."""
    monkeypatch.delenv(VARIABLE, raising=False)
    strict = {"Acquire::Check-Valid-Until": "true", "Acquire::Check-Date": "true", "Acquire::Retries": "0"}
    monkeypatch.setattr("pipeline.packages.deb.index.network_options", lambda: {**network_options(), **strict})
    archives.publish()
    return archives


def refusal(folder: Path, archive: Archive, **params: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        build_index(job(folder, archive.params(**params)))
    return caught.value


@pytest.mark.parametrize(
    ("how", "message", "hint"),
    [
        ({"sums": ["MD5Sum"]}, r"no checksums but weak ones", "SHA256"),
        ({"sums": ["SHA1"], "signed": "detached"}, r"no checksums but weak ones", "SHA256"),
        ({"sums": []}, r"no checksums but weak ones", "SHA256"),
        ({"signed": "no"}, r"the archive is not signed$", "InRelease"),
        ({"release": "Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC\n"}, "out of date", "clock"),
        ({"release": "Date: Sat, 01 Jan 2124 00:00:00 UTC\n"}, "dated in the future", "clock"),
        ({"edit": lambda text: f"<html>\n{text}"}, "not one that apt can read", "apt-ftparchive"),
    ],
    ids=["md5", "sha1", "none", "unsigned", "expired", "future", "no index"],
)
def test_what_is_wrong_with_an_archive(
    archive: Archive,
    tmp_path: Path,
    how: dict[str, Any],
    message: str,
    hint: str,
) -> None:
    archive.publish(**how)
    _check(refusal(tmp_path, archive), f"^file://{archive.root} .*{message}", hint)


def _for(part: str, change: Callable[[bytes], bytes], root: Path) -> Answer:
    """What has `part` in its name is changed on the way."""
    return lambda path: (200, {}, change((root / path[1:]).read_bytes())) if part in path else None


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        (lambda root: lambda path: PAGE, "something that is no archive answers", "log in"),
        (
            lambda root: lambda path: PAGE if path == "/in" else (302, {"Location": "/in"}, b""),
            "no archive answers",
            "log",
        ),
        (lambda root: lambda path: (302, {"Location": path}, b""), "without an end", "`mirror`"),
        (lambda root: lambda path: (401, {"WWW-Authenticate": "Basic realm=x"}, b""), "a name and a password", "open"),
        (lambda root: lambda path: (407, {}, b""), "the proxy wants a name and a password", "http_proxy"),
        (lambda root: lambda path: (403, {}, b""), "refuses to give out", "another"),
        (lambda root: lambda path: (404, {}, b""), "wrong mirror: it does not have this release", "`suites`"),
        (lambda root: lambda path: (503, {}, b""), "trouble of its own", "minutes"),
        (lambda root: lambda path: (404, {}, b"") if "Packages" in path else None, "its Release file names", "minutes"),
        (lambda root: _for("Packages", lambda data: data[:100], root), "index is damaged", "minutes"),
        (lambda root: _for("Packages", lambda data: b"x" + data[1:], root), "index is damaged", "minutes"),
        (lambda root: _for("InRelease", lambda data: data[:300], root), "index is damaged", "minutes"),
        (lambda root: _for("InRelease", lambda data: data.replace(b"ny", b"m"), root), "is not what was", "honest"),
    ],
    ids=[
        "page",
        "page elsewhere",
        "loop",
        "401",
        "407",
        "403",
        "404",
        "503",
        "no Packages",
        "half a Packages",
        "other Packages",
        "half an InRelease",
        "other InRelease",
    ],
)
def test_what_a_mirror_may_answer(
    archive: Archive, tmp_path: Path, answer: Callable[[Path], Answer], message: str, hint: str
) -> None:
    with served(archive.root, answer(archive.root)) as url:
        _check(refusal(tmp_path, archive, mirror=url), f"^{url} .*{message}", hint)


def test_a_mirror_that_is_not_there(archive: Archive, tmp_path: Path) -> None:
    for number, mirror in enumerate(("http://127.0.0.1:9/debian", "http://nowhere.invalid/debian")):
        _check(refusal(tmp_path / str(number), archive, mirror=mirror), f"reached: {mirror}", "check the network")
    _check(refusal(tmp_path / "file", archive, mirror="file:///nowhere"), "wrong mirror", "`mirror`")


def test_keys_that_do_not_belong_to_the_archive(archive: Archive, tmp_path: Path) -> None:
    stranger = Archive(tmp_path / "mirror", tmp_path / "gnupg")
    stranger.close()
    _check(
        refusal(tmp_path / "1", archive, keyring=str(stranger.keyring)),
        "with a key that the keyring does not have",
        "`keyring`",
    )
    for number, keys in enumerate((b"", b"no keys", b"KBXf")):
        (tmp_path / "keys").write_bytes(keys)
        _check(
            refusal(tmp_path / f"none-{number}", archive, keyring=str(tmp_path / "keys")), "is no keyring", "`keyring`"
        )
    _check(refusal(tmp_path / "2", archive, keyring=str(tmp_path)), "Is a directory", "`keyring`")


def test_a_key_that_has_expired(archive: Archive, tmp_path: Path) -> None:
    """gpg is told a day long gone, as if the key had been made then for a day."""
    old = Archive(tmp_path / "mirror", tmp_path / "gnupg")
    try:
        for words in (
            ["--quick-generate-key", "old archive", "ed25519", "sign", "1d"],
            ["--output", str(old.keyring), "--export", "old archive"],
            [
                "--local-user",
                "old archive",
                "--clearsign",
                "--output",
                str(tmp_path / "InRelease"),
                str(tmp_path / "Release"),
            ],
        ):
            release = archive.root / "dists/tiny/InRelease"
            (tmp_path / "Release").write_text(release.read_text().partition("\n\n")[2].partition("-----BEGIN")[0])
            subprocess.run(
                [
                    "gpg",
                    "--homedir",
                    old.home,
                    "--batch",
                    "--yes",
                    "--quiet",
                    "--passphrase",
                    "",
                    "--faked-system-time",
                    "20200101T000000",
                    *words,
                ],
                check=True,
                capture_output=True,
            )
        release.write_bytes((tmp_path / "InRelease").read_bytes())
        error = refusal(tmp_path / "index", archive, keyring=str(old.keyring))
        assert "key that signs the archive has expired" in error.message
        assert "clock" in error.hint and "`keyring`" in error.hint
    finally:
        old.close()


def _check(error: UserError, message: str, hint: str) -> None:
    """One message, and a hint for it and for no other fault."""
    assert re.search(message, error.message), error.render()
    assert hint in error.hint, error.render()
    others = {"check the network", "`keyring`", "clock", "minutes"} - {hint}
    assert not [other for other in others if other in error.hint], error.render()
