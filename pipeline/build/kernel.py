"""The kernel that a root file system brings, and the modules that a ramdisk needs of it, in the order to load them.

Dependencies are read from the modules themselves: a root that was only unpacked has no `modules.dep`, and asking the
host's kmod would make the result depend on the host.
"""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from pipeline.errors import BuildError


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


_UNPACK: dict[str, Callable[[bytes], bytes]] = {".xz": lzma.decompress, ".gz": gzip.decompress, ".zst": _unzstd}
_IMAGE = "vmlinuz-"


@dataclass(frozen=True)
class Module:
    """A kernel module, uncompressed."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Kernel:
    """A kernel below a root file system: its image, and the folder of its modules."""

    version: str
    image: Path
    folder: Path

    def modules(self, wanted: Iterable[str]) -> list[Module]:
        """The wanted modules and what they need, in the order to load them.

        What is built into the kernel, or unknown to it, is left out: one list serves every kernel.
        """
        files = {_name(path.name): path for path in sorted(self.folder.rglob("*.ko*"))}
        ordered: dict[str, Module] = {}

        def add(name: str) -> None:
            if name in ordered or name not in files:
                return
            module = Module(name, _read(files[name]))
            for need in _needs(module.data):
                add(need)
            ordered[name] = module

        for name in wanted:
            add(_name(name))
        return list(ordered.values())


def find(root: Path) -> Kernel:
    """The newest kernel below `root`/boot that has modules.  Raises BuildError when there is none."""
    kernels = all_below(root)
    if not kernels:
        raise BuildError("the root file system has no kernel with modules in /boot and /lib/modules",
                         hint="add the distribution's kernel package to its list of packages")
    return newest(kernels)


def all_below(root: Path) -> list[Kernel]:
    """Every kernel below `root`/boot that has modules."""
    return [Kernel(version, image, folder) for version, image, folder in _candidates(root)]


def newest(kernels: Iterable[Kernel]) -> Kernel:
    return max(kernels, key=lambda kernel: [int(part) for part in re.findall(r"\d+", kernel.version)])


def _candidates(root: Path) -> Iterator[tuple[str, Path, Path]]:
    for image in sorted((root / "boot").glob(f"{_IMAGE}*")):
        version = image.name.removeprefix(_IMAGE)
        for folder in (root / "usr/lib/modules" / version, root / "lib/modules" / version):
            if folder.is_dir():
                yield version, image, folder
                break


def _name(file: str) -> str:
    return file.partition(".ko")[0].replace("-", "_")


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    unpack = _UNPACK.get(path.suffix)
    return unpack(data) if unpack else data


def _needs(data: bytes) -> list[str]:
    """What `modinfo -F depends` says, and the soft dependencies to load before."""
    names = [_name(name) for name in _modinfo(data, b"depends").split(",") if name]
    soft = re.match(r"pre: ([^:]*?)(?: post:|$)", _modinfo(data, b"softdep"))
    return names + [_name(name) for name in (soft.group(1).split() if soft else [])]


def _modinfo(data: bytes, field: bytes) -> str:
    found = re.search(rb"\0" + field + rb"=([^\0]*)\0", data)
    return found.group(1).decode() if found else ""
