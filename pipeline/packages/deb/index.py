"""The archive's signed index: what resolving needs of it, with its signatures checked by a private apt.

The only step that trusts a signature; from then on everything is held by SHA-256.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.errors import BuildError, CommandError
from pipeline.packages.deb.apt import Apt, complaint, network_options
from pipeline.packages.deb.mirrors import Mirrors, archive_of, mirrors_for
from pipeline.packages.deb.refusals import refused
from pipeline.packages.deb.release import NAMES, Release, components_of
from pipeline.packages.deb.stanzas import trimmed
from pipeline.packages.given import NoSource
from pipeline.step import Job

#: Seconds in which a mirror must have given out its index.
_UPDATE = 300


def build(job: Job) -> None:
    """Builder: fetch the signed metadata of every suite, and keep what resolving needs; no name has a mirror in it."""
    mirrors = mirrors_for(job.params)
    components = [str(component) for component in job.params["components"]]
    architecture = str(job.params["architecture"])
    suites = [str(suite) for suite in job.params["suites"]]
    sources = [f"deb {mirrors.base(archive_of(suite))} {suite} {' '.join(components)}" for suite in suites]
    lists = job.work / "lists"
    apt = Apt(
        job.work / "apt",
        architecture=architecture,
        sources=sources,
        lists=lists,
        keyring=_keys(job),
        options=network_options(),
    )
    _update(apt, mirrors, job.log)
    fetched = _fetched(apt)
    releases = [Release.read(lists, suite) for suite in suites]
    found = components_of(releases, components, architecture, fetched, f"{mirrors.main} (from {mirrors.origin})")
    (job.out / "lists").mkdir()
    for release in releases:
        # as apt names them for a host called like the archive
        prefix = job.out / "lists" / f"{archive_of(release.suite)}_dists_{release.suite.replace('/', '_')}_"
        for name in NAMES:
            if (file := Path(f"{release.stem}{name}")).exists():
                shutil.copyfile(file, f"{prefix}{name}")
        for component in found[release.suite]:
            kept = [file.read_bytes() for file in fetched.get((release.suite, component), ()) if file.exists()]
            Path(f"{prefix}{component.replace('/', '_')}_binary-{architecture}_Packages").write_bytes(
                b"\n".join(map(trimmed, kept))
            )
    (job.out / "sources.list").write_text(
        "".join(
            f"deb [trusted=yes] http://{archive_of(suite)} {suite} {' '.join(has)}\n" for suite, has in found.items()
        )
    )


def _fetched(apt: Apt) -> dict[tuple[str, str], list[Path]]:
    """The Packages files of each suite and component: archives may have one of their own for "all" architectures."""
    targets = apt.get(
        "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(FILENAME)", "Created-By: Packages", timeout=30
    ).stdout
    found: dict[tuple[str, str], list[Path]] = {}
    for suite, component, file in (line.split(" ", 2) for line in targets.splitlines()):
        found.setdefault((suite, component), []).append(Path(file))
    return found


def _keys(job: Job) -> bytes:
    """The keys that may sign the archive."""
    keyring = job.recipes / str(job.params["keyring"])
    try:
        keys = keyring.read_bytes()
    except OSError as error:
        raise BuildError(
            f"keyring {keyring} is missing: {error.strerror}",
            hint="install the package debian-archive-keyring, or name another `keyring` in the recipe",
        ) from None
    if keys.startswith(b"-----BEGIN PGP PUBLIC KEY"):
        return keys.replace(b"\r\n", b"\n")  # apt reads no other ends of lines
    if keys[:1] < b"\x80":  # an OpenPGP packet begins so
        raise BuildError(
            f"{keyring} is no keyring: it holds no OpenPGP keys",
            hint="name the file of the archive's keys in the recipe: `keyring`",
        )
    return keys


def _update(apt: Apt, mirrors: Mirrors, log: Path) -> None:
    """Have apt fetch all indexes and check their signatures."""
    try:
        update = apt.get("update", "--error-on=any", timeout=_UPDATE)
    except CommandError:
        raise NoSource(
            f"the mirror has not given out its index after {_UPDATE} s: {mirrors.main} (from {mirrors.origin})",
            hint="check the network and the proxy (http_proxy), or use another mirror",
        ) from None
    said = update.stdout + update.stderr
    with log.open("a") as file:
        file.write(said)
    if update.status != 0:
        raise refused(complaint(said), mirrors, log)
