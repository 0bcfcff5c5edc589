"""``python -m ollama_tw.llama.list_devices``: the devices of llama.cpp, listed by a child process.

Standard output is one JSON object: ``{"reason": TEXT}`` if the installed llama-cpp-python cannot be
used, else ``{"devices": [{"library": NAME, "name": ..., "kind": ..., ...}]}``.
"""

import json
from dataclasses import asdict
from typing import Any


def listing() -> dict[str, Any]:
    """Return the object that is printed."""
    try:
        from ollama_tw.llama.operations import discover

        discovery = discover()
    except Exception as error:
        return {"reason": f"llama-cpp-python cannot be used: {type(error).__name__}: {error}"}
    return {
        "reason": discovery.reason,
        "devices": [{"library": found.library, **asdict(found.device)} for found in discovery.devices],
    }


if __name__ == "__main__":
    print(json.dumps(listing()))
