"""The kinds of values that stand in manifests: sizes, host names, addresses, subnets, package names."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, Strict, WithJsonSchema

from pipeline.mistakes import listing, quoted

T = TypeVar("T")

#: A TOML list; strict mode would insist on a Python tuple.
Items = Annotated[tuple[T, ...], Strict(False)]


def _some(value: tuple[T, ...]) -> tuple[T, ...]:
    if not value:
        raise ValueError("the list is empty; expected at least one entry")
    return value


#: The same, with at least one entry.  A length constraint of pydantic's would also count entries that are wrong.
SomeItems = Annotated[Items[T], AfterValidator(_some), Field(json_schema_extra={"minItems": 1})]

_UNITS = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024 * 1024}
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DEB = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?")
#: In any family: RPM packages have names like MAKEDEV, groups begin with @, and one may say an architecture.
_PACKAGE = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9+._-]*(?::[a-z0-9_]+)?")
_SUITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")
_OUI = re.compile(r"[0-9a-f]{2}:[0-9a-f]{2}:[0-9a-f]{2}")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")

#: What is mounted in a root while it is made, and so no part of it.
_PASSING = ("dev", "proc", "run", "sys", "tmp")

#: Largest disk that a DOS partition table can describe.
LARGEST_MIB = 2 * 1024 * 1024 - 1


def mebibytes(value: Any) -> int:
    """ "512M" or "2G" -> MiB."""
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,9})([MGT])", value)):
        size = int(match[1]) * int(_UNITS[match[2].lower()])
        if not 1 <= size <= LARGEST_MIB:
            raise ValueError(f'{quoted(value)} is out of range; expected "1M" to "{LARGEST_MIB}M"')
        return size
    raise ValueError(f'{quoted(value)} is not a size; expected text like "512M" or "2G"{_meant(value)}')


def _meant(value: Any) -> str:
    """What the author of a wrong size may have meant."""
    text = f"{value}M" if isinstance(value, int) and 0 < value <= LARGEST_MIB else value
    if not isinstance(text, str):
        return ""
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([kmgt])(?:i?b)?\s*", text, re.IGNORECASE)
    size = round(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size < 1:
        return ""
    return f'; did you mean "{size // 1024}G"?' if size % 1024 == 0 else f'; did you mean "{size}M"?'


def _mebibytes_or_fill(value: Any) -> int:
    if value == "fill":
        return 0
    try:
        return mebibytes(value)
    except ValueError as error:
        raise ValueError(str(error).replace('or "2G"', 'or "2G", or "fill" for what is left of the disk')) from None


def host_name(value: str) -> str:
    """One label of a host name as RFC 1123 has it, in lower case."""
    if _LABEL.fullmatch(value):
        return value
    better = re.sub(r"[^a-z0-9-]+", "-", value.lower())[:63].strip("-")
    hint = f"; did you mean {quoted(better)}?" if _LABEL.fullmatch(better) else ""
    raise ValueError(
        f"{quoted(value)} is not a host name; expected letters a-z, digits and inner hyphens, 63 at most{hint}"
    )


def _domain(value: str) -> str:
    if len(value) <= 190 and all(_LABEL.fullmatch(label) for label in value.split(".")):
        return value
    raise ValueError(
        f'{quoted(value)} is not a domain name; expected labels of letters a-z, digits and hyphens, as "oscar.internal"'
    )


def _package(value: str) -> str:
    if _PACKAGE.fullmatch(value):
        return value
    raise ValueError(f"{quoted(value)} is not a package name; expected letters, digits and + - . _")


def _deb(value: str) -> str:
    if _DEB.fullmatch(value):
        return value
    raise ValueError(f"{quoted(value)} is not a package name; expected letters a-z, digits and + - .")


def _suite(value: str) -> str:
    if _SUITE.fullmatch(value) and ".." not in value:
        return value
    raise ValueError(f'{quoted(value)} is not a suite or component; expected a name like "bookworm" or "main"')


def _address(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError(f'{quoted(value)} is not an IPv4 address; expected four numbers like "10.77.1.1"') from None


def _subnet(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        raise ValueError(f'{quoted(value)} is not an IPv4 subnet; expected one like "10.77.1.0/24"') from None
    if str(network) != value:
        raise ValueError(f"{quoted(value)} is not how a subnet is written; did you mean {quoted(str(network))}?")
    if not 8 <= network.prefixlen <= 30:
        raise ValueError(f"{quoted(value)} has an unfit size; expected a length from /8 to /30")
    if (
        network.is_loopback
        or network.is_multicast
        or network.is_link_local
        or network.is_reserved
        or network.network_address in ipaddress.IPv4Network("0.0.0.0/8")
    ):
        raise ValueError(f'{quoted(value)} is no subnet that machines can use; expected one like "10.77.1.0/24"')
    return value


def _oui(value: str) -> str:
    prefix = value.lower()
    if not _OUI.fullmatch(prefix):
        raise ValueError(f'{quoted(value)} is not a MAC prefix; expected three bytes like "00:16:3e"')
    if int(prefix[:2], 16) & 1:
        raise ValueError(f"{quoted(value)} is a prefix of multicast addresses; expected an even first byte")
    if prefix == "00:00:00" or prefix.startswith("fe:"):
        raise ValueError(f'{quoted(value)} is reserved by hypervisors; expected one like "00:16:3e" or "52:54:00"')
    return prefix


def _mac(value: str) -> str:
    mac = value.lower()
    if not _MAC.fullmatch(mac):
        raise ValueError(f'{quoted(value)} is not a MAC; expected six bytes like "52:54:00:12:34:56"')
    _oui(mac[:8])
    return mac


def _path(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError(f"{quoted(value)} is not a path; expected printable text")
    return value


def _root_path(value: str) -> str:
    first, *names = value.split("/")
    plain = value.isprintable() and names and not {"", ".", ".."}.intersection(names)
    if first or not plain or names[0] in _PASSING:
        raise ValueError(
            f'{quoted(value)} is no place in a root file system; expected a whole path like "/etc/fstab", '
            f"not below {listing(f'/{name}' for name in _PASSING)}"
        )
    return value


_SIZE_SCHEMA = {"type": "string", "pattern": "^[0-9]{1,9}[MGT]$", "examples": ["512M", "2G"]}
_FILL_SCHEMA = {"type": "string", "pattern": "^([0-9]{1,9}[MGT]|fill)$", "examples": ["512M", "2G", "fill"]}

Mebibytes = Annotated[int, BeforeValidator(mebibytes), WithJsonSchema(_SIZE_SCHEMA)]
MebibytesOrFill = Annotated[int, BeforeValidator(_mebibytes_or_fill), WithJsonSchema(_FILL_SCHEMA)]
HostName = Annotated[str, AfterValidator(host_name)]
Domain = Annotated[str, AfterValidator(_domain)]
PackageName = Annotated[str, AfterValidator(_package)]
DebName = Annotated[str, AfterValidator(_deb)]
SuiteName = Annotated[str, AfterValidator(_suite)]
Address = Annotated[str, AfterValidator(_address)]
Subnet = Annotated[str, AfterValidator(_subnet)]
MacPrefix = Annotated[str, AfterValidator(_oui)]
Mac = Annotated[str, AfterValidator(_mac)]
FilePath = Annotated[str, AfterValidator(_path)]
RootPath = Annotated[str, AfterValidator(_root_path)]
