"""Overlays: several trees seen as one, wherever they lie and whatever their folders are called.

The kernel takes the names of the trees as one text of a page at most, in which commas and colons part them.  It is
given descriptors instead, whose names are short and plain.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline import confine, sandbox


def mount(target: Path, lowers: Sequence[Path], *, upper: Path | None = None, work: Path | None = None) -> None:
    """Show `lowers`, topmost first, at `target`; changes go to `upper`, without which there are none.

    `work` is an empty folder beside `upper`, for the kernel's own use.  Without `upper` there must be two lower trees.
    Only for processes that `sandbox.namespace()` started.  Raises OSError naming the target.
    """
    with contextlib.ExitStack() as stack:
        words = [f"lowerdir={':'.join(_held(stack, tree) for tree in lowers)}"]
        words += [f"{name}dir={_held(stack, folder)}" for name, folder in (("upper", upper), ("work", work)) if folder]
        # a user's overlay takes no redirects, and files may not be written only in part
        words += ["userxattr"] if sandbox.in_user_namespace() else ["index=off", "redirect_dir=off", "metacopy=off"]
        sandbox.mount("overlay", target, "overlay", options=",".join(words), flags=0 if upper else confine.MS_RDONLY)


def _held(stack: contextlib.ExitStack, folder: Path) -> str:
    """A name for `folder` that is good until the stack is left."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return f"/proc/self/fd/{descriptor}"
