"""A snapshot of the metadata of every repository of a distribution, held against what its `repomd.xml` says, and that
against its signature where the repository has one.

    NAME/primary, NAME/filelists, NAME/comps, NAME/modules      of each repository, decompressed and compressed by zstd
    repositories.json                                           the repositories in the recipe's order

No name has a mirror in it.  Metadata of a repository that changes while they are read do not fit and are read again.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import zstandard

from pipeline.errors import BuildError
from pipeline.packages.http import UNREACHABLE, Connections, Refused
from pipeline.packages.rpm import metadata, signatures
from pipeline.packages.rpm.metadata import File
from pipeline.packages.rpm.mirrors import Mirrors, mirrors_for
from pipeline.step import Job

LIST = "repositories.json"
_LONGEST = 512 << 20
_TRIES = 3


def build(job: Job) -> None:
    """Builder: fetch the metadata of every repository, and keep what resolving needs."""
    mirrors = mirrors_for(job.params)
    keys = signatures.Keys.of(job)
    if not keys.files and mirrors.can_be_changed_on_the_way:
        raise BuildError(
            f"nothing would check what comes from {mirrors.main}: the recipe of {mirrors.distro} names no keys",
            hint="keyrings = [...] in the recipe, or an https:// mirror, or a folder",
        )
    connections = Connections()
    repositories = job.params["repositories"]
    for number, repository in enumerate(repositories):
        job.progress(number, len(repositories), "repositories")
        folder = job.out / repository["name"]
        folder.mkdir()
        _snapshot(connections, mirrors, repository, keys, folder)
    (job.out / LIST).write_text(json.dumps([one["name"] for one in repositories]) + "\n")


def _snapshot(connections: Connections, mirrors: Mirrors, repository: dict[str, str], keys: signatures.Keys,
              folder: Path) -> None:  # fmt: skip
    base = mirrors.base(repository["path"])
    for last in (*[False] * (_TRIES - 1), True):
        repomd = _get(connections, f"{base}/{metadata.REPOMD}", metadata.LONGEST_REPOMD, mirrors)
        if repository.get("signed"):
            keys.require(repomd, _get(connections, f"{base}/{metadata.REPOMD}.asc", 1 << 16, mirrors), base)
        named = metadata.files(repomd, base)
        contents = {kind: _get(connections, f"{base}/{file.path}", _LONGEST, mirrors) for kind, file in named.items()}
        wrong = [named[kind] for kind, content in contents.items() if not named[kind].fits(content)]
        if not wrong:
            break
        if last:
            raise _unfit(base, wrong[0], mirrors)
    for kind, content in contents.items():
        compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
        try:
            with (folder / kind).open("wb") as file, compressor.stream_writer(file) as target:
                for piece in metadata.decompressed(io.BytesIO(content)):
                    target.write(piece)
        except ValueError as error:
            raise _unfit(base, named[kind], mirrors, str(error)) from None


def _unfit(base: str, file: File, mirrors: Mirrors, why: str = "") -> BuildError:
    return BuildError(
        f"{base}/{file.path} is not what {metadata.REPOMD} says{f': {why}' if why else ''}",
        hint=f"the mirror is being changed just now, or is damaged: run again in some minutes, or use another one "
        f"(this one is from {mirrors.origin})",
    )


def _get(connections: Connections, url: str, longest: int, mirrors: Mirrors) -> bytes:
    problem = ""
    for _ in range(_TRIES):
        try:
            with connections.get(url) as stream:
                content = stream.read(longest + 1)
        except Refused as error:
            raise BuildError(
                f"{url}: {error}",
                hint=f"correct the mirror or the repository's path: {mirrors.main} is from {mirrors.origin}",
            ) from None
        except UNREACHABLE as error:
            problem = str(error) or type(error).__name__
            continue
        if len(content) > longest:
            raise BuildError(f"{url}: larger than {longest >> 20} MiB", hint="this is no repository's metadata")
        return content
    raise BuildError(
        f"cannot read {url}: {problem}",
        hint=f"check the network, or use another mirror: {mirrors.main} is from {mirrors.origin}",
    )
