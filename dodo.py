"""The task graph: recipes are planned into steps, and each kind of step is a task that one can name.

`doit list --all` shows them; `doit cluster:debian12` makes everything and leaves a verified cluster running.
"""

from pathlib import Path

from pipeline.tasks import Graph

graph = Graph(Path(__file__).resolve().parent)

DOIT_CONFIG = graph.config


# --- from manifests to root file systems


def task_index():
    """package indexes of a distribution, signatures checked"""
    yield from graph.steps("index")
    yield from graph.broken("distros")


def task_lock():
    """exact versions and checksums of all packages"""
    yield from graph.steps("lock")


def task_fetch():
    """locked packages, downloaded and checked"""
    yield from graph.steps("fetch")


def task_root():
    """base root file system of a distribution"""
    yield from graph.steps("root")


def task_initrd():
    """ramdisk with which installed machines find their root"""
    yield from graph.steps("initrd")


def task_kernel():
    """kernel and ramdisk as files, for hypervisors that load them themselves"""
    yield from graph.steps("kernel")


def task_packages():
    """layer: distribution packages of the head or compute side"""
    yield from graph.steps("packages")


def task_localpackages():
    """layer: packages under test"""
    yield from graph.steps("localpackages")


def task_opkgs():
    """layer: files and scripts of the OPKGs"""
    yield from graph.steps("opkgs")


# --- from root file systems to what machines are made of


def task_toolroot():
    """build tools of fixed versions"""
    yield from graph.steps("toolroot")


def task_xltools():
    """Xen's xl, to check configurations with"""
    yield from graph.steps("xltools")


def task_bootloader():
    """boot loader for disks"""
    yield from graph.steps("bootloader")


def task_netboot():
    """installer kernel and ramdisk, independent of the target distribution"""
    yield from graph.steps("netboot")
    yield from graph.broken("netboot")


def task_headnode():
    """head node as a tarball (.tar.zst)"""
    yield from graph.steps("headnode")


def task_image():
    """SIS image that compute nodes are installed from"""
    yield from graph.steps("image")


def task_disk():
    """disk files of head and compute nodes"""
    yield from graph.steps("disk")


def task_dom0():
    """disk, hypervisor and kernel of a testbed for Xen"""
    yield from graph.steps("dom0")


def task_xenconfig():
    """configurations for Xen's xl, accepted by libxl"""
    yield from graph.steps("xenconfig")


def task_vmconfig():
    """domain definitions"""
    yield from graph.steps("vmconfig")


# --- running machines


def task_xenhost():
    """VM containers that run Xen: the testbed, started, or another one, asked"""
    yield from graph.xenhosts()
    yield from graph.broken("hosts")


def task_boot():
    """start the head node from a throwaway overlay; its DHCP, TFTP, HTTP and rsync serve"""
    yield from graph.machines("boot", "start the head node of {}")


def task_install():
    """install all compute nodes over the network"""
    yield from graph.machines("install", "install the compute nodes of {} over the network", after="boot")


def task_start():
    """start the compute nodes from their own disks"""
    yield from graph.machines("start", "start the compute nodes of {} from their own disks", after="install")


def task_verify():
    """check every promise on the running cluster; the verdict is an artifact too"""
    yield from graph.verdicts()


def task_cluster():
    """build, boot, install and verify a cluster, and leave it running"""
    yield from graph.clusters()
    yield from graph.broken("clusters")


def task_stop():
    """end a cluster: machines, networks, daemons"""
    yield from graph.stops()
