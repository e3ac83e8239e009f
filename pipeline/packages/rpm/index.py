"""A snapshot of the metadata of every repository of a distribution, held against what its `repomd.xml` says, and that
against its signature where the repository has one.

    NAME/primary, NAME/filelists, NAME/comps, NAME/modules      of each repository, decompressed and compressed by zstd
    repositories.json                                           the repositories in the recipe's order; of several that
                                                                are one place the first

No name has a mirror in it.  Metadata of a repository that changes while they are read do not fit, or are gone where
their names have their checksums in them, and all is read again; where a mirror has none that fit, another one is asked.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import zstandard

from pipeline.errors import BuildError
from pipeline.packages.given import NoSource
from pipeline.packages.http import Connections
from pipeline.packages.rpm import made, metadata, signatures
from pipeline.packages.rpm.metadata import File
from pipeline.packages.rpm.mirrors import Source, Sources
from pipeline.packages.rpm.places import Place
from pipeline.packages.rpm.reading import Missing, read
from pipeline.step import Job

LIST = "repositories.json"
_LONGEST = 512 << 20
_TRIES = 3

#: By kind: what `repomd.xml` says of it, and what lies there.
_Contents = dict[str, tuple[File, bytes]]


def build(job: Job) -> None:
    """Builder: fetch the metadata of every repository, and keep what resolving needs."""
    keys = signatures.Keys.of(job)
    sources = Sources(job.params, job.work, only_sure=not keys.files)
    repositories = job.params["repositories"]
    kept: dict[str, str] = {}
    for number, repository in enumerate(repositories):
        job.progress(number, len(repositories), "repositories")
        found, name = sources.of(repository), repository["name"]
        if found[0].url in kept:  # one repository stands for several of the recipe
            continue
        kept[found[0].url] = name
        (job.out / name).mkdir()
        if found[0].is_bare:
            _keep_made([source.place for source in found], job.out / name, job)
        else:
            _keep(*_first(sources, found, repository, keys), job.out / name)
    (job.out / LIST).write_text(json.dumps(list(kept.values())) + "\n")


def _keep_made(places: Sequence[Place], folder: Path, job: Job) -> None:
    for kind, file in made.metadata_of(places, job.work, job.progress).items():
        with file.open("rb") as stream:
            _compress(stream, folder / kind)


def _first(
    sources: Sources, found: Sequence[Source], repository: dict[str, str], keys: signatures.Keys
) -> tuple[Source, _Contents]:
    """The first source that has all metadata, and these; raises BuildError where none has, with what each lacks."""
    errors = []
    for source in found:
        try:
            return source, _contents(sources.connections, source, repository, keys)
        except BuildError as error:
            errors.append(error)
    raise sources.none_has(repository, errors)


def _contents(connections: Connections, source: Source, repository: dict[str, str], keys: signatures.Keys) -> _Contents:
    """What is wanted of a repository's metadata: read again from a fresh `repomd.xml` if they do not fit."""
    problem: BuildError | None = None
    for _ in range(_TRIES):
        try:
            return _read_once(connections, source, repository, keys)
        except NoSource:
            raise
        except BuildError as error:
            problem = error
    assert problem is not None
    raise problem


def _read_once(
    connections: Connections, source: Source, repository: dict[str, str], keys: signatures.Keys
) -> _Contents:
    def got(path: str, longest: int) -> bytes:
        return read(connections, source.of(path), longest, source.place.origin)

    repomd = got(metadata.REPOMD, metadata.LONGEST_REPOMD)
    if source.repomd and not any(file.fits(repomd) for file in source.repomd):
        raise BuildError(
            f"{source.of(metadata.REPOMD)} is none that {source.place.origin} knows",
            hint="the mirror is old, or ahead of the list, or somebody has changed it: run again in some minutes",
        )
    if repository.get("signed"):
        keys.require(repomd, got(f"{metadata.REPOMD}.asc", 1 << 16), source.url)
    contents: _Contents = {}
    for kind, file in metadata.files(repomd, source.url).items():
        try:
            contents[kind] = file, got(file.path, _LONGEST)
        except Missing as error:
            raise BuildError(f"{error.message}, and {metadata.REPOMD} names it", hint=_changing(source)) from None
        if not file.fits(contents[kind][1]):
            raise _unfit(source, file)
    return contents


def _keep(source: Source, contents: _Contents, folder: Path) -> None:
    for kind, (named, content) in contents.items():
        try:
            _compress(io.BytesIO(content), folder / kind)
        except ValueError as error:
            raise _unfit(source, named, str(error)) from None


def _compress(stream: IO[bytes], file: Path) -> None:
    """Write what there is, compressed in whichever way, as we compress it."""
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    with file.open("wb") as raw, compressor.stream_writer(raw) as target:
        for piece in metadata.decompressed(stream):
            target.write(piece)


def _unfit(source: Source, file: File, why: str = "") -> BuildError:
    return BuildError(
        f"{source.of(file.path)} is not what {metadata.REPOMD} says{f': {why}' if why else ''}", hint=_changing(source)
    )


def _changing(source: Source) -> str:
    return (
        "the mirror is being changed just now, or is damaged: run again in some minutes, or use another one "
        f"(this one is from {source.place.origin})"
    )
