"""The definition of one machine: its libvirt XML for each purpose that it is started for."""

from __future__ import annotations

from pipeline.builders import domains
from pipeline.description import Machine
from pipeline.drivers import libvirt_xml, site
from pipeline.step import Job


def build(job: Job) -> None:
    """Write run.xml, and install.xml of a compute node."""
    given = job.params
    machine = Machine.from_json(given["machine"])
    place = site.of(given["cluster"], is_shared=given["shared"])
    for purpose, domain in domains.of(
        given["cluster"], given["architecture"], machine, given["hypervisor"], place
    ).items():
        (job.out / f"{purpose}.xml").write_text(libvirt_xml.render(domain), encoding="utf-8")
