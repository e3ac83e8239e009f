"""`doit xenhost-setup HOST [--yes]`: make a Xen host of a Debian machine, or say what that would take.

All that is done there is in `pipeline/hosts/xen-setup.sh`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.base import GraphCommand
from pipeline.errors import ManifestError, UserError
from pipeline.mistakes import no_such

if TYPE_CHECKING:
    from pipeline.tasks import Graph

#: Seconds: looking at a machine, and installing on a slow one behind a slow mirror.
_LOOK, _INSTALL = 120, 3600


class XenhostSetup(GraphCommand):
    name = "xenhost-setup"
    doc_purpose = "make a Xen host of a Debian machine; without --yes, say what that would change"
    doc_usage = "HOST [--yes]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("host", help="name of a VM container with a xen URI (recipes/hosts/NAME.toml)")
        parser.add_argument("--yes", action="store_true", help="do it; the reboot that must follow is left to you")

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        from pipeline.hosts import access, kinds

        hosts = graph.plan.hosts
        if f"hosts/{args.host}" in graph.plan.broken:
            raise ManifestError(graph.plan.broken[f"hosts/{args.host}"])
        if args.host not in hosts:
            raise no_such("VM container", args.host, hosts)
        connection = hosts[args.host].connection
        if kinds.of(connection) is not kinds.GIVEN or hosts[args.host].hypervisor != "xen":
            raise UserError(
                f'{args.host} is no Xen host of yours: connection = "{connection}"',
                hint='describe the machine in recipes/hosts/NAME.toml: kind = "xen", connection = '
                '"xen+ssh://root@MACHINE/system", or "xen:///system" for this one',
            )
        way = access.of(connection)
        print(f"{args.host}: {way}" + (", which takes some minutes" if args.yes else ""), flush=True)
        print(way.run(script(go=args.yes), within=_INSTALL if args.yes else _LOOK).stdout, end="")
        return 0


def script(*, go: bool) -> str:
    """What runs on the machine."""
    import pipeline.hosts

    text = Path(pipeline.hosts.__file__).with_name("xen-setup.sh").read_text()
    return f"go={'yes' if go else ''}\n{text}"
