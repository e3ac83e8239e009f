"""The way to mirrors: what is refused, and that a mirror that is not there costs seconds."""

from __future__ import annotations

import socket
import time

import pytest

from pipeline.packages.http import Connections, NoConnection, Refused, _redirected


def test_nobody_is_sent_to_where_others_can_listen() -> None:
    assert _redirected("http://a/x", "https://b/y") == "https://b/y"
    assert _redirected("https://a/x", "/y") == "https://a/y"
    for to in ("http://a/x", "file:///etc/passwd", "ftp://a/x", "http://[x"):
        with pytest.raises(Refused, match="a redirect to"):
            _redirected("https://a/x", to)


@pytest.mark.parametrize("url", ["http://{}/x", "https://{}/x", "http://no-such-host.invalid/x", "http://{}..x/"])
def test_a_mirror_that_is_not_there(url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nothing listens
        where = url.format(f"127.0.0.1:{taken.getsockname()[1]}" if "{}/" in url else "a")
        with pytest.raises(NoConnection), Connections().get(where):
            pass


def test_a_mirror_that_does_not_answer_the_call() -> None:
    """A queue that is full answers nobody, as a host behind a wall does not."""
    with socket.socket() as deaf, socket.socket() as first:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        first.setblocking(False)
        first.connect_ex(deaf.getsockname())
        started = time.monotonic()
        with (
            pytest.raises(NoConnection, match="timed out"),
            Connections().get(f"http://127.0.0.1:{deaf.getsockname()[1]}/"),
        ):
            pass
        assert time.monotonic() - started < 10
