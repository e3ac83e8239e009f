"""How machines would be started: their definitions in the notation of libvirt, or of xl.

Of a cluster that runs libvirt is asked; of others, and of machines that it does not know yet or that have other memory
by now, it is what the recipe makes: the same text as in the artifact.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.builders import domains
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.drivers import libvirt_xml, site, xl_config
from pipeline.drivers.domain import Domain
from pipeline.errors import WrongUse
from pipeline.hosts import kinds
from pipeline.verbs import names
from pipeline.verbs.rows import Clusters, Row, Verb, machines_argument


@dataclass(frozen=True)
class Reported:
    """The definition of one machine; `by` whom it is known so."""

    cluster: str
    machine: str
    notation: Literal["libvirt", "xl"]
    by: Literal["libvirt", "recipe"]
    definition: str

    def text(self) -> str:
        return self.definition.rstrip("\n")


def _arguments(parser: argparse.ArgumentParser) -> None:
    machines_argument(parser)
    parser.add_argument("--xl", action="store_true", help="as a configuration for Xen's xl, by the recipe")


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row]:
    life = clusters.running(args.cluster)
    known = [machine.name for machine in life.cluster.machines]
    meant = names.expand(args.machines, known) or known
    if args.xl and life.host.hypervisor != "xen":
        raise WrongUse(f"{args.cluster} is on {life.host.name}, which runs {life.host.hypervisor}: xl is Xen's")
    machines = life.machines()
    defined = machines.definitions() if not args.xl and machines.runs() else {}
    for name in meant:
        if args.xl:
            yield Reported(args.cluster, name, "xl", "recipe", xl_config.render(_domain(life, name)))
        elif name in defined:
            definition, is_changed = defined[name]
            yield Reported(args.cluster, name, "libvirt", "recipe" if is_changed else "libvirt", definition)
        else:
            yield Reported(args.cluster, name, "libvirt", "recipe", libvirt_xml.render(_domain(life, name)))


def _domain(life: Lifecycle, name: str) -> Domain:
    cluster, host = life.cluster, life.host
    place = site.of(cluster.name, is_shared=kinds.of(host.connection).is_shared)
    return domains.of(cluster.name, cluster.architecture, cluster.machine(name), host.hypervisor, place)["run"]


VERB = Verb("how machines would be started: libvirt's XML, or xl's configuration", _arguments, _rows)
