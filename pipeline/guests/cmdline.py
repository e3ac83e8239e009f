"""What every machine's kernel is told; a kernel passes over what it does not know."""

from __future__ import annotations

#: Self-tests of ciphers, timer checks and mitigations cost a second or more of an emulated boot and protect nothing
#: in a machine that shares its processor with nobody.  Both consoles: hvc0, Xen's, comes last and
#: so first, because Linux takes a serial port for there on Xen as well; elsewhere there is no hvc0, and ttyS0 stays.
OPTIONS = (
    "console=ttyS0,115200 console=hvc0 net.ifnames=0 mitigations=off cryptomgr.notests no_timer_check "
    "random.trust_cpu=on quiet"
)


def of(root: str, *, vsyscall: bool) -> str:
    """The command line of a machine whose root file system is `root`, as UUID=... or LABEL=...  `vsyscall`: its
    programs call the vsyscall page, which kernels of today do not have by themselves."""
    return f"root={root} rw {OPTIONS}{' vsyscall=emulate' if vsyscall else ''}"
