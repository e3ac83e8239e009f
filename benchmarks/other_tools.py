"""What a person would run without this pipeline: mmdebstrap and mke2fs, or mkosi, from exactly the same packages.

All of them read the same pool of locked packages, shown as a repository, so nobody is measured with the network.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ARTIFACTS, say, timed
from pipeline.errors import UserError
from pipeline.packages import lock
from pipeline.packages.lock import LockedPackage
from pipeline.sandbox import memory_available
from pipeline.store import Store

#: Packages that mkosi asks for by itself: empty ones do, where the lock has none.
MKOSI_WANTS = ("ca-certificates", "libpam-systemd")

#: As the pipeline does it: scratch space in memory where there is enough of it.
_MEMORY, _MEMORY_NEEDED = Path("/dev/shm"), 4 << 30


@dataclass(frozen=True)
class Repository:
    """The locked packages of debian12's head node as a Debian repository."""

    folder: Path
    suite: str
    packages: tuple[str, ...]


def repository(folder: Path, extra: Sequence[Path] = (), *, suite: str = "bookworm") -> Repository:
    """Make a repository of the locked packages and some more files, with hard links to the pool."""
    pool = folder / "pool"
    pool.mkdir(parents=True)
    stanzas, names = [], []
    for task in ("lock:debian12", "lock:debian12/head"):
        for package in _locked(task):
            name = package.file
            os.link(ARTIFACTS / "pool" / f"{package.sha256}.deb", pool / name)
            lines = [
                f"Filename: pool/{name}" if line.startswith("Filename:") else line
                for line in package.text.rstrip().splitlines()
            ]
            stanzas.append("\n".join(lines))
            names.append(package.name)
    for file in extra:
        if file.name.partition("_")[0] in names:
            continue
        shutil.copyfile(file, pool / file.name)
        control = timed(["dpkg-deb", "--field", file])[1].stdout.rstrip()
        digest = timed(["sha256sum", file])[1].stdout.split()[0]
        stanzas.append(f"{control}\nFilename: pool/{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}")
        names.append(file.name.partition("_")[0])
    index = folder / "dists" / suite / "main" / "binary-amd64"
    index.mkdir(parents=True)
    (index / "Packages").write_text("\n\n".join(stanzas) + "\n")
    size, digest = (index / "Packages").stat().st_size, timed(["sha256sum", index / "Packages"])[1].stdout.split()[0]
    (folder / "dists" / suite / "Release").write_text(
        f"Origin: pool\nCodename: {suite}\nSuite: {suite}\nComponents: main\nArchitectures: amd64\n"
        f"SHA256:\n {digest} {size} main/binary-amd64/Packages\n"
    )
    return Repository(folder, suite, tuple(dict.fromkeys(names)))


def package(target: Path, name: str, version: str) -> Path:
    """Make a small package."""
    tree = target.with_suffix(".tree")
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\n"
        "Priority: optional\nSection: misc\nDescription: made by a benchmark\n"
    )
    program = tree / "usr" / "bin" / f"{name}-version"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    timed(["dpkg-deb", "--root-owner-group", "--build", tree, target])
    shutil.rmtree(tree)
    return target


def mmdebstrap(source: Repository, target: Path, *, ramdisk: bool = True, files: Path | None = None) -> float:
    """Install all packages into a tarball (compressed as its name says); seconds."""
    scratch = _MEMORY if memory_available() > _MEMORY_NEEDED else target.parent
    argv: list[str | Path] = [
        "mmdebstrap",
        "--variant=minbase",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        f"--include={','.join(source.packages)}",
    ]
    if files:
        argv.append(f"--customize-hook=sync-in {files} /")
    argv += [source.suite, target, f"deb [trusted=yes] copy://{source.folder} {source.suite} main"]
    env = {"TMPDIR": str(scratch), "SOURCE_DATE_EPOCH": "1704067200", **({} if ramdisk else {"INITRD": "No"})}
    say(f"mmdebstrap of {len(source.packages)} packages in {scratch}")
    return timed(argv, env=env)[0]


def disk(tarball: Path, image: Path, *, size: str = "3G") -> float:
    """A file system from a tarball, as one does it by hand: unpack, mke2fs; seconds."""
    tree = image.with_suffix(".tree")
    script = (
        'mkdir "$1" && tar --extract --file "$2" --directory "$1" --numeric-owner --xattrs '
        '--xattrs-include="*" --exclude="./dev/*" && mke2fs -q -t ext4 -d "$1" "$3" "$4" && rm -rf "$1"'
    )
    return timed(["sh", "-c", script, "sh", tree, tarball, image, size])[0]


class Mkosi:
    """mkosi with its cache of the image before extra files and scripts (`--incremental`)."""

    def __init__(self, source: Repository, folder: Path) -> None:
        self.source = source
        self.folder = folder
        for name in ("cache", "out", "work", "extra"):
            (folder / name).mkdir(parents=True)

    def build(self, packages: Sequence[str], *, again: bool) -> float:
        """Build the disk image; `again`: the cached image no longer serves, as packages have changed.  Seconds."""
        argv = [
            "mkosi",
            "--distribution=debian",
            f"--release={self.source.suite}",
            "--format=gpt_ext4",
            f"--local-mirror=file://{self.source.folder}",
            "--repository-key-check=no",
            "--with-docs=yes",
            f"--cache={self.folder / 'cache'}",
            f"--output-dir={self.folder / 'out'}",
            f"--workspace-dir={self.folder / 'work'}",
            f"--extra-tree={self.folder / 'extra'}",
            "--root-size=3G",
            "--incremental",
            "--force",
            *(["--force"] if again else []),
            *(f"--package={name}" for name in packages),
            "build",
        ]
        return timed(argv, cwd=self.folder)[0]


def mkosi(source: Repository, folder: Path) -> Mkosi | str:
    """mkosi, or why it is left out."""
    if shutil.which("mkosi") is None:
        return "mkosi is not installed: left out (apt-get install mkosi)"
    if os.geteuid() != 0:
        return "mkosi of this age wants to be root: left out"
    return Mkosi(source, folder)


def _locked(task: str) -> list[LockedPackage]:
    entry = Store(ARTIFACTS).linked(task)
    if entry is None:
        raise UserError(f"{task} is not built", hint="doit cluster:debian12")
    return lock.read(entry.path / lock.NAME)
