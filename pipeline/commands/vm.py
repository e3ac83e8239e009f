"""`doit vm VERB ...`: machines of clusters, one by one; each verb is a module of `verbs/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.commands.base import VerbCommand

if TYPE_CHECKING:
    from pipeline.verbs.rows import Verb


class Vm(VerbCommand):
    name = "vm"
    doc_purpose = "machines of clusters, one by one: list, start, stop, install, add, set ... (doit help vm)"
    doc_usage = "VERB [CLUSTER] [MACHINE ...] [--json]"
    doc_description = None

    def verbs(self) -> Mapping[str, Verb]:
        from pipeline.verbs import verbs

        return verbs()
