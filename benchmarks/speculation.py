"""Speed of a server with and without drafted tokens: `python benchmarks/speculation.py --help`.

Each scenario runs turn about with the option ``draft_num_predict`` at 0, and without it, on the same server.
"""

import argparse
import http.client
import inspect
import json
import re
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import idle

_CODE = inspect.getsource(idle)
_STEPS = re.compile(r"^ollama_decode_steps_total (\S+)", re.MULTILINE)

_FIELDS = (
    "first_name", "last_name", "date_of_birth", "street_address", "postal_code",
    "city_of_residence", "country_of_birth", "favourite_colour", "occupation", "email_address",
)  # fmt: skip
_SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string", "maxLength": 24} for name in _FIELDS},
    "required": list(_FIELDS),
    "additionalProperties": False,
}

SCENARIOS: dict[str, dict[str, Any]] = {
    "edit": {
        "content": "Rename the class Idle to Connection in this file, and reply with the whole file and "
        f"nothing else.\n\n```python\n{_CODE}```",
        "options": {"temperature": 0, "num_predict": 1600},
    },
    "prose": {
        "content": "Write a story of two pages about a lighthouse keeper who finds a map.",
        "options": {"temperature": 0.8, "num_predict": 300},
    },
    "json": {
        "content": "Invent a person.",
        "options": {"temperature": 0.8, "num_predict": 400},
        "format": _SCHEMA,
    },
}
"""Requests to ``/api/chat``: the message, the options, the format."""


@dataclass(frozen=True)
class Figures:
    """Sums over the requests of one run; the speed is that of a request, in tokens per second."""

    tokens: int
    drafted: int
    accepted: int
    steps: float
    speed: float


def body(model: str, scenario: str, seed: int, context: int, *, drafts: bool) -> dict[str, Any]:
    """Return the request of a scenario."""
    request = SCENARIOS[scenario]
    options = request["options"] | {"seed": seed, "num_ctx": context}
    if not drafts:
        options["draft_num_predict"] = 0
    found = {
        "model": model,
        "messages": [{"role": "user", "content": request["content"]}],
        "stream": False,
        "options": options,
    }
    return found | ({"format": request["format"]} if "format" in request else {})


def _get(url: str, path: str, content: dict[str, Any] | None = None) -> bytes:
    """Return the body of a reply; with ``content``, to a POST. Raises RuntimeError for an error."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=3600)
    if content is None:
        connection.request("GET", path)
    else:
        connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    if reply.status != 200:
        raise RuntimeError(data.decode())
    return data


def _steps(url: str) -> float:
    found = _STEPS.search(_get(url, "/metrics").decode())
    return float(found[1]) if found else 0.0


def run(url: str, bodies: Sequence[dict[str, Any]]) -> Figures:
    """Send requests at the same time, and return their figures."""
    before = _steps(url)
    with ThreadPoolExecutor(len(bodies)) as clients:
        records = list(map(json.loads, clients.map(lambda content: _get(url, "/api/chat", content), bodies)))
    return Figures(
        tokens=sum(record["eval_count"] for record in records),
        drafted=sum(record.get("draft_count", 0) for record in records),
        accepted=sum(record.get("draft_accepted", 0) for record in records),
        steps=_steps(url) - before,
        speed=median(record["eval_count"] / record["eval_duration"] * 1e9 for record in records),
    )


def line(scenario: str, clients: int, without: Sequence[Figures], drafted: Sequence[Figures]) -> str:
    """Return a row of the table from the runs of a scenario, in pairs."""
    ratio = median(b.speed / a.speed for a, b in zip(without, drafted, strict=True))
    tokens, steps = sum(one.tokens for one in drafted), sum(one.steps for one in drafted)
    evaluated = sum(one.drafted for one in drafted)
    acceptance = f"{sum(one.accepted for one in drafted) / evaluated:.0%}" if evaluated else "-"
    speeds = [median(one.speed for one in runs) for runs in (without, drafted)]
    return (
        f"| {scenario} | {clients} | {speeds[0]:.1f} | {speeds[1]:.1f} | **{ratio:.2f}** "
        f"| {clients * steps / tokens:.2f} | {acceptance} |"
    )


def main(arguments: Iterable[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:11434")
    parser.add_argument("--model", required=True)
    parser.add_argument("--scenario", default=",".join(SCENARIOS), help="comma-separated")
    parser.add_argument("--clients", default="1", help="comma-separated numbers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--context", type=int, default=4096)
    settings = parser.parse_args(None if arguments is None else list(arguments))
    print("| scenario | clients | off, tokens/s | on, tokens/s | on/off | steps per token | accepted |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for scenario in settings.scenario.split(","):
        for clients in map(int, settings.clients.split(",")):
            runs: dict[bool, list[Figures]] = {False: [], True: []}
            # The first pair is not counted: it loads the model and reads the prompt.
            for repeat in range(settings.repeats + 1):
                for drafts in (False, True):
                    bodies = [
                        body(settings.model, scenario, 100 * repeat + client, settings.context, drafts=drafts)
                        for client in range(clients)
                    ]
                    found = run(settings.url, bodies)
                    if repeat:
                        runs[drafts].append(found)
            print(line(scenario, clients, runs[False], runs[True]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
