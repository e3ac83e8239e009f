"""Java's certificates in a root, without the time at which they were listed.

p11-kit, which lists them for scripts of ca-certificates, takes the clock's time where it is older than 0.23.15 (CentOS
7), and knows SOURCE_DATE_EPOCH since.  Source: sun.security.provider.JavaKeyStore (the form, and its checksum with the
password "changeit"), p11-kit's trust/extract-jks.c.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
import struct

from pipeline.rootfs import RootFs
from pipeline.sandbox import SOURCE_DATE_EPOCH

_PLACE = "etc/pki/ca-trust/extracted/java/cacerts"
_MAGIC, _VERSION, _CERTIFICATE = 0xFEEDFEED, 2, 2
_WHITENER = "changeit".encode("utf-16-be") + b"Mighty Aphrodite"


def settle(root: RootFs) -> None:
    """Give all certificates of the list one time; what is of another form stays as it is."""
    found = root.lstat(_PLACE)
    if found is None or not stat.S_ISREG(found.st_mode):
        return
    with contextlib.suppress(struct.error, ValueError):
        content = root.read(_PLACE)
        settled = timeless(content)
        if settled != content:
            root.write(_PLACE, settled, stat.S_IMODE(found.st_mode))


def timeless(content: bytes) -> bytes:
    """A list with the times set: three numbers, and for each entry its kind, alias, time, kind and certificate."""
    body = bytearray(content[:-20])
    magic, version, count = struct.unpack_from(">III", body)
    if (magic, version) != (_MAGIC, _VERSION) or _checksum(body) != content[-20:]:
        raise ValueError("no list of Java's with the usual password")
    place = 12
    for _ in range(count):
        kind, length = struct.unpack_from(">IH", body, place)
        if kind != _CERTIFICATE:
            raise ValueError("not only certificates")
        place += 6 + length
        struct.pack_into(">Q", body, place, SOURCE_DATE_EPOCH * 1000)
        (length,) = struct.unpack_from(">H", body, place + 8)
        place += 10 + length
        (length,) = struct.unpack_from(">I", body, place)
        place += 4 + length
    return bytes(body) + _checksum(body)


def _checksum(body: bytes | bytearray) -> bytes:
    return hashlib.sha1(_WHITENER + body, usedforsecurity=False).digest()
