"""Small qcow2 files: a disk told as what differs from another file, which lies beside it.

Source: QEMU's docs/interop/qcow2.txt, version 3.  Clusters of 64 KiB, counts of 16 bits, no snapshots; the same
content always gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

CLUSTER = 1 << 16
#: What an artifact's qcow2 file lies over: a raw file beside it.
BASE = "base.img"
_MAGIC = b"QFI\xfb"
_BITS = 16
#: Entries of a table that is one cluster: of addresses, and of counts.
_ADDRESSES, _COUNTS = CLUSTER // 8, CLUSTER // 2
#: Of an address: nobody else refers to what lies there.
_COPIED = 1 << 63
_BACKING_FORMAT = 0xE2792ACA
_HEADER = 104


def write(path: Path, size: int, clusters: Mapping[int, bytes]) -> None:
    """A disk of `size` bytes: these clusters (number -> 64 KiB), and all others from BASE beside it."""
    tables = sorted({number // _ADDRESSES for number in clusters})
    l1_entries = -(-size // (CLUSTER * _ADDRESSES))
    l1 = -(-l1_entries * 8 // CLUSTER)
    counted = 1 + l1 + len(tables) + len(clusters)
    # tables of counts count themselves as well
    blocks = 1
    while blocks * _COUNTS < counted + blocks + _table_of(blocks):
        blocks += 1
    counts = _table_of(blocks)
    first_block = 1 + counts
    first_l1 = first_block + blocks
    first_l2 = first_l1 + l1
    first = first_l2 + len(tables)
    last = first + len(clusters)
    numbers = sorted(clusters)
    where = {number: (first + place) * CLUSTER for place, number in enumerate(numbers)}
    with path.open("wb") as file:
        file.write(_header(size, l1_entries, first_l1, counts))
        _table(file, 1, [(first_block + number) * CLUSTER for number in range(blocks)])
        file.seek(first_block * CLUSTER)
        file.write(struct.pack(f">{last}H", *[1] * last))
        l2 = {number: (first_l2 + place) * CLUSTER | _COPIED for place, number in enumerate(tables)}
        _table(file, first_l1, [l2.get(number, 0) for number in range(l1_entries)])
        for place, number in enumerate(tables):
            begin = number * _ADDRESSES
            addresses = [where[one] | _COPIED if one in where else 0 for one in range(begin, begin + _ADDRESSES)]
            _table(file, first_l2 + place, addresses)
        file.seek(first * CLUSTER)
        for number in numbers:
            if len(clusters[number]) != CLUSTER:
                raise ValueError(f"cluster {number} has {len(clusters[number])} bytes")
            file.write(clusters[number])
        file.truncate(last * CLUSTER)


def size_of(path: Path) -> int:
    """The size in bytes of the disk that a qcow2 file tells of."""
    with path.open("rb") as file:
        head = file.read(32)
    if head[:4] != _MAGIC or len(head) < 32:
        raise ValueError(f"{path} is no qcow2 file")
    return int(struct.unpack(">Q", head[24:32])[0])


def pieces(path: Path) -> list[tuple[int, int, int]]:
    """Where a file that `write` made has clusters of its own: place in the file, place in the disk, how many in a row;
    in clusters."""
    with path.open("rb") as file:
        head = file.read(48)
        entries, first_l1 = struct.unpack(">IQ", head[36:48])
        found: list[tuple[int, int, int]] = []
        for table, l2 in enumerate(_addresses(file, first_l1, entries)):
            if not l2:
                continue
            for entry, address in enumerate(_addresses(file, l2 & ~_COPIED, _ADDRESSES)):
                if not address:
                    continue
                place, number = (address & ~_COPIED) // CLUSTER, table * _ADDRESSES + entry
                if found and (place, number) == (found[-1][0] + found[-1][2], found[-1][1] + found[-1][2]):
                    found[-1] = (*found[-1][:2], found[-1][2] + 1)
                else:
                    found.append((place, number, 1))
    return found


def _addresses(file: BinaryIO, place: int, count: int) -> tuple[int, ...]:
    file.seek(place)
    return struct.unpack(f">{count}Q", file.read(8 * count))


def _table_of(blocks: int) -> int:
    """How many clusters the addresses of that many blocks take."""
    return -(-blocks * 8 // CLUSTER)


def _table(file: BinaryIO, cluster: int, addresses: list[int]) -> None:
    file.seek(cluster * CLUSTER)
    file.write(struct.pack(f">{len(addresses)}Q", *addresses))


def _header(size: int, l1_entries: int, first_l1: int, counts: int) -> bytes:
    name = BASE.encode()
    extensions = struct.pack(">II8s", _BACKING_FORMAT, 3, b"raw") + struct.pack(">II", 0, 0)
    fixed = struct.pack(
        ">4sIQIIQIIQQIIQ",
        _MAGIC,
        3,
        _HEADER + len(extensions),
        len(name),
        _BITS,
        size,
        0,
        l1_entries,
        first_l1 * CLUSTER,
        CLUSTER,
        counts,
        0,
        0,
    )
    # incompatible, compatible and automatically cleared features: none; counts of 2^4 bits
    return fixed + struct.pack(">QQQII", 0, 0, 0, 4, _HEADER) + extensions + name
