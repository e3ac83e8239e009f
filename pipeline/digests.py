"""Digests of files as they stand in manifests of artifacts, and the canonical form of data that is hashed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
_ZERO = bytes(_CHUNK)


def canonical(value: Any) -> bytes:
    """Canonical JSON: what is hashed and compared."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def file_digest(path: Path) -> str:
    """SHA-256 of a file as hex; of a disk image (`*.img`) over its non-zero MiBs, so that holes cost nothing.

    The image's digest is SHA-256 over the size and then, for each MiB that is not all zero, its number and its bytes.
    It does not depend on which zeros the file system stores as holes.
    """
    if path.suffix != ".img":
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    digest = hashlib.sha256(b"%d\n" % size)
    with path.open("rb", buffering=0) as image:
        position = 0
        while position < size:
            try:
                data = os.lseek(image.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole up to the end
                break
            position = data - data % _CHUNK
            os.lseek(image.fileno(), position, os.SEEK_SET)
            chunk = _read_whole(image, min(_CHUNK, size - position))
            if chunk != _ZERO[: len(chunk)]:
                digest.update(b"%d\n" % (position // _CHUNK))
                digest.update(chunk)
            position += _CHUNK
    return digest.hexdigest()


def _read_whole(file: Any, length: int) -> bytes:
    """Bytes from an unbuffered file, which may give less at a time than it was asked for."""
    parts = []
    while length and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def content_digest(path: Path) -> str:
    """The digest of a file, or of where a symbolic link points."""
    if path.is_symlink():
        return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
    return file_digest(path)
