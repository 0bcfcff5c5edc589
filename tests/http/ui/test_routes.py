"""The files of the web page: what is served under /ui, and that the page loads nothing else."""

import gzip
import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_tw.http.ui.files import STATIC
from tests.helpers.application import Application

FILES = sorted(path.name for path in STATIC.iterdir())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    application = Application(tmp_path_factory.mktemp("home"))
    yield application
    application.close()


def test_the_page_is_at_ui_and_the_banner_stays_at_the_root(server: Application) -> None:
    page = server.get("/ui")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<section class="view chat"' in page.body
    assert server.get("/ui/").headers["Location"] == "/ui"
    assert server.get("/", Accept="text/html").body == b"Ollama is running"


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_served_with_its_type_and_the_policy(server: Application, name: str) -> None:
    reply = server.get(f"/ui/{name}")
    assert reply.status == 200
    if name != "index.html":
        assert reply.body == (STATIC / name).read_bytes()
    kind = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    assert reply.headers["Content-Type"].partition(";")[0] == kind[Path(name).suffix]
    policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_has_its_style_sheets_and_its_first_script_in_it(server: Application) -> None:
    reply = server.get("/ui")
    for name in ("style.css", "chat.css", "views.css", "theme.js"):
        assert (STATIC / name).read_bytes() in reply.body
    # All else is loaded by the scripts, after the first paint.
    loaded = re.findall(rb'<(?:link rel="stylesheet"|script)[^>]*>', reply.body)
    assert loaded == [b"<script>", b'<script type="module" src="ui/app.js">']


def test_the_policy_allows_only_what_is_in_the_page_as_it_is_sent(server: Application) -> None:
    reply = server.get("/ui")
    policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
    for element, rule in ((b"script", "script-src"), (b"style", "style-src")):
        texts = re.findall(rb"<%b>(.*?)</%b>" % (element, element), reply.body, re.DOTALL)
        hashes = [b64encode(hashlib.sha256(text).digest()).decode() for text in texts]
        assert texts
        assert policy[rule].split(" ") == ["'self'", *(f"'sha256-{value}'" for value in hashes)]


@pytest.mark.parametrize("accepted", ["gzip, deflate, br, zstd", "br;q=1.0, GZIP;q=0.5", "*"])
@pytest.mark.parametrize("path", ["/ui", "/ui/app.js"])
def test_a_browser_gets_the_files_compressed(server: Application, path: str, accepted: str) -> None:
    plain = server.get(path)
    reply = server.get(path, **{"Accept-Encoding": accepted})
    assert reply.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(reply.body) == plain.body
    assert len(reply.body) < len(plain.body) / 2
    assert reply.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    # A cache must not take one form for the other.
    assert reply.headers["ETag"] != plain.headers["ETag"]
    again = server.get(path, **{"Accept-Encoding": accepted, "If-None-Match": reply.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "gzip; q=0.000, *", "*;q=0"])
def test_a_client_that_does_not_accept_gzip_gets_the_files_as_they_are(
    server: Application, accepted: str
) -> None:
    reply = server.get("/ui/app.js", **{"Accept-Encoding": accepted})
    assert "Content-Encoding" not in reply.headers
    assert reply.body == (STATIC / "app.js").read_bytes()


def test_a_browser_that_has_a_file_does_not_get_it_again(server: Application) -> None:
    first = server.get("/ui/app.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = server.get("/ui/app.js", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    other = server.get("/ui/app.js", **{"If-None-Match": '"another"'})
    assert (other.status, other.body) == (200, first.body)


def test_a_request_for_the_head_of_the_page(server: Application) -> None:
    head = server.request("HEAD", "/ui")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(server.get("/ui").body)
    assert server.post("/ui").status == 405


@pytest.mark.parametrize("path", ["/ui/none.js", "/ui/routes.py", "/ui/..%2Froutes.py", "/ui/static/app.js"])
def test_nothing_else_is_served(server: Application, path: str) -> None:
    assert server.get(path).status == 404


def test_the_setting_removes_the_page(tmp_path: Path) -> None:
    application = Application(tmp_path, OLLAMA_UI="0")
    assert application.get("/ui").status == 404
    assert application.get("/ui/app.js").status == 404
    assert application.get("/").body == b"Ollama is running"
    application.close()


# --------------------------------------------------------------------------------------------- the files


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 120_000


def test_all_that_the_page_loads_is_in_its_folder() -> None:
    page = (STATIC / "index.html").read_text()
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert loaded
    assert {f"ui/{name}" for name in FILES} >= set(loaded)
    scripts = "".join((STATIC / name).read_text() for name in FILES if name.endswith(".js"))
    imported = set(re.findall(r'from "\./([\w.-]+)"', scripts))
    assert imported <= set(FILES)
    # Every module is used by another one, or by the page.
    modules = {name for name in FILES if name.endswith(".js")}
    assert modules == imported | {name.removeprefix("ui/") for name in loaded if name.endswith(".js")}


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host_or_makes_markup_of_text(name: str) -> None:
    text = (STATIC / name).read_text()
    # The name space of SVG is an identifier.
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)[\w.]+", text) == []
    unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|setHTML"
    assert re.findall(unsafe, text) == []
