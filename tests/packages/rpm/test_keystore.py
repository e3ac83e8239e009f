"""Java's certificates, without the time at which they were listed."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from pipeline.packages.rpm import keystore
from pipeline.rootfs import RootFs
from pipeline.sandbox import SOURCE_DATE_EPOCH

_FILE = "etc/pki/ca-trust/extracted/java/cacerts"


def _listed(*times: int) -> bytes:
    """A list with a certificate of each time, in milliseconds."""
    body = struct.pack(">III", 0xFEEDFEED, 2, len(times))
    for number, time in enumerate(times):
        alias, certificate = f"one{number}".encode(), b"certificate" * 9
        body += struct.pack(">IH", 2, len(alias)) + alias + struct.pack(">Q", time)
        body += struct.pack(">H", 5) + b"X.509" + struct.pack(">I", len(certificate)) + certificate
    return body + hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def _settled(top: Path, content: bytes) -> bytes:
    with RootFs(top) as root:
        root.write(_FILE, content, 0o444)
        keystore.settle(root)
        assert (top / _FILE).stat().st_mode & 0o777 == 0o444
        return root.read(_FILE)


def test_the_time_is_the_one_that_outputs_know(tmp_path: Path) -> None:
    one = SOURCE_DATE_EPOCH * 1000
    assert _settled(tmp_path, _listed(1, 2, 3)) == _listed(one, one, one)


def test_another_form_stays_as_it_is(tmp_path: Path) -> None:
    for content in (b"", b"text" * 20, _listed(1)[:-1], _listed(1, 2)[:40] + _listed(1, 2)[41:]):
        assert _settled(tmp_path, content) == content


def test_no_link_is_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(_listed(1))
    (tmp_path / _FILE).parent.mkdir(parents=True)
    (tmp_path / _FILE).symlink_to("../../../../../other")
    with RootFs(tmp_path) as root:
        keystore.settle(root)
    assert other.read_bytes() == _listed(1)
