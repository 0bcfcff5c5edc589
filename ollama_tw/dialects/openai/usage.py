"""Token counts of finished runs."""

from collections.abc import Iterable
from typing import Any

from ollama_tw.wire.native import Record

NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def usage(prompts: Iterable[Iterable[Record]]) -> dict[str, Any]:
    """Return the token counts of the final records of each prompt's choices; a prompt counts once."""
    prompt_tokens = cached = completion_tokens = 0
    for answers in prompts:
        finals = list(answers)
        prompt_tokens += max((record.prompt_eval_count or 0 for record in finals), default=0)
        # All choices of a prompt but the first find it in the cache.
        cached += min((record.prompt_cached_count or 0 for record in finals), default=0)
        completion_tokens += sum(record.eval_count or 0 for record in finals)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
