"""Why an archive cannot be used: what apt says, as a person wants to read it.

apt says much at once, as that a repository is not signed where it was not even reached; so the first line of the table
that fits is what is wrong.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.packages.deb.mirrors import Mirrors
from pipeline.packages.given import NoSource

_KEYRING = "the recipe's `keyring` must hold the key that signs this archive (a newer debian-archive-keyring may)"
_REACH = (
    "check the network and the proxy (http_proxy), or use another mirror: --mirror NAME=PATH_OR_URL; "
    "what has been built keeps working without"
)

_UNREACHED = (
    r"[Cc]ould not (?:connect|resolve)|[Uu]nable to connect|[Ff]ailure resolving|[Tt]imed out|is unreachable"
    r"|Connection (?:failed|refused|reset)|Something wicked happened"
)

#: A pattern in what apt says, what that means, and what to do.
_TABLE = (
    (
        r"weak security information|No Hash entry in Release file",
        "the archive's Release file has no checksums but weak ones (MD5 or SHA1)",
        "such files cannot be told from forged ones: whoever makes the archive must add SHA256 (apt-ftparchive does)",
    ),
    (
        r"NOSPLIT|does the network require authentication",
        "something that is no archive answers in place of the mirror: a login page of the network, or another web site",
        "log in to the network, or correct `mirror` in the recipe; it is the folder that holds `dists`",
    ),
    (r"\b401  ", "the mirror wants a name and a password", "use a mirror that is open to all"),
    (
        r"\b407  ",
        "the proxy wants a name and a password",
        "give them with it: http_proxy=http://NAME:PASSWORD@HOST:PORT",
    ),
    (
        r"[Cc]ertificate|[Cc]ould not handshake",
        "the mirror's certificate is not good",
        "check this machine's clock (date); install ca-certificates, or the certificate of a proxy that reads https",
    ),
    (
        r"[Rr]edirection loop",
        "the mirror sends from one address to the next without an end",
        "correct `mirror` in the recipe, or use another one",
    ),
    (
        r"no Package: header|Problem with MergeList",
        "the archive's index is not one that apt can read",
        "whoever makes the archive must mend it (apt-ftparchive makes good ones)",
    ),
    (
        r"Failed to fetch \S+/(?:Packages|by-hash/)\S* +(?:40[34]|410|File not found)",
        "the mirror does not have an index that its Release file names",
        "run again in some minutes, or use another mirror",
    ),
    (
        (
            r"Splitting up .* failed|unexpected size|Hash Sum mismatch|Mirror sync in progress"
            r"|Unable to parse|unexpected end"
        ),
        "the mirror's index is damaged, or is being changed just now",
        "run again in some minutes, or use another mirror",
    ),
    (
        r"Release file .*is not valid yet",
        "the mirror's index is dated in the future",
        "check this machine's clock (date)",
    ),
    (
        r"Release file .*expired",
        "the mirror's index is out of date",
        "use another mirror, or check this machine's clock; snapshots: Acquire::Check-Valid-Until false in apt.conf",
    ),
    (
        r"EXPKEYSIG|KEYEXPIRED|[Ee]xpired on",
        "the key that signs the archive has expired: its signature is not good",
        f"check this machine's clock (date); {_KEYRING}",
    ),
    (r"REVKEYSIG|[Rr]evoked", "the key that signs the archive was revoked: its signature is not good", _KEYRING),
    (
        r"BADSIG|invalid signature|[Bb]ad signature|Message has been manipulated",
        "the mirror's signature is not good: its index is not what was signed",
        "the mirror, or something on the way to it, is not honest or is broken: use another one",
    ),
    (
        r"NO_PUBKEY|[Mm]issing key|public key is not available|couldn't be verified|Signing key on",
        "the mirror's signature is not good: it was signed with a key that the keyring does not have",
        _KEYRING,
    ),
    (
        r"\b(?:404|410)  |does not have a Release file|File not found|Couldn't find|No such file",
        "wrong mirror: it does not have this release",
        "correct `mirror` and `suites` in the recipe; a mirror is the folder that holds `dists`",
    ),
    (
        r"\b4[0-9][0-9]  ",
        "the mirror, or a proxy on the way to it, refuses to give out the index",
        "use another mirror, or another proxy (http_proxy)",
    ),
    (r"\b5[0-9][0-9]  ", "the mirror has trouble of its own", "run again in some minutes, or use another mirror"),
    (
        r"is not signed|not signed|NODATA|weren't valid",
        "the archive is not signed",
        "only signed archives are used: whoever makes it must sign its Release file (InRelease or Release.gpg)",
    ),
)


def refused(said: str, mirrors: Mirrors, log: Path) -> BuildError:
    """The error for what apt said about the archive at `mirrors`."""
    about = [base for base in (mirrors.main, mirrors.security) if re.search(rf"{re.escape(base)}[ /]", said)]
    where = f"{about[0] if about else mirrors.main} (from {mirrors.origin})"
    if re.search(_UNREACHED, said):
        return NoSource(f"the mirror cannot be reached: {where}", tail=said, log=log, hint=_REACH)
    for pattern, what, hint in _TABLE:
        if re.search(pattern, said):
            return BuildError(f"{where}: {what}", tail=said, log=log, hint=hint)
    return BuildError(f"apt cannot use the mirror: {where}", tail=said, log=log)
