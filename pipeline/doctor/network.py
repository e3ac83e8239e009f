"""Can packages be had, and is the clock right enough for their signatures?"""

from __future__ import annotations

import email.utils
import pkgutil
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.doctor.finding import Finding, Surroundings
from pipeline.errors import UserError
from pipeline.manifests import mirrors
from pipeline.packages import given
from pipeline.packages.families import FAMILIES

_PATIENCE = 15
#: How wrong the clock may be, in seconds; signatures of package indexes are valid for days.
_TOLERANCE = 300


@dataclass(frozen=True)
class _Answer:
    """What a mirror said: `error` is empty where it has the release, `clock` is its time where it told it; it is
    `silent` where there is no way to it."""

    url: str
    error: str
    clock: float | None
    silent: bool = False


def check_mirrors(surroundings: Surroundings) -> Finding:
    """Whether every distribution's mirror has its release; one that does not answer may be of one that nobody wants,
    while others do."""
    try:
        answers = _asked(_releases(surroundings.recipes))
    except UserError as error:
        return Finding("mirrors", "fail", error.message, error.hint)
    wrong = [answer for answer in answers if answer.error]
    if wrong:
        some = any(not answer.error for answer in answers) and all(answer.silent for answer in wrong)
        return Finding(
            "mirrors",
            "warn" if some else "fail",
            "; ".join(f"{answer.url}: {answer.error}" for answer in wrong),
            "check the network and http_proxy; another mirror: --mirror NAME=URL, XEN_OSCAR_MIRROR=URL, mirrors.toml, "
            "or `mirror` in the recipe of the distribution (what has been fetched already needs no mirror)",
        )
    return Finding("mirrors", "ok", f"{len(answers)} releases can be read")


def check_clock(surroundings: Surroundings) -> Finding:
    """Whether the clock agrees with a mirror's."""
    here = time.time()
    if time.gmtime(here).tm_year < 2024:
        return Finding(
            "clock",
            "fail",
            f"it is {time.strftime('%Y-%m-%d', time.gmtime(here))} here",
            "set the clock: package signatures are not valid yet",
        )
    try:
        urls = _releases(surroundings.recipes)
    except UserError:
        urls = []
    there = next((answer.clock for answer in _asked(urls[:1]) if answer.clock is not None), None)
    if there is None:
        return Finding("clock", "ok", "plausible; no mirror tells the time")
    off = time.time() - there
    if abs(off) > _TOLERANCE:
        return Finding(
            "clock",
            "warn",
            f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the mirror's",
            "set the clock: package signatures have a time",
        )
    return Finding("clock", "ok", "agrees with the mirror's")


def _releases(recipes: Path) -> list[str]:
    """The URL of each release that the recipes name, without the same one twice."""
    mirrors.take(recipes.parent)
    urls: dict[str, None] = {}
    for file in sorted((recipes / "distros").glob("*.toml")):
        try:
            recipe = tomllib.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: {error}", hint="`doit list` names the mistake more exactly") from None
        family = FAMILIES.get(str(recipe.get("family")))
        urls.update(
            dict.fromkeys(pkgutil.resolve_name(family.releases)({**recipe, "distro": file.stem}) if family else ())
        )
    return list(urls)


def _asked(urls: Iterable[str]) -> list[_Answer]:
    """All answers; a host that is silent is asked once."""
    answers: dict[str, _Answer] = {}
    found = []
    for url in urls:
        if given.scheme_of(url) not in given.SCHEMES:  # recipes are read as they are written
            found.append(_Answer(url, "this is no address", None))
            continue
        host = urllib.parse.urlsplit(url).netloc
        known = answers.get(host)
        answers[host] = _Answer(url, known.error, None, silent=True) if known and known.silent else _ask(url)
        found.append(answers[host])
    return found


def _ask(url: str) -> _Answer:
    """Ask for the head of a release file only."""
    if url.startswith("file:"):
        there = Path(urllib.request.url2pathname(url.removeprefix("file:").replace("//", "/", 1))).is_file()
        return _Answer(url, "" if there else "no such file", None)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE) as answer:
            told = email.utils.parsedate_to_datetime(answer.headers["Date"]) if answer.headers["Date"] else None
            # a cache's Date is that of the origin's answer; Age says how long ago that was
            age = int(answer.headers.get("Age") or 0)
            return _Answer(url, "", told.timestamp() + age if told else None)
    except urllib.error.HTTPError as error:
        return _Answer(url, f"{error.code} {error.reason}", None)
    except (OSError, ValueError) as error:
        return _Answer(url, str(getattr(error, "reason", error)), None, silent=True)
