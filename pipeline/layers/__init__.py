"""Layers of root file systems: how they are stacked and written, kept extracted, made file systems and tarballs of."""
