"""Choice of a model's prompt path: rendered by a Go template, or by the Jinja template of its file.

Pure. Source: ollama: server/images.go, shouldPreferChatTemplate; server/routes.go, shouldUseGoTemplate.
"""

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ollama_tw.library.manifests import ModelConfig
from ollama_tw.templates.gotemplate import TemplateTraits

if TYPE_CHECKING:
    from ollama_tw.templates.capabilities import TemplateCapabilities

_HARMONY_FAMILIES = frozenset({"gptoss", "gpt-oss"})
_PROMPT_ONLY = frozenset({"prompt", "response"})
_GO_TOOL_RESULTS = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")


class PromptPath(enum.Enum):
    """Path to a prompt: RENDERED by Go template or built-in format, NATIVE by the file's Jinja template."""

    RENDERED = "rendered"
    NATIVE = "native"


@dataclass(frozen=True)
class Rendering:
    """Prompt rendering of a model; ``harmony`` is True for the format of gpt-oss."""

    path: PromptPath
    go_template_in_use: bool
    harmony: bool
    family: str = ""
    """The renderer whose family's template takes the place of the file's, which has none."""


def jinja_capabilities(template: str | None) -> frozenset[str]:
    """Return which of ``tools`` and ``thinking`` a Jinja chat template supports."""
    found = _found(template)
    if found is None:
        return frozenset()
    return frozenset(name for name in ("tools", "thinking") if getattr(found, name))


def _found(template: str | None) -> "TemplateCapabilities | None":
    """Return the capabilities of a template, None if it does not compile."""
    # An idle server needs no Jinja.
    from ollama_tw.templates.budget import TemplateError
    from ollama_tw.templates.capabilities import find_capabilities

    try:
        return find_capabilities(template) if template else None
    except TemplateError:
        return None


def go_capabilities(traits: TemplateTraits) -> frozenset[str]:
    """Return which of ``tools``, ``insert`` and ``thinking`` a Go template supports."""
    found = set()
    if "tools" in traits.identifiers:
        found.add("tools")
    if "suffix" in traits.identifiers:
        found.add("insert")
    if all(traits.thinking_tags):
        found.add("thinking")
    return frozenset(found)


def go_has_tool_round_trip(template: str, traits: TemplateTraits) -> bool:
    """Return whether a Go template renders both tool calls and their results."""
    return {"tools", "toolcalls"} <= traits.identifiers and any(mark in template for mark in _GO_TOOL_RESULTS)


def jinja_has_tool_round_trip(template: str) -> bool:
    """Return whether a Jinja template renders both tool calls and their results."""
    found = _found(template)
    return found is not None and found.tools and found.shows_calls_of_history and found.shows_results


def prefers_chat_template(go_template: str, traits: TemplateTraits, chat_template: str) -> bool:
    """Return whether the Jinja ``chat_template`` supports more than the Go template of a model."""
    jinja, go = jinja_capabilities(chat_template), go_capabilities(traits)
    jinja_trip = jinja_has_tool_round_trip(chat_template)
    go_trip = go_has_tool_round_trip(go_template, traits)
    if len(jinja) > len(go):
        return jinja_trip or not go_trip
    return jinja == go and "tools" in jinja and jinja_trip and not go_trip


def is_harmony(config: ModelConfig, go_template: str | None) -> bool:
    """Return whether the model uses gpt-oss's harmony format."""
    text = go_template or ""
    return config.model_family in _HARMONY_FAMILIES and "<|start|>" in text and "<|end|>" in text


def _has_family(renderer: str) -> bool:
    if not renderer:
        return False
    # An idle server needs no templates of families.
    from ollama_tw.templates.family_prompts import FAMILIES

    return renderer in FAMILIES


def choose_rendering(
    config: ModelConfig,
    *,
    go_template: str | None,
    traits: TemplateTraits,
    chat_template: str | None,
    go_template_setting: bool | None,
) -> Rendering:
    """Return the rendering of a model with these templates.

    ``traits`` are those of ``go_template``, or of the default template if it is None;
    ``go_template_setting`` is OLLAMA_GO_TEMPLATE, None if it is unset. Where the config names a renderer,
    the chat template takes its place: Ollama's renderers write what the templates of their models write.
    Where there is none, and the Go template has only the prompt, the family's own takes its place.
    """
    harmony = is_harmony(config, go_template)
    if config.renderer and chat_template and not (go_template and go_template_setting):
        return Rendering(PromptPath.NATIVE, False, harmony)
    if _has_family(config.renderer) and not chat_template and traits.identifiers <= _PROMPT_ONLY:
        return Rendering(PromptPath.NATIVE, False, harmony, config.renderer)
    special = bool(config.renderer or config.parser or harmony)
    if go_template is None:
        in_use = False
    elif go_template_setting is not None:
        in_use = go_template_setting
    else:
        in_use = special or not chat_template or not prefers_chat_template(go_template, traits, chat_template)
    rendered = special or in_use or config.model_format == "safetensors"
    return Rendering(PromptPath.RENDERED if rendered else PromptPath.NATIVE, in_use, harmony)
