"""OPKGs on machines: how a root file system gets what they bring to it."""
