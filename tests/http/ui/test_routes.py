"""The files of the web page: what is served under /ui, and that the page loads nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_tw.http.ui.routes import STATIC
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
    assert page.body == (STATIC / "index.html").read_bytes()
    assert server.get("/ui/").headers["Location"] == "/ui"
    assert server.get("/", Accept="text/html").body == b"Ollama is running"


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_served_with_its_type_and_the_policy(server: Application, name: str) -> None:
    reply = server.get(f"/ui/{name}")
    assert (reply.status, reply.body) == (200, (STATIC / name).read_bytes())
    kind = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    assert reply.headers["Content-Type"].partition(";")[0] == kind[Path(name).suffix]
    policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "no-referrer"


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
    assert int(head.headers["Content-Length"]) == (STATIC / "index.html").stat().st_size
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
