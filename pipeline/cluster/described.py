"""What a cluster that runs is: written down in its run folder when it boots.

Whoever looks after running machines (stop, status, ssh, vm, console, inspect) reads it here and not in the recipes: a
recipe may have been edited since, may be broken now, or gone.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.description import Cluster, Host
from pipeline.errors import ClusterError
from pipeline.files import write_whole

_FILE = "cluster.json"

#: Grows with every change of what is written that an older or newer version of this project could not read.
_SCHEMA = 2


@dataclass(frozen=True)
class Described:
    """A cluster and the VM container that it was booted on; `copy_of`: the cluster that it is a thawed copy of."""

    cluster: Cluster
    host: Host
    copy_of: str = ""


def write(run_dir: Path, cluster: Cluster, host: Host, copy_of: str = "") -> None:
    """Write it down, in a run folder that is there."""
    known = {"schema": _SCHEMA, "cluster": cluster.to_json(), "host": dataclasses.asdict(host), "copy_of": copy_of}
    text = json.dumps(known, indent=1)
    write_whole(run_dir / _FILE, f"{text}\n".encode())


def read(run_dir: Path) -> Described | None:
    """What stands in a run folder, or None; raises ClusterError where another version has written it."""
    try:
        found = json.loads((run_dir / _FILE).read_bytes())
        if found["schema"] != _SCHEMA:
            raise ValueError(f"schema {found['schema']}")
        return Described(Cluster.from_json(found["cluster"]), Host(**found["host"]), found.get("copy_of", ""))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(
            f"{run_dir.name} was booted by another version of this project: {run_dir / _FILE} cannot be read ({error})",
            hint=f"doit stop:{run_dir.name} ends it",
        ) from None
