"""Replies to the requests in docs/api are those of the pages, and valid by the OpenAPI document."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.contract.document import FOLDER, faults
from tests.contract.servers import contract_server
from tests.helpers.application import Application

PAGES = sorted(path.name for path in FOLDER.glob("*.md"))
_EXAMPLE = re.compile(
    r"```sh\n(?P<command>.*?)\n```\n\n"
    r"`(?P<status>\d+)`(?:, without a body| `(?P<type>[^`]+)`\n\n```\w+\n(?P<answer>.*?)\n```)\n",
    re.DOTALL,
)
_BOUNDARY = "boundary"
_ENDS = {"application/x-ndjson": "\n", "text/event-stream": "\n\n"}


@dataclass(frozen=True)
class Example:
    method: str
    path: str
    body: bytes
    content_type: str
    status: int
    answer_type: str | None
    answer: bytes


def examples(page: str) -> Iterator[Example]:
    """Yield the commands of a page with their replies; every command has one."""
    text = (FOLDER / page).read_text()
    found = list(_EXAMPLE.finditer(text))
    assert len(found) == text.count("```sh\n")
    for match in found:
        method, path, body, content_type = request_of(match["command"])
        answer = "" if match["answer"] is None else match["answer"] + _ENDS.get(match["type"], "")
        yield Example(method, path, body, content_type, int(match["status"]), match["type"], answer.encode())


def request_of(command: str) -> tuple[str, str, bytes, str]:
    """Parse a command of curl into the method, path, body and content type of its request."""
    program, *words = shlex.split(command)
    assert program == "curl"
    method, url, data, form = "", "", None, []
    while words:
        match words.pop(0):
            case "-X":
                method = words.pop(0)
            case "-I":
                method = "HEAD"
            case "-d" | "--data-binary":
                data = words.pop(0)
            case "-F":
                form.append(words.pop(0))
            case address:
                assert address.startswith("http://localhost:11434/")
                url = address
    path = urlsplit(url).path
    if form:
        return "POST", path, multipart(form), f"multipart/form-data; boundary={_BOUNDARY}"
    if data is None:
        return method or "GET", path, b"", "application/json"
    return method or "POST", path, data.encode(), "application/json"


def multipart(form: list[str]) -> bytes:
    parts = []
    for field in form:
        name, _, value = field.partition("=")
        parts.append(f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n')
    return ("".join(parts) + f"--{_BOUNDARY}--\r\n").encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with contract_server(tmp_path_factory.mktemp("examples"), OLLAMA_NO_CLOUD="1") as server:
        yield server


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_are_answered_as_it_says(server: Application, page: str) -> None:
    for one in examples(page):
        reply = server.request(one.method, one.path, one.body, {"Content-Type": one.content_type})
        kind = reply.headers["Content-Type"]
        assert (reply.status, kind and kind.partition(";")[0]) == (one.status, one.answer_type), one
        assert faults(one.method, one.path, reply.status, kind, reply.body) == []
        # A fenced block does not tell whether a text ends with a newline.
        answers = [one.answer, one.answer + b"\n"] if one.answer_type == "text/plain" else [one.answer]
        said = [faults(one.method, one.path, one.status, one.answer_type, answer) for answer in answers]
        assert [] in said, said


def test_the_answers_of_the_pages_are_in_all_forms() -> None:
    kinds = {one.answer_type for page in PAGES for one in examples(page)}
    assert kinds == {"application/json", "application/x-ndjson", "text/event-stream", "text/plain", None}


def test_the_metrics_are_those_of_the_server(server: Application) -> None:
    (table,) = re.findall(r"^\| metric .*?\n\n", (FOLDER / "server.md").read_text(), re.DOTALL | re.MULTILINE)
    documented = {
        (name, row.split(" | ")[1])
        for row in table.splitlines()[2:]
        for name in re.findall(r"`(ollama_\w+)`", row.split(" | ")[0])
    }
    served = re.findall(r"^# TYPE (\w+) (\w+)$", server.get("/metrics").body.decode(), re.MULTILINE)
    assert documented == {(name, kind) for name, kind in served if not name.endswith("_created")}
