"""The recipe of a new cluster, from a few words: judged by the manifest's own checks before it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from pipeline import description
from pipeline.errors import ManifestError, NotNow, WrongUse
from pipeline.files import write_new
from pipeline.manifests import filenames
from pipeline.manifests.recipes import Recipes
from pipeline.manifests.setting import Value
from pipeline.mistakes import shown

#: Table ("" = above all tables) -> field -> value.
Tables = Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True)
class Founded:
    """A recipe that is not there yet: its file, its text, and the cluster that it describes."""

    file: Path
    text: str
    cluster: description.Cluster

    def write(self) -> None:
        """Publish it, whole or not at all; raises NotNow where somebody else was first."""
        try:
            write_new(self.file, self.text.encode())
        except FileExistsError:
            raise _there(self.file) from None


def draft(recipes: Recipes, name: str, tables: Tables) -> Founded:
    """The recipe of a cluster of that name; raises WrongUse for what is no name, NotNow where there is one already,
    and ManifestError for what its checks refuse."""
    if wrong := filenames.wrong("clusters", name):
        raise WrongUse(f"{name!r} is no name of a cluster: {wrong}")
    file = recipes.file(name)
    if file.exists() or file.is_symlink():
        raise _there(file)
    lines = ["#:schema ../schema/cluster.json"]
    for table, fields in tables.items():
        lines += ["", f"[{table}]"] if table and fields else []
        lines += [f"{field} = {tomlkit.item(value).as_string()}" for field, value in fields.items()]
    text = "\n".join([*lines, ""])
    try:
        return Founded(file, text, recipes.describe(name, drafts={file: text}))
    except ManifestError as error:
        error.hint = error.hint or "nothing was written"
        raise


def _there(file: Path) -> NotNow:
    return NotNow(f"{shown(file)} is there already", hint="another name; doit vm add and doit vm set change that one")
