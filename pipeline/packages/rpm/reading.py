"""Small files of a mirror, read whole: lists of mirrors, and metadata."""

from __future__ import annotations

from pipeline.errors import BuildError
from pipeline.packages.given import NoSource
from pipeline.packages.http import UNREACHABLE, Connections, NoConnection, Refused

_TRIES = 3


class Missing(BuildError):
    """The mirror has no such file."""


def read(connections: Connections, url: str, longest: int, origin: str) -> bytes:
    """The file at `url`, of at most `longest` bytes; `origin` is who named it.  Raises NoSource where nothing answers,
    Missing, or else BuildError."""
    problem = ""
    for _ in range(_TRIES):
        try:
            with connections.get(url) as stream:
                content = stream.read(longest + 1)
        except Refused as error:
            kind = Missing if error.gone else BuildError
            raise kind(
                f"{url}: {error}", hint=f"correct the mirror or the repository's path: it is from {origin}"
            ) from None
        except UNREACHABLE as error:
            problem = str(error) or type(error).__name__
            if isinstance(error, NoConnection):
                break
            continue
        if len(content) > longest:
            raise BuildError(f"{url}: larger than {longest >> 20} MiB", hint="this is no list or metadata of a mirror")
        return content
    raise NoSource(
        f"cannot read {url}: {problem}", hint=f"check the network, or use another mirror: this one is from {origin}"
    )
