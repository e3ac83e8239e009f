"""The key of an artifact, and why it differs from the last one.

key = SHA-256 over: kind and parameters, the recipe files that its maker reads, the source of that maker (its
module and every `pipeline` module that it imports, and files that it ships), the versions of the host programs it
runs, and its parents' **output digests**.  Because outputs and not keys of parents count, a parent that is rebuilt
with the same result stops the rebuild there (early cutoff).

What costs time (hashing sources, asking programs for versions) is remembered in `artifacts/cache/keys.json` by the
signatures of the files and folders that it was found out from.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import sandbox, signature
from pipeline.digests import canonical
from pipeline.errors import CommandError
from pipeline.files import write_whole
from pipeline.run import run, which
from pipeline.step import Artifact
from pipeline.store import Entry, Store

_PACKAGE = Path(__file__).resolve().parent
#: Names of one kind that a reason tells before it only counts them.
_SHOWN = 3
#: Modules that cannot change what a builder writes: how processes are started and errors are told.
_NEUTRAL = frozenset({"pipeline", "pipeline.errors", "pipeline.run", "pipeline.step"})


class Keys:
    """Keys of the artifacts of one plan, against one store."""

    def __init__(self, artifacts: Mapping[str, Artifact], store: Store) -> None:
        self.artifacts = artifacts
        self.store = store
        self._cache_file = store.artifacts / "cache" / "keys.json"
        try:
            self._cache: dict[str, Any] = json.loads(self._cache_file.read_bytes())
        except (OSError, ValueError):
            self._cache = {}
        self._changed = False
        self._entries: dict[str, Entry] = {}
        self._sources: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def entry(self, task: str) -> Entry | None:
        """The up-to-date entry of a task, or None when it (or something below it) must be built."""
        if task not in self._entries:
            key = self.key(self.artifacts[task])
            entry = self.store.get(key) if key else None
            if entry is None or not self.store.hold(entry.key):
                return None
            self._entries[task] = entry
        return self._entries[task]

    def built(self, task: str) -> None:
        """A task has been built anew: what it made before, if that was asked for already, no longer counts."""
        self._entries.pop(task, None)

    def key(self, artifact: Artifact) -> str | None:
        """The artifact's key, or None while a parent is not built."""
        ingredients = self.ingredients(artifact)
        return hashlib.sha256(canonical(ingredients)).hexdigest() if ingredients else None

    def ingredients(self, artifact: Artifact) -> dict[str, Any] | None:
        """Everything that the key covers, in a form that can be compared and shown."""
        parents = []
        for parent in artifact.parents:
            entry = self.entry(parent.task)
            if entry is None:
                return None
            digest = entry.part(parent.part) if parent.part else entry.digest
            parents.append([parent.role, parent.task.partition(":")[0], digest])
        return {
            "kind": artifact.kind,
            "builder": artifact.maker,
            "params": dict(artifact.params),
            # where a package under test lies makes no difference
            "files": {Path(name).name if name.startswith("/") else name: digest for name, digest in artifact.files},
            "source": self._source(artifact),
            "surroundings": sandbox.surroundings(),
            "tools": {tool: self._version(tool) for tool in artifact.tools},
            "parents": parents,
        }

    def why(self, artifact: Artifact) -> str:
        """Why it must be made: what differs from what it was last made of."""
        now = self.ingredients(artifact)
        if now is None:
            missing = [parent.task for parent in artifact.parents if self.entry(parent.task) is None]
            names = list(dict.fromkeys(missing))
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN + 1 else ""
            return f"{', '.join(names[:_SHOWN] if more else names)}{more} must be built first"
        last = self.store.linked(artifact.task)
        if last is None:
            return "never built here"
        return "; ".join(_differences(last.manifest.get("ingredients", {}), now)) or "its entry was removed"

    def save(self) -> None:
        """Keep what was remembered; a lost write costs a little time, nothing else."""
        if not self._changed:
            return
        with contextlib.suppress(OSError):
            write_whole(self._cache_file, json.dumps(self._cache).encode())
            self._changed = False
            atexit.unregister(self.save)

    # --- what a maker is made of

    def _source(self, artifact: Artifact) -> str:
        name = self._source_name(artifact)
        if name not in self._sources:
            self._sources[name] = self._remembered(name, lambda: _source_files(artifact), _digest_of_sources)
        return self._sources[name]

    def _source_name(self, artifact: Artifact) -> str:
        """Checkouts that share a store have sources of their own."""
        return " ".join([f"source {_PACKAGE}", _module(artifact), *artifact.ships])

    def source_changed(self, artifact: Artifact) -> int:
        """When the source of its maker was changed last, or the packages of Python that it uses (time.time_ns())."""
        self._source(artifact)
        known = self._cache.get(self._source_name(artifact))  # not where it was changed just now
        files = [path for path, _ in known["files"]] if known else _source_files(artifact)
        packages = _package_folders() if any(tool.startswith("python:") for tool in artifact.tools) else []
        return signature.latest(signature.of(path) for path in [*files, *packages])

    def _version(self, tool: str) -> str:
        if tool not in self._versions:
            self._versions[tool] = self._asked(tool)
        return self._versions[tool]

    def _asked(self, tool: str) -> str:
        """The version of a host program, or of a Python package ("python:NAME"); the SHA-256 of a file that a program
        is given ("file:PATH")."""
        if tool.startswith("python:"):
            name = tool.removeprefix("python:")
            folders = _package_folders()  # those of another checkout are others, whatever remembers both
            return self._remembered(
                f"tool {tool} in {':'.join(map(str, folders))}", lambda: folders, lambda _: _package_version(name)
            )
        if tool.startswith("file:"):
            file = Path(tool.removeprefix("file:"))
            if not file.is_file():
                raise CommandError(f"{file} is missing", hint="run ./bootstrap: it installs what is missing")
            return self._remembered(f"tool {tool}", lambda: [file], lambda _: _digest_of_file(file))
        path = which(tool, sandbox.PATH)  # what the builder will run, not what the caller would
        if path is None:
            raise CommandError(f"{tool}: command not found", hint="run ./bootstrap: it installs what is missing")

        def ask(_: list[Path]) -> str:
            lines = run([path, "--version"], timeout=30, check=False)
            return (lines.stdout or lines.stderr).partition("\n")[0].strip()

        return self._remembered(f"tool {path}", lambda: [Path(path)], ask)

    def _remembered(self, name: str, find: Callable[[], list[Path]], compute: Callable[[list[Path]], str]) -> str:
        """`compute(find())`, remembered for as long as these files, and the names in these folders, stay the same."""
        known = self._cache.get(name)
        if known and all(_signature(path) == signed for path, signed in known["files"]):
            return str(known["value"])
        began = time.time_ns()
        paths = find()
        signed = [_signature(path) for path in paths]
        value = compute([path for path in paths if not path.is_dir()])
        if signature.is_settled(map(tuple, signed), began):
            self._cache[name] = {"files": list(zip(map(str, paths), signed, strict=True)), "value": value}
            if not self._changed:
                self._changed = True
                atexit.register(self.save)  # a run in which nothing has to be built remembers as well
        return value


def _module(artifact: Artifact) -> str:
    return artifact.maker.partition(":")[0]


def _source_files(artifact: Artifact) -> list[Path]:
    return sorted(_closure(_module(artifact)) | _shipped(artifact))


def _digest_of_sources(files: list[Path]) -> str:
    digests = [
        [str(file.relative_to(_PACKAGE.parent)), hashlib.sha256(file.read_bytes()).hexdigest()] for file in files
    ]
    return hashlib.sha256(canonical(digests)).hexdigest()


def _digest_of_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _package_folders() -> list[Path]:
    """Where Python finds packages: installing one changes the folder."""
    return [Path(folder) for folder in sys.path if folder.endswith("-packages")]


def _package_version(name: str) -> str:
    from importlib import metadata  # takes longer to import than a run with nothing to do may

    return metadata.version(name)


def _signature(path: str | Path) -> list[int]:
    return list(signature.of(path))  # as JSON has it


def _shipped(artifact: Artifact) -> set[Path]:
    """The files that a maker ships with, and the folders that they lie in: what is added there ships as well."""
    found: set[Path] = set()
    for place in artifact.ships:
        path = _PACKAGE / place
        found |= {path, *(item for item in path.rglob("*") if "__pycache__" not in item.parts)}
    return found


def _closure(module: str) -> set[Path]:
    """The source files of a module and of every `pipeline` module that it imports, directly or not."""
    found: dict[str, Path] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name in found or name in _NEUTRAL:
            continue
        path = _module_file(name)
        if path is None:
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                pending += [alias.name for alias in node.names if alias.name.startswith("pipeline")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline"):
                pending += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return set(found.values())


def _module_file(name: str) -> Path | None:
    base = _PACKAGE.parent.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    if old.get("source") != new["source"]:
        found.append("its builder changed")
    for what, label in (("files", ""), ("tools", "tool "), ("params", "parameter ")):
        before, after = old.get(what, {}), new[what]
        for verb, names in (
            ("is new", after.keys() - before.keys()),
            ("is gone", before.keys() - after.keys()),
            # what was read back has lists for tuples
            ("changed", {name for name in before.keys() & after if canonical(before[name]) != canonical(after[name])}),
        ):
            found += _some([f"{label}{name} {verb}" for name in sorted(names)], f"{label or 'file '}{verb}")
    before_parents = [tuple(item) for item in old.get("parents", [])]
    changed = [
        f"input {item[1]} changed" if item[0] == item[1] else f"input {item[0]} ({item[1]}) changed"
        for position, item in enumerate(new["parents"])
        if position >= len(before_parents) or before_parents[position] != tuple(item)
    ]
    found += _some(changed, "input changed")
    if len(before_parents) > len(new["parents"]):
        found.append("it has fewer inputs")
    return found


def _some(texts: Sequence[str], what: str) -> list[str]:
    """As many as one can read at a glance, and how many more there are: `what` is said of one of them."""
    if len(texts) <= _SHOWN + 1:
        return list(texts)
    noun, _, verb = what.partition(" ")
    many = f"{noun}s {verb.replace('is ', 'are ')}"
    return [*texts[:_SHOWN], f"{len(texts) - _SHOWN} more {many}"]
