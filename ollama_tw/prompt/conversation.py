"""Messages of a conversation, composed from a request and its model before rendering.

All functions return new lists and do not modify their arguments.
"""

import re
from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from ollama_tw.wire.native import IMAGE_MARK, Message

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
    """Return the conversation of a generate request.

    ``system`` is the request's, ``model_system`` and ``embedded`` are the model's SYSTEM and MESSAGEs.
    ``continued`` is True if the request has a ``context``, even an empty one, which contains the model's
    messages already. Source: ollama: server/routes.go, GenerateHandler.
    """
    user = Message("user", prompt, images=list(images) if images else UNSET)
    return [*_system(system or model_system), *([] if continued else embedded), user]


def chat_messages(
    messages: Sequence[Message], *, model_system: str = "", embedded: Sequence[Message] = ()
) -> list[Message]:
    """Return the conversation of a chat request, with the model's SYSTEM and MESSAGEs.

    A system message at the beginning of the request replaces the model's SYSTEM; it follows the model's
    MESSAGEs. Source: ollama: server/routes.go, ChatHandler.
    """
    replaced = bool(messages) and messages[0].role == "system"
    return [*([] if replaced else _system(model_system)), *embedded, *messages]


def _system(text: str) -> list[Message]:
    return [Message("system", text)] if text else []


def removes_past_thinking(family: str, model: str) -> bool:
    """Return True if earlier ``<think>`` blocks are removed from the prompts of a model.

    ``model`` is the model part of its name, without host, namespace and tag.

    Source: ollama: server/routes.go, filterThinkTags.
    """
    return family == "qwen3" or model == "deepseek-r1"


def without_past_thinking(messages: Sequence[Message]) -> list[Message]:
    """Remove the leading ``<think>`` block of each assistant message before the last user message.

    Source: ollama: server/routes.go, filterThinkTags.
    """
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    return [
        replace(message, content=message.content[thought.end() :])
        if message.role == "assistant"
        and i < last_user
        and (thought := _LEADING_THOUGHT.match(message.content))
        else message
        for i, message in enumerate(messages)
    ]


def with_image_tags(
    messages: Sequence[Message], *, after_text: bool = False
) -> tuple[list[Message], list[bytes]]:
    """Return ``messages`` with a tag ``[img-N]`` for each of their images, and the images in order.

    A tag replaces an ``[img]`` in the text, or is put before the text, with ``after_text`` after it.

    Source: ollama: server/prompt.go, chatPrompt.
    """
    tagged: list[Message] = []
    all_images: list[bytes] = []
    for message in messages:
        images = [] if message.images is UNSET else message.images
        text, front, end = message.content, "", ""
        for image in images:
            tag = f"[img-{len(all_images)}]"
            all_images.append(image)
            if IMAGE_MARK in text:
                text = text.replace(IMAGE_MARK, tag, 1)
            elif after_text:
                end += tag
            else:
                front += tag
        tagged.append(replace(message, content=front + text + end) if images else message)
    return tagged, all_images
