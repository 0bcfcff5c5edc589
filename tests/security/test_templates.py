"""CVE-2024-34359, CVE-2026-5760: templates of a model file that escape the sandbox.

The corpus of gadgets is in ``tests/templates/test_jinja.py``, here they are part of a model.
"""

from pathlib import Path

import pytest

from tests.helpers.application import Application
from tests.helpers.models import CHATML, tiny

JINJA = [
    "{{ ().__class__.__base__.__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
    "{{ lipsum.__globals__['os'].popen('touch MARK').read() }}",
    "{{ self._TemplateReference__context }}",
    "{{ raise_exception.__globals__ }}",
    "{{ messages[0].update(role='x') }}",
    "{% include '/etc/passwd' %}",
    "{% for x in range(10**12) %}{% endfor %}",
    "{{ 'x' * 10**12 }}",
    "{{ '%1000000000d' % 1 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ raise_exception('/etc/passwd') }}",
    "{% for",
]
GO = [
    '{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}',
    '{{ range $i, $e := .Messages }}{{ printf "%1000000000d" 1 }}{{ end }}',
    "{{ call .Messages }}",
    "{{ .Messages.__class__ }}",
    "{{ (index .Messages 0).Content.__class__.__mro__ }}",
    "{{ slice .Prompt 5 1 }}",
    "{{ index .Messages 1000000 }}",
    "{{ html .Messages }}{{ js .Messages }}",
]


@pytest.mark.parametrize("source", JINJA)
def test_jinja_gadgets_in_a_model_file(app: Application, tmp_path: Path, source: str) -> None:
    mark = tmp_path / "mark"
    data = tiny(tmp_path, "evil", chat_template=CHATML + source.replace("MARK", str(mark)))
    app.create("evil", data)
    for reply in (app.chat("hi", model="evil"), app.generate(model="evil")):
        if reply.status == 200:
            assert app.job.prompt == "<|user|>hi<|assistant|>"
        else:
            assert reply.status in (400, 500)
            assert "Traceback" not in reply.json["error"]
            assert "internal server error" not in reply.json["error"]
    assert not mark.exists()


@pytest.mark.parametrize("source", GO)
def test_go_gadgets_in_a_model_and_in_a_request(app: Application, source: str) -> None:
    body = {"model": "evil-go", "from": "m", "template": "{{ .Prompt }}" + source, "stream": False}
    created = app.post("/api/create", body)
    assert created.status in (200, 400)
    replies = [app.generate(template="{{ .Prompt }}" + source)]
    if created.status == 200:
        replies.append(app.chat("hi", model="evil-go"))
    for reply in replies:
        if reply.status == 200:
            assert isinstance(app.job.prompt, str)
            assert len(app.job.prompt) < 100
        else:
            assert reply.status in (400, 500)
            assert "Traceback" not in reply.json["error"]
            assert "internal server error" not in reply.json["error"]
