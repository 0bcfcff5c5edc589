"""Derives the model requirements and the sampling parameters from a request's options."""

from dataclasses import fields
from functools import partial
from pathlib import PurePath
from typing import Any

from ollama_tw.config.settings import Settings
from ollama_tw.configfile.document import ModelConfig
from ollama_tw.engine.model_shape import model_shape
from ollama_tw.engine.requirements import ModelRequirements
from ollama_tw.errors import OllamaError
from ollama_tw.golang.durations import FOREVER, MILLISECOND, parse_keep_alive
from ollama_tw.inference.catalogue import Entry
from ollama_tw.interfaces import LoadPlan, Sampling
from ollama_tw.library.digests import is_digest, parse_digest
from ollama_tw.library.show import details
from ollama_tw.wire.options import OPTIONS, Options

# Milliseconds; a longer one would not limit the largest batch of a slow model.
_LONGEST_STEP = 3_600_000

_PLAN_FIELDS = {name: row.plan_field for name, row in OPTIONS.items() if row.plan_field}


def checked_keep_alive(value: object) -> int | None:
    """Return a request's ``keep_alive`` in nanoseconds, None if it is absent; 400 for an invalid one."""
    try:
        return parse_keep_alive(value)
    except ValueError as error:
        raise OllamaError(400, str(error)) from error


def unloads(keep_alive: object) -> bool:
    """Return whether a request's ``keep_alive`` has its model unloaded at once."""
    try:
        return parse_keep_alive(keep_alive) == 0
    except ValueError:
        return False


def model_requirements(
    entry: Entry, options: Options, settings: Settings, keep_alive: int | None
) -> ModelRequirements:
    """Return what a request with ``options`` for the model ``entry`` requires of the scheduler.

    The context length, and options that the model or the request sets, are requirements; others take what
    is loaded.

    Source: ollama: server/sched.go, needsReload.
    """
    model = entry.model
    values: dict[str, Any] = {field: getattr(options, name) for name, field in _PLAN_FIELDS.items()}
    values["context_length"] = options.num_ctx or settings.context_length
    files = tuple(map(str, (model.model_path, *model.adapter_paths, *model.projector_paths)))
    draft = entry.draft_path if settings.speculation else None
    plan = LoadPlan(
        **{field: value for field, value in values.items() if value is not None},
        model_path=str(model.model_path),
        slots=entry.config.parallel or settings.num_parallel,
        kv_cache_type=entry.config.kv_cache_type or settings.kv_cache_type,
        flash_attention=settings.flash_attention,
        step_milliseconds=max(1, min(settings.step_target // MILLISECOND, _LONGEST_STEP)),
        speculation=settings.speculation,
        adapter_paths=tuple(map(str, model.adapter_paths)),
        projector_paths=tuple(map(str, model.projector_paths)),
        draft_path=str(draft) if draft else "",
        digests=tuple(map(_digest, files)),
    )
    explicit = {
        field
        for name, field in _PLAN_FIELDS.items()
        if name in options.given and getattr(options, name) != OPTIONS[name].automatic
    }
    shape = partial(model_shape, entry.header, (*plan.adapter_paths, *plan.projector_paths), draft)
    return ModelRequirements(
        model.name.short,
        plan,
        frozenset(explicit),
        _keep_alive(entry.config, keep_alive),
        shape,
        digest=model.digest,
        details=details(model, None),
        pinned=entry.config.pin,
    )


def _digest(path: str) -> str:
    """Return the digest that a blob's name contains, "" for another file."""
    name = PurePath(path).name
    return parse_digest(name) if is_digest(name) else ""


def _keep_alive(config: ModelConfig, requested: int | None) -> int | None:
    if config.pin:
        return FOREVER
    return config.keep_alive if requested is None else requested


def drafts(options: Options) -> int | None:
    """Return the maximum number of drafted tokens in a step; None: the engine decides.

    An engine may compute other logits for several tokens in a step than for one: a request with a seed, which
    is to be reproducible, has drafts only if it asks for them.
    """
    if options.draft_num_predict is None and options.seed != Sampling.seed:
        return 0
    return options.draft_num_predict


def sampling(options: Options) -> Sampling:
    """Return the options that are fields of :class:`~ollama_tw.interfaces.Sampling`."""
    return Sampling(**{field.name: getattr(options, field.name) for field in fields(Sampling)})
