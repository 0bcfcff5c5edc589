"""The messages of a conversation, out of what the request and the model say, before any rendering.

All functions give new lists and leave the messages they get as they are.
"""

import re
from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from ollama_tw.wire.native import Message

_LEADING_THOUGHT = re.compile(r"\s*<think>.*?(</think>\s*|\Z)", re.DOTALL)


def generate_messages(
    prompt: str,
    *,
    system: str = "",
    model_system: str = "",
    embedded: Sequence[Message] = (),
    images: Sequence[bytes] = (),
    continued: bool = False,
) -> list[Message]:
    """The conversation that a generate request stands for.

    ``system`` is the request's, ``model_system`` and ``embedded`` are the model's SYSTEM and
    MESSAGEs. ``continued`` says that the request has a ``context`` (an empty one counts): the
    model's messages are in it already. Source: ``spec/inference-api.md`` section 1.6.
    """
    user = Message("user", prompt, images=list(images) if images else UNSET)
    return [*_system(system or model_system), *([] if continued else embedded), user]


def chat_messages(
    messages: Sequence[Message], *, model_system: str = "", embedded: Sequence[Message] = ()
) -> list[Message]:
    """The conversation of a chat request, with the model's SYSTEM and MESSAGEs.

    A request that begins with a system message replaces the model's; that message comes after the
    model's MESSAGEs. Source: ``spec/inference-api.md`` section 2.3.
    """
    replaced = bool(messages) and messages[0].role == "system"
    return [*([] if replaced else _system(model_system)), *embedded, *messages]


def _system(text: str) -> list[Message]:
    return [Message("system", text)] if text else []


def forgets_thinking(family: str, model: str) -> bool:
    """Whether earlier ``<think>`` blocks are cut from what a model is shown.

    ``model`` is the model's part of its name, without host, namespace and tag.
    """
    return family == "qwen3" or model == "deepseek-r1"


def without_past_thinking(messages: Sequence[Message]) -> list[Message]:
    """``messages`` with the leading ``<think>`` block cut from each answer before the last user message.

    Source: ``spec/inference-api.md`` section 2.3.
    """
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    return [
        replace(message, content=_LEADING_THOUGHT.sub("", message.content, count=1))
        if message.role == "assistant" and i < last_user and _LEADING_THOUGHT.match(message.content)
        else message
        for i, message in enumerate(messages)
    ]


def with_image_tags(
    messages: Sequence[Message], *, after_text: bool = False
) -> tuple[list[Message], list[bytes]]:
    """``messages`` with ``[img-N]`` in their text for each of their images, and those images in order.

    A tag takes the place of an ``[img]`` in the text, else it goes to its front; with ``after_text`` all
    go to its end. Source: ``spec/inference-api.md`` section 9, points 5 and 8.
    """
    tagged: list[Message] = []
    all_images: list[bytes] = []
    for message in messages:
        images = [] if message.images is UNSET else message.images
        text, front, end = message.content, "", ""
        for image in images:
            tag = f"[img-{len(all_images)}]"
            all_images.append(image)
            if after_text:
                end += tag
            elif "[img]" in text:
                text = text.replace("[img]", tag, 1)
            else:
                front += tag
        tagged.append(replace(message, content=front + text + end) if images else message)
    return tagged, all_images
