"""What the model gets to see: the request's messages through the model's template, cut to fit.

The builders run on a worker thread, where there is a runner to count tokens with.
Source: ``spec/inference-api.md`` sections 1.6, 1.8, 2.3 and 9; ``spec/better.md`` row 9.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial

from ollama_tw.errors import OllamaError
from ollama_tw.inference.catalogue import Entry
from ollama_tw.inference.completion import Prompt
from ollama_tw.inference.images import without_tags
from ollama_tw.interfaces import IRunner, RunnerError
from ollama_tw.library.model import DEFAULT_TEMPLATE
from ollama_tw.library.rendering import PromptPath
from ollama_tw.prompt.conversation import (
    chat_messages,
    generate_messages,
    removes_past_thinking,
    with_image_tags,
    without_past_thinking,
)
from ollama_tw.prompt.history import IMAGE_TOKENS, cut_history, kept_tokens, middle_cut, too_long
from ollama_tw.prompt.think import Think
from ollama_tw.templates.gotemplate import Template, parse
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.wire.native import ChatRequest, GenerateRequest, Message
from ollama_tw.wire.options import Options

PromptBuilder = Callable[[IRunner], Prompt]
Render = Callable[[Sequence[Message]], str]

_NO_SHIFT = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)

_chat_template = lru_cache(maxsize=64)(ChatTemplate)
go_template = lru_cache(maxsize=64)(parse)


def template_in_use(entry: Entry) -> Template | None:
    """The model's Go template, or None where its prompts come from the GGUF's chat template."""
    if entry.rendering.path is PromptPath.NATIVE and entry.header.chat_template:
        return None
    return go_template(entry.model.template or DEFAULT_TEMPLATE)


def chat_prompt(
    entry: Entry, request: ChatRequest, options: Options, think: Think, shift: bool
) -> PromptBuilder:
    """The prompt of a chat."""
    messages = chat_messages(request.messages, model_system=entry.model.system, embedded=_embedded(entry))
    if removes_past_thinking(entry.model.config.model_family, entry.model.name.model):
        messages = without_past_thinking(messages)

    def build(runner: IRunner) -> Prompt:
        render = _renderer(entry, runner, think, request)
        prompt = _cut(entry, messages, render, runner, options, request.truncate is not False)
        # The chat template's own users get no cut in the middle of a message.
        if template_in_use(entry) is None:
            return prompt
        return _fit(prompt, runner, options, request.truncate is not False, shift)

    return build


def generate_prompt(
    entry: Entry, request: GenerateRequest, options: Options, think: Think, shift: bool
) -> PromptBuilder:
    """The prompt of a generate request."""
    truncate = request.truncate is not False
    images = tuple(request.images)

    def build(runner: IRunner) -> Prompt:
        return _fit(unfitted(runner), runner, options, truncate, shift)

    def unfitted(runner: IRunner) -> Prompt:
        if request.raw:
            return Prompt(_without_bos(request.prompt, runner), images=images)
        if request.suffix:
            return Prompt(_infill(entry, request, runner, think), images=images)
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
            prompt = _cut(entry, messages, render, runner, options, truncate)
        before = _text_of(request.context, runner, "context") if request.context else ""
        if images:
            before = without_tags(before)
        return replace(prompt, text=before + prompt.text)

    return build


def token_prompt(tokens: tuple[int, ...]) -> PromptBuilder:
    """A prompt that came as tokens; 400 where one of them is none of the model's."""

    def build(runner: IRunner) -> Prompt:
        return Prompt(_text_of(tokens, runner, "prompt"), tokens)

    return build


def can_infill(entry: Entry) -> bool:
    """Whether the model can fill in between a prompt and a suffix: its Go template or its tokens say how."""
    return "insert" in entry.capabilities or _infill_tokens(entry) is not None


def _embedded(entry: Entry) -> list[Message]:
    """The model's own MESSAGEs."""
    return [
        Message(str(message.get("role", "")), str(message.get("content", "")))
        for message in entry.model.messages
    ]


def _renderer(entry: Entry, runner: IRunner, think: Think, request: ChatRequest | GenerateRequest) -> Render:
    """How messages become text: by the request's template, or by the model's."""
    now = datetime.now().astimezone()
    tools = request.tools if isinstance(request, ChatRequest) else []
    override = request.template if isinstance(request, GenerateRequest) else ""
    template: Template | ChatTemplate | None
    template = go_template(override) if override else template_in_use(entry)
    if template is None:
        source = entry.header.chat_template
        assert source is not None
        template = _chat_template(source, bos=runner.bos_text, eos=runner.eos_text)
    render = partial(template.render, tools=tools or None, think=think.template_value, now=now)
    return lambda messages: _without_bos(render(messages), runner)


def _text_of(tokens: Sequence[int], runner: IRunner, field: str) -> str:
    """The text of tokens that a client sent in ``field``, which may be those of another model."""
    try:
        return runner.detokenize(tokens)
    except RunnerError as error:
        raise OllamaError(400, f'"{field}": {error}') from error


def _without_bos(text: str, runner: IRunner) -> str:
    """The text without the beginning that the tokenizer adds by itself."""
    return text.removeprefix(runner.bos_text) if runner.adds_bos else text


def _room(runner: IRunner, options: Options) -> int:
    """Tokens of context that the request may use: what it asked for, or what is loaded if that is less."""
    context: int = runner.context_length
    return min(options.num_ctx or context, context)


def _cut(
    entry: Entry,
    messages: Sequence[Message],
    render: Render,
    runner: IRunner,
    options: Options,
    truncate: bool,
) -> Prompt:
    """The prompt for as much of the conversation as fits, without the oldest messages if need be, and
    with a tag for each image in what is left."""
    measured, dropped = None, 0
    if truncate:
        history = cut_history(
            messages,
            _room(runner, options),
            render,
            lambda text: len(runner.tokenize(text, add_special=False)),
            image_tokens=IMAGE_TOKENS if entry.model.projector_paths else 0,
        )
        messages, measured, dropped = history.messages, history.prompt, history.dropped_tokens
    tagged, images = with_image_tags(messages, after_text=template_in_use(entry) is None)
    text = measured if measured is not None and not images else render(tagged)
    return Prompt(text, truncated=dropped, images=tuple(images))


def _fit(prompt: Prompt, runner: IRunner, options: Options, truncate: bool, shift: bool) -> Prompt:
    """``prompt`` with its middle cut out where it is too long. Raises 400 where that must not be.

    With images the engine counts, and nothing is cut out.
    """
    if prompt.images:
        return prompt
    room = _room(runner, options)
    # No token stands for less than a byte.
    if len(prompt.text.encode("utf-8", "replace")) < room - 1:
        return prompt
    tokens = runner.tokenize(prompt.text)
    if len(tokens) < room:
        return prompt
    if not truncate:
        raise too_long(len(tokens), room)
    if not shift:
        raise OllamaError(400, _NO_SHIFT)
    left = middle_cut(tokens, kept_tokens(options.num_keep, room, adds_bos=runner.adds_bos), room)
    return Prompt(prompt.text, tuple(left), prompt.truncated + len(tokens) - len(left))


# The metadata keys of the tokens before the prefix, before the suffix and before the middle, by the
# names that GGUF files have given them over time.
_INFILL_KEYS = (
    ("fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id"),
    ("prefix_token_id", "suffix_token_id", "middle_token_id"),
)


def _infill_tokens(entry: Entry) -> tuple[int, ...] | None:
    for keys in _INFILL_KEYS:
        found = [entry.header.metadata.get(f"tokenizer.ggml.{key}") for key in keys]
        if all(isinstance(token, int) for token in found):
            return tuple(int(token) for token in found if isinstance(token, int))
    return None


def _infill(entry: Entry, request: GenerateRequest, runner: IRunner, think: Think) -> str:
    """The prompt for what stands between the request's prompt and its suffix."""
    if request.template or "insert" in entry.capabilities:
        template = go_template(request.template or entry.model.template or DEFAULT_TEMPLATE)
        text = template.render(
            [],
            now=datetime.now().astimezone(),
            think=think.template_value,
            prompt=request.prompt,
            suffix=request.suffix,
        )
        return _without_bos(text, runner)
    tokens = _infill_tokens(entry)
    assert tokens is not None
    before, between, after = (runner.detokenize([token]) for token in tokens)
    return f"{before}{request.prompt}{between}{request.suffix}{after}"
