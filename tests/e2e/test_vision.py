"""Images over HTTP, with a tiny model with a projector."""

import base64
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.helpers.server import Server, running
from tests.llama.test_vision import A, B
from tests.llama.tiny_vision import write_projector, write_text_model

CHAT_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}and"
DATA = [base64.b64encode(data).decode() for data in (A, B)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server with the models ``eye``, ``jinja`` and ``blind``.

    ``jinja`` has a chat template in its file, ``blind`` has no projector.
    """
    folder = tmp_path_factory.mktemp("vision")
    with running(folder / "home", OLLAMA_CONTEXT_LENGTH="512") as server:
        model = server.upload(write_text_model(folder / "model.gguf").read_bytes())
        projector = server.upload(write_projector(folder / "projector.gguf").read_bytes())
        template = {"template": "{{ .Prompt }}"}
        jinja = server.upload(
            write_text_model(folder / "jinja.gguf", chat_template=CHAT_TEMPLATE).read_bytes()
        )
        for body in (
            {"model": "eye", "files": {"model.gguf": model, "projector.gguf": projector}, **template},
            {"model": "jinja", "files": {"model.gguf": jinja, "projector.gguf": projector}},
            {"model": "blind", "files": {"model.gguf": model}, **template},
        ):
            assert server.post("/api/create", body).records[-1] == {"status": "success"}
        yield server


def error(server: Server, prompt: str = "hello", model: str = "eye", **fields: Any) -> tuple[int, str]:
    reply = server.generate(prompt, model=model, **fields)
    return reply.status, reply.json["error"]


def test_the_model_says_that_it_sees(server: Server) -> None:
    shown = server.post("/api/show", {"model": "eye"}).json
    assert "vision" in shown["capabilities"]
    assert shown["projector_info"]["clip.projector_type"] == "mlp"


def test_generate(server: Server) -> None:
    assert server.generate("hello", model="eye", images=DATA[:1]).json["response"] == "SJeKzEBfffff"
    assert server.generate("hello", model="eye", images=DATA[1:]).json["response"] == "SeKAyqObTaIh"
    assert server.generate("hello", model="eye").json["response"] == "SCxhBnAlOFdC"


def test_a_raw_prompt_has_its_own_tags(server: Server) -> None:
    reply = server.generate("[img-0]and[img-1]hello", model="eye", images=DATA, raw=True)
    assert reply.json["response"] == "whBncObTaIhB"
    reply = server.generate("[img-1]and[img-0]hello", model="eye", images=DATA, raw=True)
    assert reply.json["response"] == "whBnAIrObTab"


def test_chat(server: Server) -> None:
    message = {"role": "user", "content": "[img]and[img]hello", "images": DATA}
    body = {"model": "eye", "messages": [message], "stream": False}
    reply = server.post("/api/chat", {**body, "options": {"temperature": 0, "num_predict": 12}})
    assert reply.json["message"] == {"role": "assistant", "content": "whBncObTaIhB"}


def test_in_a_chat_template_images_come_after_the_text(server: Server) -> None:
    message = {"role": "user", "content": "see", "images": DATA}
    body = {"model": "jinja", "messages": [message], "stream": False}
    shown = server.post("/api/chat", {**body, "_debug_render_only": True}).json
    assert shown["_debug_info"] == {"rendered_template": "see[img-0][img-1]and", "image_count": 2}
    reply = server.post("/api/chat", {**body, "options": {"temperature": 0, "num_predict": 12}})
    # The beginning of the sequence, the letters, and four tokens for each image.
    assert reply.json["prompt_eval_count"] == 1 + len("see") + 2 * 4 + len("and")


def test_a_look_at_the_prompt(server: Server) -> None:
    reply = server.generate("hello", model="eye", images=DATA, _debug_render_only=True)
    assert reply.json["_debug_info"] == {"rendered_template": "[img-0][img-1]hello", "image_count": 2}


def test_old_messages_go_with_their_images(server: Server) -> None:
    # An image counts for 768 tokens, of which the context has 512.
    messages = [
        {"role": "user", "content": "one", "images": DATA[:1]},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    body = {"model": "eye", "messages": messages, "_debug_render_only": True}
    assert server.post("/api/chat", body).json["_debug_info"] == {"rendered_template": "twothree"}
    body["truncate"] = False
    assert server.post("/api/chat", body).json["_debug_info"]["image_count"] == 1


def test_an_image_in_a_message_of_its_own(server: Server) -> None:
    messages = [{"role": "user", "content": "", "images": DATA[:1]}, {"role": "user", "content": "hello"}]
    body = {"model": "eye", "messages": messages, "truncate": False, "_debug_render_only": True}
    shown = server.post("/api/chat", body).json["_debug_info"]
    assert shown == {"rendered_template": "[img-0]\n\nhello", "image_count": 1}


def test_images_are_not_part_of_a_context(server: Server) -> None:
    first = server.generate("hello", model="eye", images=DATA[:1]).json
    # The tag as the text that it was, the prompt and the answer.
    assert len(first["context"]) == len("[img-0]") + len("hello") + 12
    reply = server.generate(
        "and", model="eye", images=DATA[1:], context=first["context"], _debug_render_only=True
    )
    assert reply.json["_debug_info"] == {
        "rendered_template": "helloSJeKzEBfffff[img-0]and",
        "image_count": 1,
    }


def test_an_image_may_be_a_data_url(server: Server) -> None:
    plain = server.generate("hello", model="eye", images=DATA[:1]).json
    url = server.generate("hello", model="eye", images=[f"data:image/png;base64,{DATA[0]}"]).json
    assert url["response"] == plain["response"]


def test_refusals(server: Server) -> None:
    assert error(server, images=["https://example.com/a.png"]) == (400, "illegal base64 data at input byte 5")
    assert error(server, images=["aGVsbG8="]) == (400, "image 1 is not a PNG, JPEG, WebP, GIF or BMP file")
    assert error(server, images=DATA, raw=True) == (
        400,
        "the prompt has no [img-0] that marks the place of image 0",
    )
    assert error(server, images=DATA[:1], model="blind") == (
        400,
        "this model does not support multimodal input: it has no projector for images",
    )


def test_a_model_that_cannot_see_shows_its_prompt(server: Server) -> None:
    reply = server.generate("hello", model="blind", images=DATA[:1], _debug_render_only=True)
    assert reply.json["_debug_info"] == {"rendered_template": "[img-0]hello", "image_count": 1}


def test_the_official_client(server: Server) -> None:
    client = ollama.Client(server.url)
    reply = client.generate("eye", "hello", images=[A], options={"temperature": 0, "num_predict": 12})
    assert reply.response == "SJeKzEBfffff"
    message = ollama.Message(
        role="user", content="[img]and[img]hello", images=[ollama.Image(value=A), ollama.Image(value=B)]
    )
    chat = client.chat("eye", [message], options={"temperature": 0, "num_predict": 12})
    assert chat.message.content == "whBncObTaIhB"
