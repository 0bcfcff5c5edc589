"""What a model can do, as its files tell.

Pure. Source: ``spec/models-and-cli.md`` sections 5.1 and 5.2.
"""

from collections.abc import Iterable

from ollama_tw.gguf.reader import Header
from ollama_tw.library.manifests import ModelConfig
from ollama_tw.library.rendering import PromptPath, Rendering, go_capabilities, jinja_capabilities
from ollama_tw.templates.gotemplate import TemplateTraits

_ORDER = ("tools", "insert", "thinking")
_BOTH = (
    "qwen3-thinking", "qwen3.5", "ornith", "qwen3-vl-thinking", "harmony", "cogito", "deepseek3",
    "nemotron-3-nano", "nemotron-3.5-nano", "glm-4.7", "gemma4", "lfm2-thinking", "laguna", "poolside-v1",
    "cohere", "glimmer",
)  # fmt: skip
_TOOLS = (
    "qwen3", "qwen3-coder", "qwen3-vl-instruct", "ministral", "olmo3", "functiongemma", "gemma4-no-thinking",
    "glm-ocr", "lfm2",
)  # fmt: skip
PARSER_CAPABILITIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_BOTH, ("tools", "thinking")),
    **dict.fromkeys(_TOOLS, ("tools",)),
    "olmo3-think": ("thinking",),
    "passthrough": (),
}
_DEAF = "nemotron_h_omni"
# Beginnings of renderers, and what models of theirs have no part for in this form.
_LOST_IN_SAFETENSORS = (
    ("gemma4", ("vision", "audio")),
    ("glimmer", ("audio",)),
    ("nemotron-3-nano", ("vision", "audio")),
    ("nemotron-3.5-nano", ("vision", "audio")),
)


def show_capabilities(
    config: ModelConfig,
    header: Header | None,
    projectors: Iterable[Header],
    rendering: Rendering,
    traits: TemplateTraits,
    *,
    has_go_template: bool,
) -> list[str]:
    """The capabilities in the order of ``/api/show``.

    ``header`` is that of the GGUF file, None where the model has none; ``traits`` are those of its
    Go template, or of the default one.
    """
    found = list(config.capabilities or ())
    if header is not None:
        if rendering.path is PromptPath.NATIVE:
            found += _ordered(jinja_capabilities(header.chat_template))
        found.append(_purpose(header))
        found += _senses(header)
    found += _projected(projectors)
    if rendering.go_template_in_use or not has_go_template:
        found += _ordered(go_capabilities(traits))
    found += _of_parser_and_family(config)
    return _without_removed(found, config, header)


def listed_capabilities(
    config: ModelConfig, header: Header | None, *, has_projector: bool, traits: TemplateTraits
) -> list[str]:
    """The capabilities in the order of ``/api/tags``, from a brief ``header``; Jinja is not looked at."""
    found: list[str] = []
    if header is not None:
        found += [*_senses(header), _purpose(header)]
    found += config.capabilities or ()
    found += _ordered(go_capabilities(traits))
    found += _of_parser_and_family(config)
    if has_projector:
        found.append("vision")
    return _without_removed(found, config, header)


def _purpose(header: Header) -> str:
    return "completion" if header.get("pooling_type") is None else "embedding"


def _senses(header: Header) -> list[str]:
    """``vision`` and ``audio`` in the order of the file's keys."""
    keys = {
        f"{header.architecture}.vision.block_count": "vision",
        f"{header.architecture}.audio.block_count": "audio",
    }
    return [keys[key] for key in header.metadata if key in keys]


def _projected(projectors: Iterable[Header]) -> list[str]:
    found = []
    for projector in projectors:
        found.append("vision")
        hears = any(
            key.endswith("has_audio_encoder") and value is True for key, value in projector.metadata.items()
        )
        if hears and projector.get("vision.projector_type") != "gemma3nv":
            found.append("audio")
    return found


def _of_parser_and_family(config: ModelConfig) -> list[str]:
    found = list(PARSER_CAPABILITIES.get(config.parser, ()))
    if config.model_family in ("gptoss", "gpt-oss"):
        found.append("thinking")
    return found


def _without_removed(found: Iterable[str], config: ModelConfig, header: Header | None) -> list[str]:
    kept = dict.fromkeys(found)
    if _DEAF in (config.model_family, header.architecture if header else ""):
        kept.pop("audio", None)
    if config.model_format == "safetensors":
        for renderer, lost in _LOST_IN_SAFETENSORS:
            if config.renderer.startswith(renderer):
                for sense in lost:
                    kept.pop(sense, None)
    return list(kept)


def _ordered(names: frozenset[str]) -> list[str]:
    return [name for name in _ORDER if name in names]
