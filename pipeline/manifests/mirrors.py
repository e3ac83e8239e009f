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
from pipeline.mistakes import Key, Mistake, did_you_mean, fail, listing, nearest, quoted
from pipeline.packages import given


def read(file: Path, distros: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, list[Mistake]]]:
    """The places that it names, by distribution, and the mistakes by the name that each stands at; paths are taken from
    the file's folder.  Raises ManifestError for what is no TOML."""
    document = loader.read(file)
    known, found = sorted(distros), dict[str, list[str]]()
    mistakes: dict[str, list[Mistake]] = {}

    def wrong(key: Key, text: str) -> None:
        mistakes.setdefault(str(key[0]), []).append(document.mistake(key, text))

    for name, value in document.data.items():
        if name not in known:
            text = f"no such distribution; expected one of {listing(known)}{did_you_mean(name, known)}"
            wrong((name,), text)
            continue
        places = value if isinstance(value, list) else [value]
        keys: list[Key] = [(name, index) for index in range(len(places))] if isinstance(value, list) else [(name,)]
        if not places:
            wrong((name,), "the list is empty; expected a folder, a URL or an ISO image")
        for key, place in zip(keys, places, strict=True):
            try:
                found.setdefault(name, []).append(_place(document, place))
            except ValueError as error:
                wrong(key, str(error))
    return found, mistakes


def _place(document: Document, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f'{quoted(value)} is no place; expected text like "/srv/mirror" or "https://HOST/mirror"')
    try:
        url = given.as_url(value)
    except UserError as error:
        raise ValueError(f"{error.message}; expected {error.hint}") from None
    return url if url == value else loader.relative_to_file(document, str(Path(value).expanduser()))


def take(top: Path, distro: str = "") -> None:
    """Give these places to the steps that this process starts, but where the command or the environment has others.

    Raises ManifestError for what is wrong; with a `distro` only for what is wrong of that one, so that nobody has to
    wait for another's: at its own name, or at one that is no distribution's and was probably meant to be its.
    """
    file = top / given.SETTINGS
    if not file.exists():
        return
    distros = [path.stem for path in (top / "recipes" / "distros").glob("*.toml")]
    found, mistakes = read(file, distros)
    wrong = [
        name for name in mistakes if distro in ("", name) or (distro not in found and _meant(name, distros) == distro)
    ]
    if wrong:
        fail(mistake for name in wrong for mistake in mistakes[name])
    for name, places in found.items():
        if name not in mistakes and not given.places_of(name):
            given.give(name, places)


def _meant(name: str, distros: list[str]) -> str | None:
    return None if name in distros else nearest(name, distros)
