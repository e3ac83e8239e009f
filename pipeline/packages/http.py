"""One thread's way to mirrors: connections that stay open, redirects, proxies, and `file:` URLs.

Packages are small and many.  A new connection for each asks the name server hundreds of times in a second, and one
lost answer costs five seconds.
"""

from __future__ import annotations

import contextlib
import http.client
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import SplitResult, urlsplit

#: Seconds that a mirror may take to answer the call, and be silent later on.
_CONNECT, _TIMEOUT = 5, 20
_REDIRECTS = 5
#: Bytes of an answer that nobody wants.
_UNWANTED = 1 << 16


class Refused(Exception):
    """The mirror answered, and not with the file."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}" if status else reason)
        self.gone = status in (0, 403, 404, 410)


class NoConnection(OSError):
    """Nobody answers there: no such host, no way to it, or nothing that listens."""


#: What else can go wrong on the way; another try may help.
UNREACHABLE = (OSError, http.client.HTTPException)


class Connections:
    """Open connections by host; not to be shared by threads."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], http.client.HTTPConnection] = {}

    @contextlib.contextmanager
    def get(self, url: str) -> Iterator[IO[bytes] | http.client.HTTPResponse]:
        """The content of `url` as a stream.  Raises Refused, or one of UNREACHABLE."""
        if url.startswith("file:"):
            path = Path(urllib.request.url2pathname(urlsplit(url).path))
            if not path.is_file():
                raise Refused(0, "no such file")
            with path.open("rb") as file:
                yield file
            return
        for _ in range(_REDIRECTS):
            answer = self._ask(url)
            if answer.status not in (301, 302, 303, 307, 308):
                break
            self._leave(answer)
            url = _redirected(url, answer.headers.get("Location", ""))
        if answer.status != 200:
            self._leave(answer)
            raise Refused(answer.status, answer.reason)
        try:
            yield answer
        except BaseException:
            self.close()  # what was not read would be taken for the next answer
            raise
        if not answer.isclosed():
            self.close()

    def _leave(self, answer: http.client.HTTPResponse) -> None:
        """Read what nobody wants, so that the connection can be used again, unless there is much of it."""
        answer.read(_UNWANTED)
        if not answer.isclosed():
            self.close()

    def close(self) -> None:
        """Let go of every connection."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _ask(self, url: str) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        fresh = key not in self._open
        if fresh:
            self._open[key] = _connect(parts)
        try:
            self._open[key].request("GET", _target(parts), headers={"Host": parts.netloc, "User-Agent": "xen-oscar"})
            return self._open[key].getresponse()
        except UNREACHABLE:
            self._open.pop(key).close()
            if fresh:
                raise
        return self._ask(url)  # the mirror had closed a connection that we kept


def _redirected(url: str, to: str) -> str:
    """Where a mirror sends us; raises Refused where that is no address, or could be read and changed on the way."""
    try:
        found = urllib.parse.urljoin(url, to)
        parts = urlsplit(found)
        parts.netloc.encode("idna")
    except ValueError:
        raise Refused(0, "a redirect to what is no address") from None
    if parts.scheme not in ("http", "https") or (parts.scheme == "http" and url.startswith("https:")):
        raise Refused(0, f"a redirect to {parts.scheme}:, which is not taken")
    return found


def _proxy(parts: SplitResult) -> str:
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return urllib.request.getproxies().get(parts.scheme, "")


def _target(parts: SplitResult) -> str:
    """What the request line names: with a proxy for plain HTTP the whole URL."""
    path = urllib.parse.quote(parts.path or "/", safe="/~%") + (f"?{parts.query}" if parts.query else "")
    return f"http://{parts.netloc}{path}" if parts.scheme == "http" and _proxy(parts) else path


def _connect(parts: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    proxy = _proxy(parts)
    if not proxy:
        return _connected(kind(parts.netloc, timeout=_CONNECT))
    hop = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    connection = kind(hop.hostname or "", hop.port or 80, timeout=_CONNECT)
    if parts.scheme == "https":
        connection.set_tunnel(parts.netloc)
    return _connected(connection)


def _connected(connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
    try:
        connection.connect()
    except (*UNREACHABLE, UnicodeError) as error:
        connection.close()
        raise NoConnection(str(error) or type(error).__name__) from None
    connection.timeout = _TIMEOUT
    connection.sock.settimeout(_TIMEOUT)
    return connection
