"""The files of a report, all of them at once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.checks.result import Verdict
from pipeline.description import Cluster
from pipeline.report import junit, page
from pipeline.report.model import Artifact, Timeline


def write(
    folder: Path,
    verdict: Verdict,
    cluster: Cluster,
    timeline: Timeline,
    consoles: Mapping[str, Path],
    artifacts: Sequence[Artifact],
) -> Path:
    """Write the three files into `folder`, each whole or not at all; the HTML file's path.

    `consoles` are the machines' console logs; one that does not exist is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "verdict.json": json.dumps(verdict.to_json(), indent=1).encode(),
        "junit.xml": junit.render(verdict, cluster, artifacts),
        "report.html": page.render(verdict, cluster, timeline, consoles, artifacts).encode(),
    }
    for name, content in files.items():
        part = folder / f".{name}.{os.getpid()}"
        part.write_bytes(content)
        part.replace(folder / name)
    return folder / "report.html"
