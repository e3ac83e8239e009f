"""Domain definitions: one libvirt XML file a machine, for no host in particular."""

from __future__ import annotations

from pipeline.description import Cluster
from pipeline.hypervisor import domain, libvirt_xml
from pipeline.step import Job


def build(job: Job) -> None:
    """Write MACHINE.xml for every machine of the cluster."""
    cluster = Cluster.from_json(job.params["cluster"])
    for machine in cluster.machines:
        definition = libvirt_xml.render(domain.of(cluster, machine))
        (job.out / f"{machine.name}.xml").write_text(definition, encoding="utf-8")
