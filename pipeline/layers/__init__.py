"""Layers of root file systems: how they are stacked and written, kept extracted, and made file systems of."""
