"""Virtual machines: the domain model and its renderings, a namespace for each cluster, connections, waiting, disks."""
