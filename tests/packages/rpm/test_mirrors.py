"""Repositories with addresses of their own: one mirror or several, plain lists and metalinks, over real HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BuildError, UserError
from pipeline.packages import lock, pool
from pipeline.packages.given import NoSource, give, variable_of
from pipeline.packages.rpm import fetch, index, mirrors, resolve
from pipeline.packages.rpm.mirrors import Sources
from pipeline.step import Input
from tests import rpmsuite
from tests.namespaced import job
from tests.rpmsuite import Suite

REPOMD = "repodata/repomd.xml"


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves files; after `serves` packages it drops every connection.  `sends_to` is where it sends for all.
    `change` is done once a repomd.xml is being sent."""

    serves = 1 << 30
    sends_to = ""
    change: Callable[[], None] | None = None
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.sends_to:
            self.send_response(302)
            self.send_header("Location", self.sends_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.endswith(".rpm"):
            type(self).serves -= 1
            if type(self).serves < 0:
                self.close_connection = True
                return
        if self.change and self.path.endswith(REPOMD) and (file := self.send_head()):
            with file:
                self.change()
                self.copyfile(file, self.wfile)
            return
        with contextlib.suppress(ConnectionError):  # whoever asked has seen enough
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path, **changes: object) -> Iterator[tuple[str, list[str]]]:
    """A web server for a folder: its URL, and the list of what it is asked for."""
    asked: list[str] = []
    handler = type("Mirror", (Server,), {"asked": asked, **changes})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variable_of("tiny"), raising=False)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    made = rpmsuite.make(tmp_path_factory.mktemp("suite"))
    made.rpm("one", "1")
    made.rpm("two", "1", tags="Requires: one")
    made.publish()
    return made


@pytest.fixture
def dead() -> Iterator[str]:
    """The URL of a mirror where nothing listens, and nothing will for as long as this is used."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def params(**own: str) -> dict[str, Any]:
    return {
        "distro": "tiny",
        "repositories": [{"name": "base", "path": "base", **own}],
        "architecture": "x86_64",
        "mirror": "",
        "keys": [],
    }


def locked(folder: Path, asked: dict[str, Any]) -> Input:
    """Index and lock of the package `two`, by real steps."""
    indexed = job(folder / "index", asked)
    index.build(indexed)
    wanted = {"packages": {"two": "a test"}, "architecture": "x86_64"}
    made = job(folder / "lock", wanted, Input("index", "", indexed.out, ""))
    resolve.build(made)
    assert [one.name for one in lock.read(made.out / lock.NAME)] == ["one", "two"]
    return Input("lock", "", made.out, "")


def fetched(folder: Path, asked: dict[str, Any], given: Input) -> None:
    made = job(folder / "fetch", asked, given)
    fetch.build(made)
    assert len(list((made.out / "packages").iterdir())) == 2


def a_metalink(repomd: bytes, *urls: str, older: bytes = b"", kind: str = "sha256") -> str:
    def said(content: bytes) -> str:
        return (
            f'<size>1</size><verification><hash type="md5">{hashlib.md5(content).hexdigest()}</hash>'
            f'<hash type="{kind}">{hashlib.new(kind, content).hexdigest()}</hash></verification>'
        )

    alternates = f"<mm0:alternates><mm0:alternate>{said(older)}</mm0:alternate></mm0:alternates>" if older else ""
    places = "".join(
        f'<url protocol="x" type="x" preference="{100 - number}">{url}</url>' for number, url in enumerate(urls)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<metalink version="3.0" xmlns="http://www.metalinker.org/" xmlns:mm0="http://fedorahosted.org/mirrormanager">'
        f'<files><file name="repomd.xml"><mm0:timestamp>1</mm0:timestamp>{said(repomd)}{alternates}'
        f'<resources maxconnections="1">{places}</resources></file></files></metalink>'
    )


def sources_of(asked: dict[str, Any], *, only_sure: bool = False) -> list[str]:
    """Where the repository is."""
    sources = Sources(asked, Path("/nowhere"), only_sure=only_sure)
    return [source.url for source in sources.of(asked["repositories"][0])]


def test_a_repository_at_an_address_of_its_own(suite: Suite, tmp_path: Path) -> None:
    with serving(suite.root) as (url, _):
        asked = params(url=f"{url}/base/")
        fetched(tmp_path, asked, locked(tmp_path, asked))


def test_what_a_person_gives_goes_before_addresses(suite: Suite, tmp_path: Path, dead: str) -> None:
    give("tiny", [str(suite.root)])
    try:
        asked = params(metalink=f"{dead}/metalink")
        fetched(tmp_path, asked, locked(tmp_path, asked))
    finally:
        give("tiny", [])


def test_the_first_mirror_of_a_list_that_answers_is_used(suite: Suite, tmp_path: Path, dead: str) -> None:
    with serving(suite.root) as (url, _):
        listed = f"\ufeff# the mirrors\n\nrsync://mirror.example/x\n{dead}/base\n{url}/nothing/\n{url}/base/\n"
        (tmp_path / "list").write_text(listed)
        with serving(tmp_path) as (lister, _):
            asked = params(mirrorlist=f"{lister}/list?repo=base&arch=x86_64")
            assert sources_of(asked) == [f"{dead}/base", f"{url}/nothing", f"{url}/base"]
            fetched(tmp_path, asked, locked(tmp_path, asked))


def test_another_mirror_goes_on_where_one_dies(suite: Suite, tmp_path: Path) -> None:
    with serving(suite.root, serves=1) as (dying, asked_first), serving(suite.root) as (other, asked_then):
        (tmp_path / "list").write_text(f"{dying}/base\n{other}/base\n")
        with serving(tmp_path) as (lister, _):
            asked = params(mirrorlist=f"{lister}/list")
            fetched(tmp_path, asked, locked(tmp_path, asked))
    assert sum(path.endswith(".rpm") for path in asked_first) >= 2
    assert [path for path in asked_then if path.endswith(".rpm")], "what the first one has not given"


def test_the_next_run_goes_on_where_the_only_mirror_died(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_TRIES", 1)
    monkeypatch.setattr(pool, "_THREADS", 1)  # else the one that fails may stop the other
    with serving(suite.root) as (url, _):
        given = locked(tmp_path, params(url=f"{url}/base"))
    with (
        serving(suite.root, serves=1) as (url, asked),
        pytest.raises(NoSource, match=r"cannot fetch .*\.rpm") as caught,
    ):
        fetched(tmp_path, params(url=f"{url}/base"), given)
    assert "what was fetched is kept, the next run goes on" in caught.value.hint
    first = {path for path in asked if path.endswith(".rpm")}
    assert len(first) == 2 and len([*(tmp_path / "fetch/pool").iterdir()]) == 1
    with serving(suite.root) as (url, asked):
        fetched(tmp_path, params(url=f"{url}/base"), given)
    assert len(asked) == 1 and set(asked) < first


def test_a_mirror_whose_package_is_another_is_passed_over(suite: Suite, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(suite.root, tmp_path / "bad"))
    for file in (bad / "base/Packages").iterdir():
        file.write_bytes(b"x" * file.stat().st_size)
    with serving(bad) as (first, _), serving(suite.root) as (other, _):
        (tmp_path / "list").write_text(f"{first}/base\n{other}/base\n")
        with serving(tmp_path) as (lister, _):
            asked = params(mirrorlist=f"{lister}/list")
            given = locked(tmp_path, asked)
            fetched(tmp_path, asked, given)
        with pytest.raises(BuildError, match="wrong checksum"):
            fetched(tmp_path / "alone", params(url=f"{first}/base"), given)


@pytest.mark.parametrize("kind", ["sha256", "sha512"])
def test_a_metalink_says_what_the_metadata_must_be(suite: Suite, tmp_path: Path, kind: str) -> None:
    repomd = (suite.root / "base" / REPOMD).read_bytes()
    changed = Path(shutil.copytree(suite.root, tmp_path / "changed"))
    (changed / "base" / REPOMD).write_bytes(repomd.replace(b"</repomd>", b"<!-- changed --></repomd>"))
    with serving(changed) as (forged, _), serving(suite.root) as (url, _), serving(tmp_path) as (lister, _):
        asked = params(metalink=f"{lister}/metalink")
        file = tmp_path / "metalink"
        file.write_text(a_metalink(repomd, f"{forged}/base/{REPOMD}", f"{url}/base/{REPOMD}", kind=kind))
        fetched(tmp_path / "other", asked, locked(tmp_path / "other", asked))
        file.write_text(a_metalink(repomd, f"{forged}/base/{REPOMD}", kind=kind))
        with pytest.raises(BuildError, match=r"repomd\.xml is none that http.*/metalink knows"):
            locked(tmp_path / "forged", asked)
        file.write_text(a_metalink(b"newer", f"{url}/base/{REPOMD}", older=repomd, kind=kind))
        locked(tmp_path / "older", asked)


def named_by_checksum(repository: Path) -> None:
    """Give its metadata the names that createrepo_c gives them: with their checksums."""
    repomd = repository / REPOMD
    text = repomd.read_text()
    for file in sorted((repository / "repodata").glob("*.xml.gz")):
        name = f"{hashlib.sha256(file.read_bytes()).hexdigest()}-{file.name}"
        file.rename(file.with_name(name))
        text = text.replace(f"repodata/{file.name}", f"repodata/{name}")
    repomd.write_text(text)


@pytest.mark.parametrize("by_checksum", [True, False])
def test_metadata_that_change_while_they_are_read(tmp_path: Path, by_checksum: bool) -> None:
    """A mirror that gets a newer state once its repomd.xml has been sent: all is read anew."""
    states = []
    made = rpmsuite.make(tmp_path / "suite")
    for version in ("1", "2"):
        made.rpm("app", version)
        made.publish()
        states.append(Path(shutil.copytree(made.root / "base", tmp_path / f"state{version}")))
        if by_checksum:
            named_by_checksum(states[-1])
    served = Path(shutil.copytree(states[0], tmp_path / "served/base")).parent

    def change() -> None:
        if len(states) > 1:
            shutil.rmtree(served / "base")
            shutil.copytree(states.pop(), served / "base")

    with serving(served, change=staticmethod(change)) as (url, asked):
        indexed = job(tmp_path / "index", params(url=f"{url}/base"))
        index.build(indexed)
    assert asked.count(f"/base/{REPOMD}") == 2
    wanted = job(tmp_path / "lock", {"packages": {"app": ""}, "architecture": "x86_64"},
                 Input("index", "", indexed.out, ""))  # fmt: skip
    resolve.build(wanted)
    assert [one.version for one in lock.read(wanted.out / lock.NAME)] == ["2"]


@pytest.mark.parametrize("lost", ["primary", "filelists"])
def test_metadata_that_stay_away(suite: Suite, tmp_path: Path, lost: str) -> None:
    base = Path(shutil.copytree(suite.root / "base", tmp_path / "mirror/base"))
    named_by_checksum(base)
    (gone,) = (base / "repodata").glob(f"*-{lost}.xml.gz")
    gone.unlink()
    with serving(base.parent) as (url, asked), pytest.raises(BuildError) as caught:
        index.build(job(tmp_path / "index", params(url=f"{url}/base")))
    assert f"{gone.name}: 404 File not found, and {REPOMD} names it" in caught.value.message
    assert "run again in some minutes, or use another one (this one is from the recipe)" in caught.value.hint
    assert asked.count(f"/base/{REPOMD}") == 3


def test_who_may_change_what_is_seen(tmp_path: Path) -> None:
    """Without keys an http mirror is believed only by the checksum in a metalink that nobody can change."""
    (tmp_path / "metalink").write_text(a_metalink(b"x", f"http://mirror.example/a/{REPOMD}"))
    (tmp_path / "list").write_text("http://mirror.example/a\nhttps://mirror.example/b\n")
    with serving(tmp_path) as (lister, _):
        assert sources_of(params(metalink=f"{lister}/metalink"), only_sure=True) == ["http://mirror.example/a"]
        assert sources_of(params(mirrorlist=f"{lister}/list"), only_sure=True) == ["https://mirror.example/b"]
        (tmp_path / "list").write_text("http://mirror.example/a\nhttp://mirror.example/b\n")
        with pytest.raises(BuildError, match="no place has the repository base of tiny") as caught:
            Sources(asked := params(mirrorlist=f"{lister}/list"), tmp_path, only_sure=True).of(asked["repositories"][0])
        assert caught.value.hint.startswith("keyrings = [...] in the recipe") and "--mirror" in caught.value.hint
        (tmp_path / "list").write_text("http://mirror.example/a\n")
        with pytest.raises(BuildError, match=r"nothing would check what comes from http://mirror\.example/a"):
            locked(tmp_path, params(mirrorlist=f"{lister}/list"))


BOMB = '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">]><metalink>&a;</metalink>'


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("mirrorlist", "http://mirror.example/x\n" * 1_000_000, "larger than 1 MiB"),
        ("mirrorlist", "<html>log in</html>", "it names no mirror on the web"),
        (
            "mirrorlist",
            "file:///etc\nftp://a/b\nhttp://a b/\nhttp://[x/\nhttp://a:b:c/\n",
            "it names no mirror on the web",
        ),
        ("metalink", BOMB, "it is no metalink: it declares a type of its own"),
        ("metalink", "<html>", "it is no metalink: "),
        ("metalink", "<html/>", "it is no metalink of a repomd.xml"),
        ("metalink", a_metalink(b"x", f"https://a/{REPOMD}", kind="sha1"), "neither a SHA-256 nor a SHA-512"),
        ("metalink", a_metalink(b"x", f"file:///srv/{REPOMD}", "https://a/other.xml"), "it names no mirror on the web"),
        ("metalink", a_metalink(b"x", *["https://a/x/repomd.xml"] * 40_000), "larger than 1 MiB"),
    ],
    ids=range(9),
)
def test_lists_that_are_none(tmp_path: Path, kind: str, text: str, told: str) -> None:
    (tmp_path / "list").write_text(text)
    with serving(tmp_path) as (lister, _), pytest.raises(BuildError) as caught:
        sources_of(params(**{kind: f"{lister}/list"}))
    assert told in caught.value.message and caught.value.message.startswith(f"{lister}/list: ")


def test_a_few_of_many_mirrors_are_asked(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("".join(f"https://mirror{number}.example/\n" for number in range(9999)))
    with serving(tmp_path) as (lister, _):
        assert len(sources_of(params(mirrorlist=f"{lister}/list"))) == 8


def test_a_mirror_sends_elsewhere(suite: Suite, tmp_path: Path) -> None:
    """To another web server, but to no file of ours."""
    with serving(suite.root) as (other, _), serving(tmp_path, sends_to=f"{other}/base/{REPOMD}") as (url, _):
        asked = params(url=url)
        with pytest.raises(BuildError, match=r"primary.* is not what repodata/repomd\.xml says"):
            locked(tmp_path, asked)
    with (
        serving(tmp_path, sends_to=f"file://{suite.root}/base/{REPOMD}") as (url, _),
        pytest.raises(BuildError, match="a redirect to file:, which is not taken"),
    ):
        locked(tmp_path / "file", params(url=url))


def test_a_path_in_metadata_leads_nowhere_else(suite: Suite, tmp_path: Path) -> None:
    """Not when it is written as URLs have it either."""
    copied = Path(shutil.copytree(suite.root, tmp_path / "mirror"))
    outside = Path(shutil.copy(copied / "base/repodata/primary.xml.gz", tmp_path / "outside.gz"))
    repomd = copied / "base" / REPOMD
    good = repomd.read_text()
    assert "repodata/primary.xml.gz" in good
    for href in (f"repodata/%2e%2e/%2e%2e/%2e%2e/{outside.name}", f"repodata/../../../{outside.name}", f"/{outside}"):
        repomd.write_text(good.replace("repodata/primary.xml.gz", href))
        with pytest.raises(BuildError, match=r"no such file|in a way that is not known"):
            locked(tmp_path / "index", params(url=f"file://{copied}/base"))
        shutil.rmtree(tmp_path / "index")


def test_where_nothing_answers_all_that_was_tried_is_told(tmp_path: Path, dead: str) -> None:
    with pytest.raises(NoSource, match=f"cannot read {dead}/base/repodata/repomd.xml: .*refused"):
        locked(tmp_path / "one", params(url=f"{dead}/base"))
    give("tiny", [f"{dead}/a", f"{dead}/b"])
    try:
        with pytest.raises(NoSource, match="no place has the repository base of tiny") as caught:
            locked(tmp_path / "two", params())
    finally:
        give("tiny", [])
    assert [f"{dead}/{name}/base/repodata/repomd.xml" in caught.value.tail for name in "ab"] == [True, True]
    assert "--mirror tiny=" in caught.value.hint


def test_what_is_given_may_be_several_places(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.packages.given import places_of

    monkeypatch.setenv(variable_of("tiny"), " /srv/a folder  /srv/b https://mirror.example/x")
    assert places_of("tiny") == ["file:///srv/a%20folder", "file:///srv/b", "https://mirror.example/x"]
    for url in ("ftp://mirror.example/x", "http://[/x", "https://a:b:c/", "https://a:99999", "https:///x"):
        monkeypatch.setenv(variable_of("tiny"), f"/srv/a {url}")
        with pytest.raises(UserError, match=rf"{re.escape(url)} is no mirror"):
            places_of("tiny")


def test_what_a_doctor_asks_for() -> None:
    repositories = [
        {"name": "a", "path": "a", "metalink": "https://lists.example/m?repo=a&arch=$basearch"},
        {"name": "b", "path": "b", "url": "https://mirror.example/$basearch/b/"},
        {"name": "c", "path": "c"},
    ]
    recipe = {"distro": "tiny", "mirror": "https://mirror.example/tree", "repositories": repositories}
    assert list(mirrors.releases(recipe)) == [
        "https://lists.example/m?repo=a&arch=x86_64",
        f"https://mirror.example/x86_64/b/{REPOMD}",
        f"https://mirror.example/tree/c/{REPOMD}",
    ]
    assert mirrors.bases(recipe) == ["https://mirror.example/tree", "https://mirror.example/$basearch/b/"]
