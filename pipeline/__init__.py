"""Xen-OSCAR: from manifests to a verified virtual cluster, as a pipeline of cacheable artifacts."""
