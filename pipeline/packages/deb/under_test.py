"""Packages under test: .deb files that somebody gives, installed last: a new one then costs a fraction of a second.

They come on top of what the locks say, and nothing else goes for them: a cluster whose sshd was removed by a package
that conflicts with it would be noticed only when it runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import BuildError, CommandError
from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.deb.complaints import Removal
from pipeline.packages.deb.install import PACKAGES, install
from pipeline.packages.deb.installed import Packages, installed, why_not
from pipeline.packages.deb.relations import compare
from pipeline.packages.deb.stanzas import Stanza
from pipeline.run import run
from pipeline.step import Job

_HINT = (
    "packages under test may not take others away: leave these out of the packages of the distribution and of "
    "OPKGs, or give a package that gets on with them"
)


def build(job: Job) -> None:
    """Builder: the files that `packages` names, installed over all else, as `layer.tar.zst`; and which they are."""
    folder = job.work / "given"
    folder.mkdir()
    given: dict[str, Stanza] = {}
    paths = {Path(path).name: path for path, _ in job.step.files}
    for name in job.params["packages"]:
        file = _copied(job.recipes / paths.get(name, name), folder)
        stanza = _control(file)
        if stanza.name in given:
            raise BuildError(
                f"{file.name}: {stanza.name} is there twice, in versions {given[stanza.name].version} "
                f"and {stanza.version}",
                hint="give it once: `packages` in the cluster's recipe",
            )
        given[stanza.name] = stanza
    words = ["--allow-downgrades", "--reinstall", *(f"{PACKAGES}/{file.name}" for file in sorted(folder.iterdir()))]

    def change(root: Path) -> None:
        before = installed(root)
        try:
            install(root, [], folder, words, work=job.work, log=job.log)
        except Removal as error:
            raise _displaced(error.names, before, given, job.log) from None
        if gone := sorted(before.keys() - installed(root).keys()):
            raise _displaced(gone, before, given, job.log)
        for text in _steps_back(before, given):
            job.note(f"{job.step.task}: {text}")

    stacking.change(job, change)
    lock.write_versions(job.out / lock.VERSIONS, {name: stanza.version for name, stanza in given.items()})


def _copied(source: Path, folder: Path) -> Path:
    if not source.is_file():
        raise BuildError(f"{source}: no such package file", hint="correct `packages` in the cluster's recipe")
    return shutil.copyfile(source, folder / source.name)


def _control(file: Path) -> Stanza:
    """What a package says of itself."""
    try:
        return Stanza(run(["dpkg-deb", "--field", file], timeout=60).stdout)
    except CommandError as error:
        raise BuildError(
            f"{file.name} is no package that dpkg-deb can read",
            tail=error.tail,
            hint="it is damaged, or was not copied to its end: make it anew",
        ) from None


def _displaced(names: list[str], before: Packages, given: Packages, log: Path) -> BuildError:
    """The error for packages that would go."""
    reasons = {name: why_not(name, before, given, frozenset(names)) or "all its files are replaced" for name in names}
    told = "; ".join(f"{name} {before[name].version} ({reason})" for name, reason in reasons.items())
    return BuildError(f"{', '.join(given)} would remove {told}", log=log, hint=_HINT)


def _steps_back(before: Packages, given: Packages) -> Iterator[str]:
    """What was there already, in this version or a later one."""
    for name, stanza in given.items():
        if name in before and (order := compare(stanza.version, before[name].version)) <= 0:
            how = "an earlier version is" if order else "the same version is"
            yield f"{name} {stanza.version} under test: {how} installed over {before[name].version}"
