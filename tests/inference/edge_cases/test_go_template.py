"""``OLLAMA_GO_TEMPLATE`` selects which of a model's two templates renders the prompt."""

from pathlib import Path

import pytest

from tests.helpers.application import Application
from tests.helpers.models import tiny

JINJA = "{% for message in messages %}jinja {{ message.content }}{% endfor %}"


@pytest.mark.parametrize(("value", "prompt"), [("", "go hi"), ("1", "go hi"), ("0", "jinja hi")])
def test_which_template_is_used(tmp_path: Path, value: str, prompt: str) -> None:
    app = Application(tmp_path / "home", OLLAMA_GO_TEMPLATE=value)
    try:
        model = tiny(tmp_path, "both", chat_template=JINJA)
        app.create("m", model, template="go {{ .Prompt }}")
        shown = app.chat("hi", _debug_render_only=True).json["_debug_info"]
        assert shown == {"rendered_template": prompt}
        template = app.post("/api/show", {"model": "m"}).json["template"]
        assert template == (JINJA if value == "0" else "go {{ .Prompt }}")
    finally:
        app.close()
