"""RPM files unpacked into a tree, past the package database: contents and modes, but no owners and no scripts.

What unpacks them is rpm2archive(8) of the machine that builds, of whatever version: all that it does here is done again
by the suite's own rpm, properly, or does not matter.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.run import spawn

#: The package that brings the folders, or links to them, into which all others put files.
_FIRST = "filesystem"
#: Seconds for one package.
_DEADLINE = 300


def extract(files: Sequence[Path], root: Path, work: Path) -> None:
    """Unpack packages into `root`, the one with the folders first; links that stand for folders stay links."""
    streams = work / "streams"
    streams.mkdir()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        plain = list(threads.map(lambda file: _plain(file, streams / file.name), files))
    for stream in sorted(plain, key=lambda path: not path.name.startswith(f"{_FIRST}-")):
        with spawn(
            [
                "tar",
                "-x",
                "--keep-directory-symlink",
                "--numeric-owner",
                "--no-same-owner",
                "-p",
                "-f",
                stream,
                "-C",
                root,
            ],
            stderr=subprocess.PIPE,
        ) as process:
            _, said = process.communicate(timeout=_DEADLINE)
        if process.returncode != 0:
            raise BuildError(f"{stream.name} cannot be unpacked", tail=said.decode(errors="replace")[-2000:])
        stream.unlink()
    streams.rmdir()


def _plain(file: Path, target: Path) -> Path:
    """The content of a package as a tar stream."""
    with file.open("rb") as source, target.open("wb") as stream:
        with spawn(["rpm2archive", "-n", "-"], stdin=source, stdout=stream, stderr=subprocess.PIPE) as process:
            _, said = process.communicate(timeout=_DEADLINE)
        if process.returncode != 0:
            raise BuildError(
                f"{file.name} is no package that rpm2archive can read",
                tail=said.decode(errors="replace")[-2000:],
                hint="it is damaged, or was not copied to its end",
            )
    return target
