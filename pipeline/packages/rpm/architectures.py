"""Architectures in rpm's words: which packages a machine of each has for its own, the best first.

Source: rpm's rpmrc (arch_compat), and libsolv's poolarch.c.  What others it can take (i686 on x86_64) comes by name.
"""

from __future__ import annotations

OWN = {"x86_64": ("x86_64",), "i386": ("i686", "i586", "i486", "i386")}
