"""`doit doctor`: does this host have what the main job needs, and if not, what is to be changed?

It works where recipes are broken and nothing has been built, so it asks nothing of the task graph.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.base import OwnCommand, answer, json_argument

if TYPE_CHECKING:
    from pipeline.doctor import Finding


class Doctor(OwnCommand):
    name = "doctor"
    doc_purpose = "check this host, and say what to change"
    doc_usage = "[--json]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        json_argument(parser)

    def work(self, args: argparse.Namespace) -> int:
        """Show each finding as soon as it is known; status 1 when something makes a cluster impossible."""
        from pipeline.doctor import Surroundings, examine

        here = Path.cwd()
        artifacts = Path(os.environ.get("XEN_OSCAR_ARTIFACTS") or here / "artifacts").resolve()
        levels = []

        def findings() -> Iterator[Finding]:
            for finding in examine(Surroundings(here / "recipes", artifacts)):
                levels.append(finding.level)
                yield finding

        answer(findings(), as_json=args.json)
        failed, warned = levels.count("fail"), levels.count("warn")
        if args.json:
            return 1 if failed else 0
        if failed:
            print(f"a cluster cannot run here; points to put right first: {failed}")
            return 1
        print("a cluster can run here" + (f"; points that could be better: {warned}" if warned else ""))
        return 0
