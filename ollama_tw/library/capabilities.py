"""Capabilities of a model, from its config, GGUF files and templates.

Pure. Source: ollama: server/images.go, Model.Capabilities; types/model/capability.go.
"""

from collections.abc import Iterable

from ollama_tw.gguf.reader import Header
from ollama_tw.library.manifests import ModelConfig
from ollama_tw.library.rendering import PromptPath, Rendering, go_capabilities, jinja_capabilities
from ollama_tw.templates.gotemplate import TemplateTraits

_ORDER = ("tools", "insert", "thinking")
# Family without audio input, which its file declares.
_WITHOUT_AUDIO = "nemotron_h_omni"
# Prefixes of renderers, and capabilities that their models do not have in safetensors format.
_MISSING_IN_SAFETENSORS = (
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
    """Return the capabilities in Ollama's order, that of ``/api/show``.

    Unlike in Ollama, ``/api/tags`` has the same: without the file's chat template, its list of the models
    whose prompts that template renders would be too short.

    ``header`` is that of the GGUF file, None if the model has none; ``traits`` are those of its Go
    template, or of the default template.
    """
    found = list(config.capabilities or ())
    if header is not None:
        if rendering.path is PromptPath.NATIVE:
            found += _ordered(jinja_capabilities(header.chat_template))
        found.append(_purpose(header))
        found += _modalities(header)
    found += _projected(projectors)
    if rendering.go_template_in_use or not has_go_template:
        found += _ordered(go_capabilities(traits))
    found += _of_parser_and_family(config, rendering)
    return _without_removed(found, config, header)


def _purpose(header: Header) -> str:
    return "embedding" if header.embeds else "completion"


def _modalities(header: Header) -> list[str]:
    """Return ``vision`` and ``audio`` in the order of the file's keys."""
    keys = {
        f"{header.architecture}.vision.block_count": "vision",
        f"{header.architecture}.audio.block_count": "audio",
    }
    return [keys[key] for key in header.metadata if key in keys]


def _projected(projectors: Iterable[Header]) -> list[str]:
    found = []
    for projector in projectors:
        found.append("vision")
        has_audio = any(
            key.endswith("has_audio_encoder") and value is True for key, value in projector.metadata.items()
        )
        if has_audio and projector.get("vision.projector_type") != "gemma3nv":
            found.append("audio")
    return found


def _of_parser(name: str) -> list[str]:
    # An idle server needs no descriptions.
    from ollama_tw.output.known_layouts import BY_NAME, NEVER_ASKED_TO_THINK

    description = BY_NAME.get(name)
    if description is None:
        return []
    found = ["tools"] if description.calls is not None else []
    if description.thinking is not None and name not in NEVER_ASKED_TO_THINK:
        found.append("thinking")
    return found


def _of_parser_and_family(config: ModelConfig, rendering: Rendering) -> list[str]:
    name = config.parser
    if not name and rendering.family:
        from ollama_tw.templates.family_prompts import FAMILIES

        name = FAMILIES[rendering.family].parser
    found = _of_parser(name) if name else []
    if config.model_family in ("gptoss", "gpt-oss"):
        found.append("thinking")
    return found


def _without_removed(found: Iterable[str], config: ModelConfig, header: Header | None) -> list[str]:
    kept = dict.fromkeys(found)
    if _WITHOUT_AUDIO in (config.model_family, header.architecture if header else ""):
        kept.pop("audio", None)
    if config.model_format == "safetensors":
        for renderer, missing in _MISSING_IN_SAFETENSORS:
            if config.renderer.startswith(renderer):
                for modality in missing:
                    kept.pop(modality, None)
    return list(kept)


def _ordered(names: frozenset[str]) -> list[str]:
    return [name for name in _ORDER if name in names]
