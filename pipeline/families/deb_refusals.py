"""Why an archive cannot be used: what apt says, as a person wants to read it.

apt says much at once, as that a repository is not signed where it was not even reached; so the first line of the table
that fits is what is wrong.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.families.deb_mirrors import Mirrors

_KEYRING = "the recipe's `keyring` must hold the key that signs this archive (a newer debian-archive-keyring may)"
_REACH = "check the network and the proxy (http_proxy); what has been built keeps working without"

#: A pattern in what apt says, what that means, and what to do.
_TABLE = (
    (r"weak security information|No Hash entry in Release file",
     "the archive's Release file has only weak checksums (MD5 or SHA1)",
     "such files cannot be told from forged ones: whoever makes the archive must add SHA256 (apt-ftparchive does)"),
    (r"NOSPLIT|does the network require authentication",
     "something that is no archive answers in place of the mirror: a login page of the network, or another web site",
     "log in to the network, or correct `mirror` in the recipe; it is the folder that holds `dists`"),
    (r"\b40[17] ", "the mirror, or a proxy on the way to it, wants a name and a password", _REACH),
    (r"Splitting up .* failed|unexpected size|Hash Sum mismatch|Mirror sync in progress|Unable to parse|unexpected end",
     "the mirror's index is damaged, or is being changed just now",
     "run again in some minutes, or use another mirror"),
    (r"Release file .*is not valid yet", "the mirror's index is dated in the future",
     "check this machine's clock (date)"),
    (r"Release file .*expired", "the mirror's index is out of date",
     "use another mirror, or check this machine's clock; snapshots want Acquire::Check-Valid-Until false in apt.conf"),
    (r"EXPKEYSIG|KEYEXPIRED|[Ee]xpired on", "the key that signs the archive has expired: its signature is not good",
     f"check this machine's clock (date); {_KEYRING}"),
    (r"REVKEYSIG|[Rr]evoked", "the key that signs the archive was revoked: its signature is not good", _KEYRING),
    (r"BADSIG|invalid signature|[Bb]ad signature|Message has been manipulated",
     "the mirror's signature is not good: its index is not what was signed",
     "the mirror, or something on the way to it, is not honest or is broken: use another one"),
    (r"NO_PUBKEY|[Mm]issing key|public key is not available|couldn't be verified|Signing key on",
     "the mirror's signature is not good: it was signed with a key that the keyring does not have", _KEYRING),
    (r"\b(?:404|410) |does not have a Release file|File not found|Couldn't find|No such file",
     "wrong mirror: it does not have this release",
     "correct `mirror` and `suites` in the recipe; a mirror is the folder that holds `dists`"),
    (r"\b403 ", "the mirror refuses to give out its index", _REACH),
    (r"\b5[0-9][0-9] ", "the mirror has trouble of its own", "run again in some minutes, or use another mirror"),
    (r"is not signed|not signed|NODATA|weren't valid", "the archive is not signed, so its signature is not good",
     "only signed archives are used: whoever makes it must sign its Release file (InRelease or Release.gpg)"),
    (r"[Rr]edirection loop", "the mirror sends from one address to the next without an end",
     "correct `mirror` in the recipe, or use another one"),
)


def refused(said: str, mirrors: Mirrors, log: Path) -> BuildError:
    """The error for what apt said about the archive at `mirrors`."""
    about = [base for base in (mirrors.main, mirrors.security) if re.search(rf"{re.escape(base)}[ /]", said)]
    where = f"{about[0] if about else mirrors.main} (from {mirrors.origin})"
    for pattern, what, hint in _TABLE:
        if re.search(pattern, said):
            return BuildError(f"{where}: {what}", tail=said, log=log, hint=hint)
    return BuildError(f"the mirror cannot be reached: {where}", tail=said, log=log, hint=_REACH)
