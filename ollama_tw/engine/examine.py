"""``python -m ollama_tw.engine.examine``: the backends of this installation, for programs outside the server.

Standard output is two lines of JSON: ``{"backends": [{"name", "available", "reason", "devices"}]}`` by
descending priority, and ``{"amx": true}`` if llama.cpp was built with AMX instructions. The second line is
missing if llama.cpp cannot be imported.
"""

import json
from dataclasses import asdict

from ollama_tw.engine.backends import discover
from ollama_tw.llama import discovery


def main() -> None:
    """Probe the backends and print them, before llama.cpp is imported into this process."""
    discovery.begin()
    backends = [
        {
            "name": one.name,
            "available": one.probe.available,
            "reason": one.probe.reason,
            "devices": [asdict(device) for device in one.probe.devices],
        }
        for one in discover()
    ]
    print(json.dumps({"backends": backends}), flush=True)
    from ollama_tw.llama.native import uses_amx

    print(json.dumps({"amx": uses_amx()}))


if __name__ == "__main__":
    main()
