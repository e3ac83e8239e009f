"""Xen hosts: the testbed, and what is done on any VM container that runs Xen."""
