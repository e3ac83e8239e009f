"""The kernel that a root file system brings, and the modules that a ramdisk needs of it, in the order to load them.

Dependencies are read from the modules themselves: a root that was only unpacked has no `modules.dep`, and asking the
host's kmod would make the result depend on the host.
"""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import zstandard

from pipeline.errors import BuildError
from pipeline.rootfs import RootFs


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
    """A kernel of a root file system: the paths of its image, and of the folder of its modules."""

    version: str
    image: str
    folder: str
    root: RootFs

    def modules(self, wanted: Iterable[str]) -> list[Module]:
        """The wanted modules and what they need, in the order to load them.

        What is built into the kernel, or unknown to it, is left out: one list serves every kernel.
        """
        files = {
            _name(path.name): path
            for path in map(PurePosixPath, self.root.files(self.folder))
            if ".ko" in path.suffixes
        }
        ordered: dict[str, Module] = {}

        def add(name: str) -> None:
            if name in ordered or name not in files:
                return
            module = Module(name, self._read(files[name]))
            for need in _needs(module.data):
                add(need)
            ordered[name] = module

        for name in wanted:
            add(_name(name))
        return list(ordered.values())

    def _read(self, path: PurePosixPath) -> bytes:
        data = self.root.read(str(path))
        unpack = _UNPACK.get(path.suffix)
        return unpack(data) if unpack else data


def find(root: RootFs) -> Kernel:
    """The newest kernel below `root`/boot that has modules.  Raises BuildError when there is none."""
    kernels = all_below(root)
    if not kernels:
        raise BuildError(
            "the root file system has no kernel with modules in /boot and /lib/modules",
            hint="add the distribution's kernel package to its list of packages",
        )
    return newest(kernels)


def all_below(root: RootFs) -> list[Kernel]:
    """Every kernel below `root`/boot that has modules."""
    found = []
    for name in root.names("boot"):
        version = name.removeprefix(_IMAGE)
        folders = [
            folder for folder in (f"usr/lib/modules/{version}", f"lib/modules/{version}") if root.is_folder(folder)
        ]
        if version != name and folders:
            found.append(Kernel(version, f"boot/{name}", folders[0], root))
    return found


def newest(kernels: Iterable[Kernel]) -> Kernel:
    return max(kernels, key=lambda kernel: [int(part) for part in re.findall(r"\d+", kernel.version)])


def _name(file: str) -> str:
    return file.partition(".ko")[0].replace("-", "_")


def _needs(data: bytes) -> list[str]:
    """What `modinfo -F depends` says, and the soft dependencies to load before."""
    names = [_name(name) for name in _modinfo(data, b"depends").split(",") if name]
    soft = re.match(r"pre: ([^:]*?)(?: post:|$)", _modinfo(data, b"softdep"))
    return names + [_name(name) for name in (soft.group(1).split() if soft else [])]


def _modinfo(data: bytes, field: bytes) -> str:
    found = re.search(rb"\0" + field + rb"=([^\0]*)\0", data)
    return found.group(1).decode() if found else ""
