"""What the model gets to see: the request's messages through the model's template, cut to fit.

The builders run on a worker thread, where there is a runner to count tokens with.
Source: ``spec/inference-api.md`` sections 1.6, 1.8, 2.3 and 9.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache

from ollama_tw.inference.catalogue import Entry
from ollama_tw.inference.completion import Prompt
from ollama_tw.interfaces import IRunner
from ollama_tw.library.rendering import PromptPath
from ollama_tw.library.template_scan import DEFAULT_TEMPLATE
from ollama_tw.prompt.gotemplate import parse
from ollama_tw.prompt.jinja import ChatTemplate
from ollama_tw.wire.native import ChatRequest, GenerateRequest, Message
from ollama_tw.wire.options import Options

PromptBuilder = Callable[[IRunner], Prompt]
Render = Callable[[Sequence[Message]], str]

_chat_template = lru_cache(maxsize=64)(ChatTemplate)
_go_template = lru_cache(maxsize=64)(parse)


def _renderer(entry: Entry, runner: IRunner, template: str = "") -> Render:
    """How messages become text: by ``template``, which a request named, or by the model's own."""
    now = datetime.now().astimezone()
    source = entry.header.chat_template
    if not template and entry.rendering.path is PromptPath.NATIVE and source:
        chat_template = _chat_template(source, bos=runner.bos_text, eos=runner.eos_text)
        return lambda messages: chat_template.render(messages, now=now)
    go_template = _go_template(template or entry.model.template or DEFAULT_TEMPLATE)
    return lambda messages: go_template.render(messages, now=now)


def _without_bos(text: str, runner: IRunner) -> str:
    """The text without the beginning that the tokenizer adds by itself."""
    return text.removeprefix(runner.bos_text) if runner.adds_bos else text


def chat_prompt(entry: Entry, request: ChatRequest, options: Options) -> PromptBuilder:
    """The prompt of a chat."""

    def build(runner: IRunner) -> Prompt:
        text = _renderer(entry, runner)(request.messages)
        return Prompt(_without_bos(text, runner))

    return build


def generate_prompt(entry: Entry, request: GenerateRequest, options: Options) -> PromptBuilder:
    """The prompt of a generate request."""

    def build(runner: IRunner) -> Prompt:
        if request.raw:
            return Prompt(_without_bos(request.prompt, runner))
        messages = [Message("user", request.prompt)]
        system = request.system or entry.model.system
        if system:
            messages.insert(0, Message("system", system))
        text = _without_bos(_renderer(entry, runner, request.template)(messages), runner)
        if request.context is not None:
            text = runner.detokenize(request.context) + text
        return Prompt(text)

    return build
