"""Domain definitions: one libvirt XML file a machine, and on a Xen host one a netboot domain."""

from __future__ import annotations

from pipeline.builders import domains
from pipeline.description import Cluster, Host
from pipeline.hypervisor import libvirt_xml
from pipeline.step import Job


def build(job: Job) -> None:
    """Write MACHINE.xml for every machine of the cluster, and NODE-netboot.xml where nodes can't boot by network."""
    cluster = Cluster.from_json(job.params["cluster"])
    for name, domain in domains.of(cluster, Host(**job.params["host"])).items():
        (job.out / f"{name}.xml").write_text(libvirt_xml.render(domain), encoding="utf-8")
