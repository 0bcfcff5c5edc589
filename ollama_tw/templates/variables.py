"""The variables of chat templates: tools, and the switches of thinking under all their names."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

SWITCHES: Final[tuple[str, ...]] = ("enable_thinking", "thinking", "reasoning")
"""Variables that turn thinking on and off by a truth value."""
WORDS: Final[tuple[str, ...]] = ("reasoning_effort", "reasoning_strength", "thinking_effort", "thinking_mode")
"""Variables that take a word: a level of thinking, or a mode."""
BUDGET: Final = "thinking_budget"
"""Variable that takes a number of tokens, 0 for no thinking."""
HISTORY_KEEPS: Final = ("preserve_thinking", "preserved_thinking", "keep_past_thinking")
HISTORY_DROPS: Final = ("clear_thinking", "truncate_history_thinking", "drop_thinking")
"""Variables that keep or drop the thinking of earlier turns, if they are true."""


def tool_variables(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the variables for ``tools``.

    No tools are an undefined ``tools``, as templates expect; ``functions`` is a JSON text of them.
    """
    listed = [dict(tool) for tool in tools]
    functions = json.dumps(listed, ensure_ascii=False, indent=4) if listed else ""
    return {"functions": functions, **({"tools": listed} if listed else {})}
