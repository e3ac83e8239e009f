"""`doit cluster VERB ...`: whole clusters; each verb is a module of `verbs/clusters/`.

Its name is `clusters`, for `cluster` is a group of tasks, and doit lets no command have the name of one; `loader` takes
`doit cluster VERB` for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.commands.base import VerbCommand

if TYPE_CHECKING:
    from pipeline.verbs.rows import Verb


class Clusters(VerbCommand):
    name = "clusters"
    doc_purpose = "clusters as a whole: list, add, remove; also as `doit cluster VERB`"
    doc_usage = "VERB [CLUSTER] [--json]"
    doc_description = None

    def parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog="doit cluster", description=self.doc_purpose)
        self.arguments(parser)
        return parser

    def verbs(self) -> Mapping[str, Verb]:
        from pipeline.verbs.clusters import verbs

        return verbs()
