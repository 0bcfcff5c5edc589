"""Builds the prompt of a request: its messages, rendered with the model's template and cut to the context.

The builders run on a worker thread, where they count tokens with the runner. Rendering and
cutting are Ollama's.

Source: ollama: server/prompt.go, chatPrompt; server/routes.go, GenerateHandler.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.inference.catalogue import Entry, parse_go_template
from ollama_tw.inference.completion import Prompt
from ollama_tw.inference.images import without_tags
from ollama_tw.inference.infill import InfillTokens
from ollama_tw.inference.prompt_size import (
    require_fitting,
    require_fitting_messages,
    require_fitting_tokens,
)
from ollama_tw.interfaces import IRunner, RunnerError
from ollama_tw.prompt.conversation import (
    chat_messages,
    generate_messages,
    removes_past_thinking,
    with_image_tags,
    without_past_thinking,
)
from ollama_tw.prompt.history import IMAGE_TOKENS, cut_history, kept_tokens, middle_cut, too_long
from ollama_tw.prompt.outside_text import BREAK, special_in, tokens_of, with_breaks
from ollama_tw.prompt.think import Think
from ollama_tw.templates.budget import TemplateError
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.templates.thinking_controls import find_controls
from ollama_tw.wire.native import ChatRequest, GenerateRequest, Message
from ollama_tw.wire.options import Options

PromptBuilder = Callable[[IRunner], Prompt]
Render = Callable[[Sequence[Message]], str]

_NO_SHIFT = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)

_log = logging.getLogger("ollama_tw.inference")

_chat_template = lru_cache(maxsize=64)(ChatTemplate)


def chat_prompt(
    entry: Entry,
    request: ChatRequest,
    options: Options,
    think: Think,
    shift: bool,
    *,
    special_in_text: bool = False,
) -> PromptBuilder:
    """Return the builder of a chat's prompt.

    ``special_in_text``: special tokens in the messages of users and tools are recognised.
    """
    truncate = request.truncate is not False
    messages = chat_messages(request.messages, model_system=entry.model.system, embedded=_embedded(entry))
    if removes_past_thinking(entry.model.config.model_family, entry.model.name.model):
        messages = without_past_thinking(messages)

    def build(runner: IRunner) -> Prompt:
        require_fitting_messages(messages, _context_limit(runner, options))
        render = _renderer(entry, runner, think, request)
        guarded = messages if special_in_text else _guarded(messages, render, runner)
        prompt = _without_breaks(_cut(entry, guarded, render, runner, options, truncate), runner)
        # Ollama cuts prompts in the middle of a message only where it renders them itself.
        if entry.template is None:
            return prompt
        return _fit(prompt, runner, options, truncate, shift)

    return build


def generate_prompt(
    entry: Entry,
    request: GenerateRequest,
    options: Options,
    think: Think,
    shift: bool,
    infill: InfillTokens | None = None,
    *,
    special_in_text: bool = False,
) -> PromptBuilder:
    """Return the builder of a generate request's prompt.

    ``infill`` are the tokens that place a suffix where the model's template cannot; ``special_in_text`` is as
    for :func:`chat_prompt`.
    """
    truncate = request.truncate is not False
    images = tuple(request.images)

    def build(runner: IRunner) -> Prompt:
        limit = _context_limit(runner, options)
        require_fitting(f"{request.system}{request.prompt}{request.suffix}", limit)
        require_fitting_tokens(request.context or (), limit)
        return _fit(_without_breaks(unfitted(runner), runner), runner, options, truncate, shift)

    def unfitted(runner: IRunner) -> Prompt:
        if request.raw:
            return Prompt(_without_bos(request.prompt, runner), images=images)
        if request.suffix:
            return Prompt(_infill(entry, request, runner, think, infill), images=images)
        messages = generate_messages(
            request.prompt,
            system=request.system,
            model_system=entry.model.system,
            embedded=_embedded(entry),
            images=images,
            continued=request.context is not None,
        )
        render = _renderer(entry, runner, think, request)
        if request.template:
            prompt = Prompt(render(messages), images=images)
        else:
            guarded = messages if special_in_text else _guarded(messages, render, runner)
            prompt = _cut(entry, guarded, render, runner, options, truncate)
        before = _text_of(request.context, runner, "context") if request.context else ""
        if images:
            before = without_tags(before)
        return replace(prompt, text=before + prompt.text)

    return build


def token_prompt(tokens: tuple[int, ...]) -> PromptBuilder:
    """Return the builder of a prompt that was sent as tokens; it raises 400 for an unknown token."""

    def build(runner: IRunner) -> Prompt:
        return Prompt(_text_of(tokens, runner, "prompt"), tokens)

    return build


def _embedded(entry: Entry) -> list[Message]:
    """Return the MESSAGEs of the model's Modelfile."""
    return [
        Message(str(message.get("role", "")), str(message.get("content", "")))
        for message in entry.model.messages
    ]


def _renderer(entry: Entry, runner: IRunner, think: Think, request: ChatRequest | GenerateRequest) -> Render:
    """Return a function that renders messages with the request's template, else with the model's."""
    now = datetime.now().astimezone()
    tools = request.tools if isinstance(request, ChatRequest) else []
    override = request.template if isinstance(request, GenerateRequest) else ""
    template = parse_go_template(override) if override else entry.template
    common: dict[str, Any] = {"tools": tools or None, "think": think.template_value, "now": now}
    if template is None:
        source = entry.chat_template
        chat_template = _chat_template(source, bos=runner.bos_text, eos=runner.eos_text)
        if think.enabled is False and "thinking" in entry.capabilities:
            _warn_of_thinking(entry.model.name.full, source)
        render: Render = partial(chat_template.render, think_budget=think.budget, **common)
    else:
        render = partial(template.render, **common)
    return lambda messages: _without_bos(render(messages), runner)


@lru_cache(maxsize=256)
def _warn_of_thinking(model: str, source: str) -> None:
    """Log once that a model thinks in any case, if its template has no switch."""
    if not find_controls(source).can_switch_off:
        _log.warning("%s: the chat template has no switch to turn thinking off: the model may think", model)


def _guarded(messages: Sequence[Message], render: Render, runner: IRunner) -> Sequence[Message]:
    """Return ``messages`` with breaks in the special tokens that they contain.

    They are unchanged where the template is only the prompt: there the client writes the special tokens.
    """
    guarded = with_breaks(messages, special_in(runner.tokenize))
    if all(one is other for one, other in zip(messages, guarded, strict=True)):
        return messages
    return messages if _renders_only_the_prompt(render) else guarded


def _renders_only_the_prompt(render: Render) -> bool:
    try:
        return render([Message("user", "x")]).strip() == "x"
    except TemplateError:
        return False


def _without_breaks(prompt: Prompt, runner: IRunner) -> Prompt:
    """Return a prompt whose tokens follow its breaks, and whose text has none."""
    if BREAK not in prompt.text:
        return prompt
    tokens = None if prompt.images else tokens_of(prompt.text, runner.tokenize)
    return replace(prompt, text=prompt.text.replace(BREAK, ""), tokens=tokens)


def _text_of(tokens: Sequence[int], runner: IRunner, field: str) -> str:
    """Return the text of tokens that a client sent in ``field``; 400 if the model has not all of them."""
    try:
        return runner.detokenize(tokens)
    except RunnerError as error:
        raise OllamaError(400, f'"{field}": {error}') from error


def _without_bos(text: str, runner: IRunner) -> str:
    """Return ``text`` without the BOS token at its beginning that the tokenizer adds."""
    return text.removeprefix(runner.bos_text) if runner.adds_bos else text


def _context_limit(runner: IRunner, options: Options) -> int:
    """Return the context length of the request in tokens: ``num_ctx``, at most that of the runner."""
    context: int = runner.context_length
    return min(options.num_ctx or context, context)


def _size(text: str) -> int:
    """Return the size of ``text`` in bytes, an upper bound of its number of tokens."""
    return len(text.encode("utf-8", "replace"))


def _cut(
    entry: Entry,
    messages: Sequence[Message],
    render: Render,
    runner: IRunner,
    options: Options,
    truncate: bool,
) -> Prompt:
    """Return the prompt of the conversation, with a tag for each image.

    With ``truncate``, the oldest messages are dropped until it fits the context.
    """
    after_text = entry.template is None
    limit = _context_limit(runner, options)
    image_tokens = IMAGE_TOKENS if entry.model.projector_paths else 0
    tagged, images = with_image_tags(messages, after_text=after_text)
    text = render(tagged) if images or not truncate else None
    if text is not None and (not truncate or _size(text) + image_tokens * len(images) < limit):
        return Prompt(text, images=tuple(images))
    # The length is that of the conversation without tags, which the engine does not get as text.
    history = cut_history(
        messages,
        limit,
        render,
        lambda text: len(runner.tokenize(text, add_special=False)),
        image_tokens=image_tokens,
    )
    if history.dropped_messages:
        tagged, images = with_image_tags(history.messages, after_text=after_text)
        text = render(tagged) if images else None
    return Prompt(
        history.prompt if text is None else text,
        truncated=history.dropped_tokens,
        images=tuple(images),
    )


def _fit(prompt: Prompt, runner: IRunner, options: Options, truncate: bool, shift: bool) -> Prompt:
    """Cut the middle out of a prompt that is too long; raise 400 if ``truncate`` or ``shift`` forbid it.

    A prompt with images is returned unchanged: only the engine can count its tokens.
    """
    if prompt.images:
        return prompt
    limit = _context_limit(runner, options)
    if _size(prompt.text) < limit - 1:
        return prompt
    tokens = runner.tokenize(prompt.text) if prompt.tokens is None else prompt.tokens
    if len(tokens) < limit:
        return prompt
    if not truncate:
        raise too_long(len(tokens), limit)
    if not shift:
        raise OllamaError(400, _NO_SHIFT)
    left = middle_cut(tokens, kept_tokens(options.num_keep, limit, adds_bos=runner.adds_bos), limit)
    return Prompt(prompt.text, tuple(left), prompt.truncated + len(tokens) - len(left))


def _infill(
    entry: Entry, request: GenerateRequest, runner: IRunner, think: Think, tokens: InfillTokens | None
) -> str:
    """Return the prompt for the text between the request's prompt and its suffix."""
    if request.template or tokens is None:
        template = parse_go_template(request.template) if request.template else entry.go_template
        text = template.render(
            [],
            now=datetime.now().astimezone(),
            think=think.template_value,
            prompt=request.prompt,
            suffix=request.suffix,
        )
        return _without_bos(text, runner)
    before, between, after = (
        runner.detokenize([token]) for token in (tokens.prefix, tokens.suffix, tokens.middle)
    )
    return f"{before}{request.prompt}{between}{request.suffix}{after}"
