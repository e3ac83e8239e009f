"""Programs of this machine for use elsewhere: with the loader and the shared libraries that they ask for."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.run import run, which

#: What ldd(1) says of a library, and of the loader.
_LIBRARY = re.compile(r"(/\S+) \(0x")


def program(name: str) -> tuple[str, list[Path]]:
    """The name of its loader, and all files: the program, the loader, the libraries; each has a name of its own."""
    found = which(name)
    if found is None:
        raise BuildError(f"{name} is missing", hint="doit doctor")
    libraries = [Path(path) for path in _LIBRARY.findall(run(["ldd", found], timeout=60).stdout)]
    loader = next((path.name for path in libraries if path.name.startswith("ld-")), None)
    if loader is None:
        raise BuildError(f"{found} is no program with shared libraries", hint="doit doctor")
    return loader, [Path(found), *libraries]
