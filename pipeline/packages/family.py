"""What a package family is: who makes its artifacts, what its files are like, and how a machine is asked for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Maker:
    """A builder ("module:function"), and what of the host matters to what it makes, as in a step."""

    name: str
    tools: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One family.

    `index` takes a snapshot of a repository's metadata, `lock` resolves with it, `fetch` brings what was locked.
    `root` makes the base root of it, `layer` adds packages to one, `under_test` adds packages that a person gives;
    `unpacked` is a tree in which no package's script has run.

    A file of a package is `called` so by people, has a name that ends in `suffix`, and begins with `magic`.

    A root notes in `database`, a folder, which packages it has.  `listing` is POSIX sh text: `list_packages` prints a
    line "NAME VERSION STATE" for each package, and STATE is "whole" if nothing is amiss with it.  So is `changing`, for
    a machine that runs: `add_packages FOLDER` installs the files there, without network, where nothing else goes for
    them and no script starts a service; `take_packages NAME ...` removes those that are there, and refuses what others
    need.  Of settings (files that are people's to change), `settings_in FOLDER` prints the paths that packages there
    bring which the machine does not have, `settings_of NAME ...` prints a line "same PATH" or "changed PATH" for each
    of packages that it has.

    `mirrors` and `releases` are functions ("module:function"): from the parameters of a step that fetches to the URLs
    that it reads below; and from a distribution's recipe, as it is written, to the URLs of what its mirror must have.
    """

    name: str
    called: str
    suffix: str
    magic: bytes
    database: str
    listing: str
    changing: str
    mirrors: str
    releases: str
    index: Maker
    lock: Maker
    fetch: Maker
    root: Maker
    layer: Maker
    under_test: Maker
    unpacked: Maker
