"""A snapshot of the metadata of every repository of a distribution, held against what its `repomd.xml` says, and that
against its signature where the repository has one.

    NAME/primary, NAME/filelists, NAME/comps, NAME/modules      of each repository, decompressed and compressed by zstd
    repositories.json                                           the repositories in the recipe's order

No name has a mirror in it.  Metadata of a repository that changes while they are read do not fit and are read again;
where a mirror has none that fit, another one is asked.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import zstandard

from pipeline.errors import BuildError
from pipeline.packages.given import NoSource, how_to_give
from pipeline.packages.http import Connections
from pipeline.packages.rpm import metadata, signatures
from pipeline.packages.rpm.metadata import File
from pipeline.packages.rpm.mirrors import Source, sources
from pipeline.packages.rpm.reading import read
from pipeline.step import Job

LIST = "repositories.json"
_LONGEST = 512 << 20
_TRIES = 3

#: By kind: what `repomd.xml` says of it, and what lies there.
_Contents = dict[str, tuple[File, bytes]]


def build(job: Job) -> None:
    """Builder: fetch the metadata of every repository, and keep what resolving needs."""
    keys = signatures.Keys.of(job)
    connections = Connections()
    repositories = job.params["repositories"]
    for number, repository in enumerate(repositories):
        job.progress(number, len(repositories), "repositories")
        found = sources(job.params, repository, connections)
        folder = job.out / repository["name"]
        folder.mkdir()
        _keep(*_first(connections, found, repository, keys, job), folder)
    (job.out / LIST).write_text(json.dumps([one["name"] for one in repositories]) + "\n")


def _first(
    connections: Connections, found: Sequence[Source], repository: dict[str, str], keys: signatures.Keys, job: Job
) -> tuple[Source, _Contents]:
    """The first source that has all metadata, and these; raises BuildError where none has, with what each lacks."""
    errors = []
    for source in found:
        try:
            if not keys.files and not source.is_sure:
                raise BuildError(
                    f"nothing would check what comes from {source.url}: the recipe of {job.params['distro']} names no "
                    "keys",
                    hint="keyrings = [...] in the recipe, or an https:// mirror, or a folder",
                )
            return source, _contents(connections, source, repository, keys)
        except BuildError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    kind = NoSource if all(isinstance(error, NoSource) for error in errors) else BuildError
    raise kind(
        f"none of {len(errors)} places has the repository {repository['name']}",
        tail="\n".join(error.message for error in errors),
        hint=f"check the network, or say where it is: {how_to_give(str(job.params['distro']))}",
    )


def _contents(connections: Connections, source: Source, repository: dict[str, str], keys: signatures.Keys) -> _Contents:
    """What is wanted of a repository's metadata."""

    def got(path: str, longest: int) -> bytes:
        return read(connections, source.of(path), longest, source.origin)

    for last in (*[False] * (_TRIES - 1), True):
        repomd = got(metadata.REPOMD, metadata.LONGEST_REPOMD)
        if source.repomd and not any(file.fits(repomd) for file in source.repomd):
            raise BuildError(
                f"{source.of(metadata.REPOMD)} is none that {source.origin} knows",
                hint="the mirror is old, or ahead of the list, or somebody has changed it: run again in some minutes",
            )
        if repository.get("signed"):
            keys.require(repomd, got(f"{metadata.REPOMD}.asc", 1 << 16), source.url)
        named = metadata.files(repomd, source.url)
        contents = {kind: got(file.path, _LONGEST) for kind, file in named.items()}
        wrong = [named[kind] for kind, content in contents.items() if not named[kind].fits(content)]
        if not wrong:
            break
        if last:
            raise _unfit(source, wrong[0])
    return {kind: (named[kind], content) for kind, content in contents.items()}


def _keep(source: Source, contents: _Contents, folder: Path) -> None:
    for kind, (named, content) in contents.items():
        compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
        try:
            with (folder / kind).open("wb") as file, compressor.stream_writer(file) as target:
                for piece in metadata.decompressed(io.BytesIO(content)):
                    target.write(piece)
        except ValueError as error:
            raise _unfit(source, named, str(error)) from None


def _unfit(source: Source, file: File, why: str = "") -> BuildError:
    return BuildError(
        f"{source.of(file.path)} is not what {metadata.REPOMD} says{f': {why}' if why else ''}",
        hint=f"the mirror is being changed just now, or is damaged: run again in some minutes, or use another one "
        f"(this one is from {source.origin})",
    )
