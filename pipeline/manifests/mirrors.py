"""Where this person has the packages of distributions: `mirrors.toml` beside `recipes/`, which git ignores.

rocky9 = "/srv/rocky9"
fc4 = ["discs/FC4-i386-DVD.iso", "https://HOST/archive/fedora/linux/core"]
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import UserError
from pipeline.manifests import loader
from pipeline.manifests.loader import Document
from pipeline.mistakes import Key, Mistake, did_you_mean, fail, listing, quoted
from pipeline.packages import given


def read(file: Path, distros: Iterable[str]) -> dict[str, list[str]]:
    """The places that it names, by distribution; paths are taken from its folder.  Raises ManifestError."""
    document = loader.read(file)
    known, found = sorted(distros), dict[str, list[str]]()
    mistakes: list[Mistake] = []
    for name, value in document.data.items():
        if name not in known:
            text = f"no such distribution; expected one of {listing(known)}{did_you_mean(name, known)}"
            mistakes.append(document.mistake((name,), text))
            continue
        places = value if isinstance(value, list) else [value]
        keys: list[Key] = [(name, index) for index in range(len(places))] if isinstance(value, list) else [(name,)]
        if not places:
            mistakes.append(document.mistake((name,), "the list is empty; expected a folder, a URL or an ISO image"))
        for key, place in zip(keys, places, strict=True):
            try:
                found.setdefault(name, []).append(_place(document, place))
            except ValueError as error:
                mistakes.append(document.mistake(key, str(error)))
    if mistakes:
        fail(mistakes)
    return found


def _place(document: Document, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f'{quoted(value)} is no place; expected text like "/srv/mirror" or "https://HOST/mirror"')
    try:
        url = given.as_url(value)
    except UserError as error:
        raise ValueError(f"{error.message}; expected {error.hint}") from None
    return url if url == value else loader.relative_to_file(document, str(Path(value).expanduser()))


def take(top: Path) -> None:
    """Give these places to the steps that this process starts, but where the command or the environment has others."""
    file = top / given.SETTINGS
    if not file.exists():
        return
    distros = [path.stem for path in (top / "recipes" / "distros").glob("*.toml")]
    for distro, places in read(file, distros).items():
        if not given.places_of(distro):
            given.give(distro, places)
