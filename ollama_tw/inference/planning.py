"""From a request's options to what the engine is told: the load plan and the sampling."""

from functools import partial

from ollama_tw.config.settings import Settings
from ollama_tw.engine.model_shape import model_shape
from ollama_tw.engine.requirements import ModelRequirements
from ollama_tw.inference.catalogue import Entry
from ollama_tw.interfaces import LoadPlan, Sampling
from ollama_tw.library.show import details
from ollama_tw.wire.options import Options

# Which option a request insists on by naming it, and the field of the plan that it becomes.
_PLAN_FIELDS = {
    "num_ctx": "context_length",
    "num_batch": "batch",
    "num_gpu": "gpu_layers",
    "main_gpu": "main_gpu",
    "use_mmap": "use_mmap",
    "num_thread": "threads",
}
# Values that leave the choice to the engine, so that nobody insists on them.
_AUTOMATIC = {"num_gpu": -1, "num_thread": 0}


def wanted(entry: Entry, options: Options, settings: Settings, keep_alive: int | None) -> ModelRequirements:
    """What the scheduler is asked for. Source: ``spec/inference-api.md`` section 3.2."""
    model = entry.model
    plan = LoadPlan(
        model_path=str(model.model_path),
        slots=settings.num_parallel,
        context_length=options.num_ctx or settings.context_length,
        batch=options.num_batch,
        threads=options.num_thread,
        gpu_layers=options.num_gpu,
        main_gpu=options.main_gpu or 0,
        use_mmap=options.use_mmap,
        kv_cache_type=settings.kv_cache_type,
        flash_attention=settings.flash_attention,
        adapter_paths=tuple(map(str, model.adapter_paths)),
        projector_paths=tuple(map(str, model.projector_paths)),
    )
    explicit = {
        field
        for option, field in _PLAN_FIELDS.items()
        if option in options.given and getattr(options, option) != _AUTOMATIC.get(option)
    }
    shape = partial(model_shape, entry.header, (*plan.adapter_paths, *plan.projector_paths))
    return ModelRequirements(
        model.name.short,
        plan,
        frozenset(explicit),
        keep_alive,
        shape,
        digest=model.digest,
        details=details(model, None),
    )


def sampling(options: Options) -> Sampling:
    """The options that choose the next token."""
    return Sampling(
        seed=options.seed,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        typical_p=options.typical_p,
        repeat_last_n=options.repeat_last_n,
        repeat_penalty=options.repeat_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
    )
