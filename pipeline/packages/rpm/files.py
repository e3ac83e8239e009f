"""RPM files unpacked into a tree, past the package database: contents and modes, but no owners and no scripts.

What unpacks them is rpm2archive(8) of the machine that builds, of whatever version: all that it does here is done again
by the suite's own rpm, properly, or does not matter.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import BuildError, CommandError
from pipeline.packages import unpacking
from pipeline.run import run, spawn

#: The package that brings the folders, or links to them, into which all others put files.
_FIRST = "filesystem"
#: Seconds for one package to be read, and for all to be unpacked.
_DEADLINE = 1200
_IN_THE_WAY = re.compile(rf"^{unpacking.IN_THE_WAY}(.*) (\S+) (\S+)$", re.MULTILINE)


def extract(files: Sequence[Path], root: Path, work: Path) -> None:
    """Unpack packages into `root`, the one with the folders first; links that stand for folders stay links."""
    streams = work / "streams"
    streams.mkdir()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        plain = list(threads.map(lambda file: _plain(file, streams / file.name), files))
    ordered = sorted(plain, key=lambda path: not path.name.startswith(f"{_FIRST}-"))
    try:
        run(
            [sys.executable, "-I", "-S", unpacking.__file__, root],
            input=json.dumps([(str(stream), 0) for stream in ordered]).encode(),
            timeout=_DEADLINE,
        )
    except CommandError as error:
        if found := _IN_THE_WAY.search(error.tail):
            raise both_have(found[1], found[2].removesuffix(".rpm"), found[3].removesuffix(".rpm")) from None
        raise BuildError("the packages cannot be unpacked over each other", tail=error.tail) from None
    for stream in ordered:
        stream.unlink()
    streams.rmdir()


def both_have(path: str, one: str, other: str, log: Path | None = None, tail: str = "") -> BuildError:
    """The error for packages of which only one can be there."""
    return BuildError(
        f"{one} and {other} both have {path}, and it is not the same in them",
        tail=tail,
        hint="ask for one of them alone, or for versions that go together; packages of your own must not bring files "
        "of others",
        log=log,
    )


def _plain(file: Path, target: Path) -> Path:
    """The content of a package as a tar stream."""
    with file.open("rb") as source, target.open("wb") as stream:
        with spawn(["rpm2archive", "-n", "-"], stdin=source, stdout=stream, stderr=subprocess.PIPE) as process:
            try:
                _, said = process.communicate(timeout=_DEADLINE)
            except subprocess.TimeoutExpired:
                raise BuildError(f"{file.name} could not be read in {_DEADLINE} s") from None
        if process.returncode != 0:
            raise BuildError(
                f"{file.name} is no package that rpm2archive can read",
                tail=said.decode(errors="replace")[-2000:],
                hint="it is damaged, or was not copied to its end",
            )
    return target
