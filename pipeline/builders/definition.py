"""The definition of one machine: its libvirt XML, and on a Xen host that of the netboot domain that installs it."""

from __future__ import annotations

from pipeline.builders import domains
from pipeline.description import Machine
from pipeline.hypervisor import libvirt_xml
from pipeline.step import Job


def build(job: Job) -> None:
    """Write domain.xml, and netboot.xml where the machine is installed and can't boot by network."""
    given = job.params
    machine = Machine.from_json(given["machine"])
    for name, domain in domains.of(given["cluster"], given["architecture"], machine, given["hypervisor"]).items():
        (job.out / f"{name}.xml").write_text(libvirt_xml.render(domain), encoding="utf-8")
