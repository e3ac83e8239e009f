"""rpm's database in a root: of no time but the packages' own, so that the same packages give the same bytes.

rpm notes when it installed each package, and under which number of its transaction, which is a time as well.  Both are
4-byte integers in the header that it keeps of each package: with them set, the rest depends on the packages alone.
Source: rpm's lib/rpmtag.h (tags), lib/header.c (the form of headers), lib/backend/sqlite.c and db3.c.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.packages.rpm import berkeley
from pipeline.sandbox import SOURCE_DATE_EPOCH

#: RPMTAG_INSTALLTIME, RPMTAG_INSTALLTID.
_TIMES = (1008, 1128)
#: The kind of a 4-byte integer, and its size: the number of the last package is kept as one, among the headers.
_INT32, _INT32_SIZE = 4, 4
_SQLITE, _BERKELEY = "rpmdb.sqlite", "Packages"
#: Locks, and what processes that have a Berkeley DB open share.
_PASSING = (".rpm.lock", ".dbenv.lock", *(f"__db.00{number}" for number in range(1, 10)))


def settle(folder: Path, rebuild: Callable[[], object]) -> None:
    """Take the times of installation out of the database in that folder, if it is of a form that has them so; raises
    BuildError for one that rpm has not left so.

    `rebuild` makes the suite's rpm write it anew: of headers in a Berkeley DB, one index has the times as well.
    """
    file, older = folder / _SQLITE, folder / _BERKELEY
    _remove_passing(folder)
    try:
        if file.is_symlink() or file.exists():
            if file.is_symlink() or not file.is_file():
                raise ValueError("it is no file")
            _settle_sqlite(file)
        elif berkeley.is_one(older):
            berkeley.change(older, lambda value: timeless(value) if len(value) > _INT32_SIZE else value)
            _make_own(folder)
            rebuild()
            _remove_passing(folder)
            for part in sorted(folder.iterdir()):
                if berkeley.is_one(part):
                    berkeley.settle(part)
    except (sqlite3.Error, *berkeley.DAMAGE) as error:
        raise BuildError(
            f"rpm's database is damaged: {error}", hint="a script of a package changes it, which none should"
        ) from None


def _make_own(folder: Path) -> None:
    """Make the folder anew: rpm renames it when it has written another one (rpmdbRebuild of lib/rpmdb.c), and overlayfs
    refuses that of one that a lower layer has."""
    own = folder.with_name(f"{folder.name}.own")
    own.mkdir()
    shutil.copystat(folder, own)
    for part in folder.iterdir():
        shutil.move(part, own / part.name)
    folder.rmdir()
    own.rename(folder)


def _remove_passing(folder: Path) -> None:
    for name in _PASSING:
        (folder / name).unlink(missing_ok=True)


def _settle_sqlite(file: Path) -> None:
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
        rows = connection.execute("SELECT hnum, blob FROM Packages ORDER BY hnum").fetchall()
        for number, blob in rows:
            connection.execute("UPDATE Packages SET blob = ? WHERE hnum = ?", (timeless(blob), number))
        key = struct.pack("=i", SOURCE_DATE_EPOCH)
        connection.execute("UPDATE Installtid SET key = ?", (key,))
        connection.commit()
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    for suffix in ("-wal", "-shm", "-journal"):
        file.with_name(f"{file.name}{suffix}").unlink(missing_ok=True)


def timeless(header: bytes) -> bytes:
    """A header with the times of installation set; it begins with the number of its index's entries and the size of its
    data, and each entry is (tag, type, offset in the data, count), all in network order."""
    count, size = struct.unpack_from(">II", header)
    data = 8 + 16 * count
    if len(header) < data + size:
        raise ValueError("no header of rpm's")
    changed = bytearray(header)
    for number in range(count):
        tag, kind, offset, many = struct.unpack_from(">IIiI", header, 8 + 16 * number)
        if tag in _TIMES and kind == _INT32 and many == 1 and 0 <= offset <= size - 4:
            struct.pack_into(">I", changed, data + offset, SOURCE_DATE_EPOCH)
    return bytes(changed)
