"""The recipes folder: everything in it by kind and name, read when asked for, and checked against each other.

recipes = load(Path("recipes"))
recipes.cluster("debian12")     # one, with what it refers to: what else is in the folder may be broken
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pipeline import description
from pipeline.errors import ManifestError
from pipeline.guests.guest import Init
from pipeline.hosts import kinds
from pipeline.manifests import describing, filenames, fitting, lists, loader
from pipeline.manifests.cluster import Cluster
from pipeline.manifests.distro import DISTROS, Distro
from pipeline.manifests.host import Host
from pipeline.manifests.loader import Document
from pipeline.manifests.netboot import Netboot
from pipeline.mistakes import Collector, Key, Mistake, did_you_mean, fail, listing, no_such, quoted, shown
from pipeline.opkgs import config, folders, model
from pipeline.opkgs.filters import Codenames
from pipeline.opkgs.model import Opkg
from pipeline.opkgs.names import Asks
from pipeline.opkgs.phases import Side

_NONE: Mapping[Path, str] = MappingProxyType({})


def load(folder: Path) -> Recipes:
    """The recipes in that folder; nothing in it is read yet."""
    if not folder.is_dir():
        raise ManifestError(
            f"{shown(folder)}: no such folder; expected the recipes", hint="run this in the project's folder"
        )
    return Recipes(folder)


class Recipes:
    """All recipes of a folder.  What was read once is kept; a manifest with mistakes raises each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: The lists that manifests refer to, wherever they lie, and what was passed over in them.
        self.lists: set[Path] = set()
        self._passed_over: set[Mistake] = set()
        self.names = functools.cache(self._names)
        self.distro = functools.cache(self._distro)
        self.host = functools.cache(self._host)
        self.netboot = functools.cache(self._netboot)
        self.opkg = functools.cache(self._opkg)
        self.content = functools.cache(self._content)
        self.asks = functools.cache(self._asks)
        self.cluster = functools.cache(self._cluster)
        self.codenames = functools.cache(self._codenames)

    def _names(self, kind: str) -> list[str]:
        """The names of what is there: `kind` is the folder: "clusters", "distros", "hosts", "netboot" or "opkgs"."""
        folder = self.folder / kind
        if not folder.is_dir():
            return []
        if kind == "opkgs":
            return sorted(
                entry.name
                for entry in folder.iterdir()
                if (entry.is_dir() or entry.is_symlink()) and not entry.name.startswith(".")
            )
        return sorted(
            entry.stem for entry in folder.iterdir() if entry.suffix == ".toml" and not entry.name.startswith(".")
        )

    def describe(self, cluster: str, lot: int = 0, drafts: Mapping[Path, str] = _NONE) -> description.Cluster:
        """A cluster with every name and address given out; `lot` is its share of its host, `drafts` what files of
        clusters would hold."""
        manifest = self._cluster(cluster, drafts) if drafts else self.cluster(cluster)
        secrets = {secret.path: secret for name in manifest.opkgs for secret in self.opkg(name).secrets}
        return describing.describe(manifest, self.distro(manifest.distro), tuple(secrets.values()), lot)

    def said_macs(self, cluster: str, drafts: Mapping[Path, str] = _NONE) -> set[str]:
        """The MACs that its recipe says; all others are given out by number and lot."""
        manifest = self._cluster(cluster, drafts) if drafts else self.cluster(cluster)
        return {own.mac for own in manifest.machines.values() if own.mac}

    def joined(self, cluster: str, names: Sequence[str]) -> tuple[str, ...]:
        """The OPKGs of a cluster to which these come, in the order of installation; NotThere if there is none of that
        name, ManifestError with all that does not go together."""
        manifest = self.cluster(cluster)
        for name in names:
            if name not in self.names("opkgs"):
                raise no_such("OPKG", name, self.names("opkgs"))
            self.opkg(name)  # which tells its mistakes
        opkgs = self._opkgs()
        unread = [one for one in self.names("opkgs") if one not in opkgs]
        order, wrong = model.resolve(opkgs, [*manifest.opkgs, *names], self.distro(manifest.distro), unread)
        if wrong:
            raise ManifestError("\n".join(wrong))
        return order

    def chains(self, opkg: str, beside: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """What an OPKG needs, as `model.chains`."""
        return model.chains(self._opkgs(), opkg, beside)

    def describe_host(self, host: str) -> description.Host:
        """A VM container as plain data."""
        manifest = self.host(host)
        return manifest.describe(self.distro(manifest.distro).guest if manifest.distro else "")

    def sharing(self) -> dict[str, list[str]]:
        """Connection -> names of the clusters that share the host there, of those that can be read; only hosts that
        several clusters can have a share of."""
        found: dict[str, list[str]] = {}
        for name in self.names("clusters"):
            with contextlib.suppress(ManifestError):
                host = self.host(self.cluster(name).host)
                if kinds.of(host.connection).is_shared:
                    where = host.name if kinds.of(host.connection).is_made else host.connection
                    found.setdefault(where, []).append(name)
        return found

    def distros(self) -> list[Distro]:
        """All distributions that can be read."""
        collector = Collector()
        read = [collector.attempt(functools.partial(self.distro, name)) for name in self.names("distros")]
        return [item for item in read if item]

    def warnings(self) -> list[Mistake]:
        """What the OPKGs that can be read, and lists that were, warn of, by file and line."""
        return sorted({*self._passed_over, *(warning for item in self._opkgs().values() for warning in item.warnings)})

    def _distro(self, name: str) -> Distro:
        document = self._document("distros", name)
        family, collector = document.data.get("family", "deb"), Collector()
        if family not in DISTROS:
            text = f"{quoted(family)} is not known; expected one of {listing(DISTROS)}{did_you_mean(family, DISTROS)}"
            collector = Collector([document.mistake(("family",), text)])
            family = document.data["family"] = "deb"  # as which its other mistakes are told
        found = collector.attempt(lambda: loader.validate(document, DISTROS[family]))
        collector.finish()
        assert found is not None  # finish() raises otherwise
        return found

    def _host(self, name: str) -> Host:
        document = self._document("hosts", name)
        manifest = loader.validate(document, Host)
        self._refer(document, [(("distro",), "distros", manifest.distro)])
        if manifest.distro and not self.distro(manifest.distro).packages.dom0:
            fail(
                [
                    document.mistake(
                        ("distro",),
                        f"{quoted(manifest.distro)} has no packages.dom0, which make a Xen "
                        "host of it; expected another one, or these packages",
                    )
                ]
            )
        return manifest

    def _netboot(self, name: str) -> Netboot:
        document = self._document("netboot", name)
        manifest = loader.validate(document, Netboot)
        self._refer(document, [(("distro",), "distros", manifest.distro)])
        architecture = self.distro(manifest.distro).hardware
        if name != architecture:
            fail(
                [
                    document.mistake(
                        ("distro",),
                        f"{quoted(manifest.distro)} is for {architecture}; expected one for "
                        f"{name}, as this file is called",
                    )
                ]
            )
        return manifest

    def _opkg(self, name: str) -> Opkg:
        self._known("opkgs", name)
        return folders.load(self.folder / "opkgs" / name, self.codenames())

    def _content(self, opkg: str, side: Side, init: Init) -> tuple[tuple[str, str], ...]:
        """What builders read of an OPKG, as `folders.content`: the same for all clusters."""
        return folders.content(self.opkg(opkg), side, init)

    def _asks(self, opkg: str, side: Side) -> Asks:
        """What an OPKG asks for of the cluster's names, as `folders.asks`."""
        return folders.asks(self.opkg(opkg), side)

    def _codenames(self) -> Codenames:
        """What the suites of all distributions that can be read are called as versions."""
        return {
            (item.compat.name.lower(), item.codename.lower()): item.compat.version
            for item in self.distros()
            if item.codename
        }

    def _cluster(self, name: str, drafts: Mapping[Path, str] = _NONE) -> Cluster:
        """The cluster; its `opkgs` are completed by what they require, and in the order of installation."""
        names = sorted({*self.names("clusters"), *(file.stem for file in drafts)})
        self._known("clusters", name, names)
        document = loader.extended(
            self.file(name),
            lambda base: self.file(base) if base in names else None,
            names,
            self._prepare,
            drafts,
        )
        collector = Collector()
        manifest = collector.attempt(lambda: loader.validate(document, Cluster))
        collector.attempt(lambda: self._refer(document, _references(document)))
        collector.finish()
        assert manifest is not None  # finish() raises otherwise
        host = collector.attempt(lambda: self.host(manifest.host))
        distro = collector.attempt(lambda: self.distro(manifest.distro))
        kernel = collector.attempt(lambda: self.distro(manifest.kernel_from)) if manifest.kernel_from else None
        if distro is not None:
            installer = distro.hardware
            collector.attempt(lambda: self._refer(document, [(("distro",), "netboot", installer)]))
            collector.attempt(lambda: self.netboot(installer) if installer in self.names("netboot") else None)
        opkgs = self._opkgs()
        unread = [one for one in self.names("opkgs") if one not in opkgs]
        for one in model.needed(opkgs, [*manifest.opkgs, *filter(self._may_be_core, unread)]):
            if one in unread:
                collector.attempt(functools.partial(self.opkg, one))
        collector.finish()
        assert distro is not None
        if misfits := list(fitting.misfits(document, manifest, distro, host, kernel)):
            fail(misfits)
        order, wrong = model.resolve(opkgs, manifest.opkgs, distro, unread)
        if wrong:
            fail([document.mistake(("opkgs",), text) for text in wrong])
        return manifest.model_copy(update={"opkgs": order})

    def _opkgs(self) -> dict[str, Opkg]:
        """All OPKGs that can be read."""
        collector = Collector()
        return {
            name: found
            for name in self.names("opkgs")
            if (found := collector.attempt(functools.partial(self.opkg, name))) is not None
        }

    def _may_be_core(self, name: str) -> bool:
        """Whether an OPKG that cannot be read may belong to every cluster: nobody shall get one without it."""
        return config.may_be_core(self.folder / "opkgs" / name / "config.xml")

    def file(self, cluster: str) -> Path:
        """Where the recipe of a cluster is, or would be."""
        return self._file("clusters", cluster)

    def _file(self, kind: str, name: str) -> Path:
        return self.folder / kind / f"{name}.toml"

    def _document(self, kind: str, name: str) -> Document:
        self._known(kind, name)
        document = loader.read(self._file(kind, name))
        self._expand_lists(document)
        return document

    def _expand_lists(self, document: Document) -> None:
        files, passed_over = lists.expand(document)
        self.lists.update(files)
        self._passed_over.update(passed_over)

    def _prepare(self, document: Document) -> None:
        """A cluster that others lie over: with the entries of lists, and with paths that are right anywhere."""
        self._expand_lists(document)
        _absolute_paths(document)

    def _known(self, kind: str, name: str, names: Sequence[str] = ()) -> None:
        """Names that come from the command line, and names of files."""
        names = names or self.names(kind)
        if name not in names:
            raise ManifestError(
                f"{shown(self.folder / kind)}: no {quoted(name)}; expected one of {listing(names)}"
                f"{did_you_mean(name, names)}"
            )
        wrong = filenames.wrong(kind, name)
        if wrong:
            fail([Mistake(shown(self._file(kind, name)), 1, "", wrong)])

    def _refer(self, document: Document, references: Iterable[tuple[Key, str, object]]) -> None:
        """Names of other recipes that stand in a manifest; what is no text was told already."""
        mistakes = []
        for key, kind, name in references:
            names = self.names(kind)
            if isinstance(name, str) and name not in names:
                mistakes.append(
                    document.mistake(
                        key,
                        f"{quoted(name)} is not in {shown(self.folder / kind)}; expected "
                        f"one of {listing(names)}{did_you_mean(name, names)}",
                    )
                )
        if mistakes:
            fail(mistakes)


def _references(document: Document) -> Iterator[tuple[Key, str, object]]:
    """What a cluster refers to: where that stands, the folder it should be in, and its name."""
    yield ("distro",), "distros", document.data.get("distro")
    yield ("kernel_from",), "distros", document.data.get("kernel_from") or None
    yield ("host",), "hosts", document.data.get("host", Cluster.model_fields["host"].default)
    opkgs = document.data.get("opkgs")
    for index, name in enumerate(opkgs if isinstance(opkgs, list) else ()):
        yield ("opkgs", index), "opkgs", name


def _absolute_paths(document: Document) -> None:
    """Paths are relative to the manifest in which they stand, also when another one extends that."""
    packages = document.data.get("packages")
    for files in packages.values() if isinstance(packages, dict) else ():
        if isinstance(files, list):
            files[:] = [loader.relative_to_file(document, file) if isinstance(file, str) else file for file in files]
