"""The task graph: recipes are planned into steps, and each kind of step is a task that one can name.

`doit list --all` shows them; `doit cluster:debian12` makes everything and leaves a verified cluster running.
"""

from pathlib import Path

from pipeline.tasks import Graph

graph = Graph(Path(__file__).resolve().parent)

DOIT_CONFIG = graph.config

# from manifests to root file systems
index = graph.steps("index", "package indexes of a distribution, signatures checked", broken="distros")
lock = graph.steps("lock", "exact versions and checksums of all packages")
fetch = graph.steps("fetch", "locked packages, downloaded and checked")
root = graph.steps("root", "base root file system of a distribution")
initrd = graph.steps("initrd", "ramdisk with which installed machines find their root")
kernel = graph.steps("kernel", "kernel and ramdisk as files, for hypervisors that load them themselves")
packages = graph.steps("packages", "layer: distribution packages of the head or compute side")
localpackages = graph.steps("localpackages", "layer: packages under test")
modernkernel = graph.steps("modernkernel", "layer: kernel of another distribution, over an older system")
opkgs = graph.steps("opkgs", "layer: files and scripts of the OPKGs")

# from root file systems to what machines are made of
toolroot = graph.steps("toolroot", "build tools of fixed versions")
xltools = graph.steps("xltools", "Xen's xl, to check configurations with")
bootloader = graph.steps("bootloader", "boot loader for disks")
netboot = graph.steps("netboot", "installer kernel and ramdisk, whatever the distribution", broken="netboot")
headnode = graph.steps("headnode", "head node as a tarball (.tar.zst)")
diskbase = graph.steps("diskbase", "what lies below the disk of a head node: its packages")
imagebase = graph.steps("imagebase", "what lies below SIS images: their packages")
image = graph.steps("image", "SIS image that compute nodes are installed from")
disk = graph.steps("disk", "disk files of head and compute nodes")
dom0 = graph.steps("dom0", "disk, hypervisor and kernel of a testbed for Xen")
xenconfig = graph.steps("xenconfig", "configurations for Xen's xl, one a machine, accepted by libxl")
definition = graph.steps("definition", "domain definitions, one a machine")

# running machines
host = graph.hosts("VM containers that clusters share: the testbed, started, or another one, asked")
boot = graph.phase("boot", "start the head node{} from a throwaway overlay; its DHCP, TFTP, HTTP and rsync serve")
install = graph.phase("install", "install all compute nodes{} over the network", after="boot")
start = graph.phase("start", "start the compute nodes{} from their own disks", after="install")
verify = graph.verdicts("check every promise on the running cluster{}; the verdict is an artifact too")
cluster = graph.clusters("build, boot, install and verify a cluster{}, and leave it running")
stop = graph.stops("end a cluster: machines, networks, daemons")
