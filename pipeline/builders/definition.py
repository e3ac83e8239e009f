"""The definition of one machine: its libvirt XML, and that of the domain that installs it where that is another."""

from __future__ import annotations

from pipeline.builders import domains
from pipeline.description import Machine
from pipeline.drivers import libvirt_xml, site
from pipeline.step import Job


def build(job: Job) -> None:
    """Write domain.xml, and netboot.xml where the machine is installed and can't boot by network."""
    given = job.params
    machine = Machine.from_json(given["machine"])
    place = site.of(given["cluster"], is_shared=given["shared"])
    for name, domain in domains.of(
        given["cluster"], given["architecture"], machine, given["hypervisor"], place
    ).items():
        (job.out / f"{name}.xml").write_text(libvirt_xml.render(domain), encoding="utf-8")
