"""Tools and calls of trial renderings, in words that stand in no template."""

from typing import Any, Final

NAMES: Final = ("zq_lookup", "wx_measure")
KEYS: Final = ("kplace", "jcolor", "gcount", "fflag", "bitem", "rlist")
FIRST: Final = {KEYS[0]: "Vunodos", KEYS[1]: "Plotbrim"}
SECOND: Final = {KEYS[0]: "Drenkost", KEYS[1]: "Stelwuth"}
TYPED: Final = {
    KEYS[0]: "Vunodos",
    KEYS[2]: 41857,
    KEYS[3]: True,
    KEYS[4]: {"hsub": "Mondrak"},
    KEYS[5]: ["Tulbeg"],
}
IDS: Final = ("c7A7d7E7f", "h8J8k8L8m")


def tools(*, typed: bool = False) -> list[dict[str, Any]]:
    """Return the declarations of the trial tools, ``typed`` with all types of parameters."""
    types = ("string", "string", "integer", "boolean", "object", "array") if typed else ("string", "string")
    kinds = dict(zip(KEYS, types, strict=False))
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": "Trial.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        key: {"type": kind, "description": "Trial."} for key, kind in kinds.items()
                    },
                    "required": [KEYS[0]],
                },
            },
        }
        for name in NAMES
    ]
