"""Secrets that OPKGs declare: read, refused with their line, and in no layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import listing
from pipeline.description import Secret
from pipeline.errors import ManifestError
from pipeline.layers import stacking
from pipeline.layers.cache import LIST
from pipeline.opkgs import secrets
from tests.namespaced import inside, job


def test_what_is_declared(tmp_path: Path) -> None:
    assert secrets.read(tmp_path) == ()
    (tmp_path / "secrets").write_text("# of the cluster\n\n/etc/munge/munge.key 128  # bytes\n/srv/a/key 16\n")
    assert secrets.read(tmp_path) == (Secret("/etc/munge/munge.key", 128), Secret("/srv/a/key", 16))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/etc/key", 'expected "PATH BYTES"'),
        ("/etc/a key 16", 'expected "PATH BYTES"'),
        ("/etc/key 0x10", 'expected "PATH BYTES"'),
        ("/etc/key \u0661\u0666", 'expected "PATH BYTES"'),
        ("/etc/key 15", "expected 16 to 65536"),
        ("/etc/key 99999999", "expected 16 to 65536"),
        ("etc/key 16", "no path of a file"),
        ("/etc/../key 16", "no path of a file"),
        ("/ 16", "no path of a file"),
        ("/etc/*.key 16", "no path of a file"),
        ("/etc/ssh/key 16", "made for each machine"),
        ("/run/key 16", "emptied when it starts"),
        ("/etc/first 16", "none in another"),
        ("/etc/first/more 16", "none in another"),
        ("/usr 16", "no path of a file"),
        ("/etc/hosts 16", "made for each"),
        ("/etc/oscar/nodes 16", "made for each machine"),
        ("/boot/key 16", "made for each machine"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "secrets").write_text(f"/etc/first 16\n{line}\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=f"secrets:2: .*{words}"):
        secrets.read(tmp_path)


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="secrets:1: cannot be read: it is no text"):
        secrets.read(tmp_path)


def made(folder: str) -> None:
    """Inner side: a layer of a cluster that has a secret, which a script has made as well."""
    work = job(Path(folder), {"secrets": ["/etc/own.key"]})
    with stacking.changed(work) as root:
        (root / "etc").mkdir()
        for name in ("own.key", "plain"):
            (root / "etc" / name).write_text("random")
    print(*listing.load((work.out / LIST).read_text()))


def test_no_layer_holds_a_secret(tmp_path: Path) -> None:
    said = inside(made, tmp_path / "layer")
    assert "etc/plain" in said
    assert "own.key" not in said
