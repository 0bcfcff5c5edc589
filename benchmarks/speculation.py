"""Speed of a server with and without drafted tokens: `python benchmarks/speculation.py --help`.

Each scenario runs turn about with the option ``draft_num_predict`` at 0, and at 15, on the same server,
and then, if ``--other`` is given, on a llama-server, which drafts as its ``--spec-type`` says.
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

_FIRST_ROUND = 64
"""Tokens of the replies of the first round."""

_DRAFTED = 15
"""Maximum number of drafted tokens, the engine's own."""

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
    options = request["options"] | {
        "seed": seed,
        "num_ctx": context,
        # Only a request without a seed has drafts by itself.
        "draft_num_predict": _DRAFTED if drafts else 0,
    }
    found = {
        "model": model,
        "messages": [{"role": "user", "content": request["content"]}],
        "stream": False,
        "options": options,
    }
    return found | ({"format": request["format"]} if "format" in request else {})


def other_body(scenario: str, seed: int) -> dict[str, Any]:
    """Return the request of a scenario to ``/v1/chat/completions`` of llama-server."""
    request = SCENARIOS[scenario]
    options = request["options"]
    found = {
        "messages": [{"role": "user", "content": request["content"]}],
        "temperature": options["temperature"],
        "max_tokens": options["num_predict"],
        "seed": seed,
    }
    if "format" in request:
        schema = {"name": scenario, "schema": request["format"]}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    return found


def run_other(url: str, bodies: Sequence[dict[str, Any]]) -> float:
    """Send requests to a llama-server at the same time, and return the median of their tokens per second."""
    with ThreadPoolExecutor(len(bodies)) as clients:
        path = "/v1/chat/completions"
        records = list(map(json.loads, clients.map(lambda content: _get(url, path, content), bodies)))
    return median(float(record["timings"]["predicted_per_second"]) for record in records)


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


def line(
    scenario: str,
    clients: int,
    without: Sequence[Figures],
    drafted: Sequence[Figures],
    others: Sequence[float] = (),
) -> str:
    """Return a row of the table from the runs of a scenario, in pairs; ``others``: speeds of llama-server."""
    ratio = median(b.speed / a.speed for a, b in zip(without, drafted, strict=True))
    tokens, steps = sum(one.tokens for one in drafted), sum(one.steps for one in drafted)
    evaluated = sum(one.drafted for one in drafted)
    acceptance = f"{sum(one.accepted for one in drafted) / evaluated:.0%}" if evaluated else "-"
    speeds = [median(one.speed for one in runs) for runs in (without, drafted)]
    compared = ""
    if others:
        against = median(one.speed / other for one, other in zip(drafted, others, strict=True))
        compared = f" {median(others):.1f} | **{against:.2f}** |"
    return (
        f"| {scenario} | {clients} | {speeds[0]:.1f} | {speeds[1]:.1f} | **{ratio:.2f}** "
        f"| {clients * steps / tokens:.2f} | {acceptance} |{compared}"
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
    parser.add_argument("--other", default="", metavar="URL", help="a llama-server with the same model")
    settings = parser.parse_args(None if arguments is None else list(arguments))
    heads = ["scenario", "clients", "off, tokens/s", "on, tokens/s", "on/off", "steps per token", "accepted"]
    heads += ["other, tokens/s", "on/other"] if settings.other else []
    print(f"| {' | '.join(heads)} |")
    print(f"| --- |{' ---: |' * (len(heads) - 1)}")
    for scenario in settings.scenario.split(","):
        for clients in map(int, settings.clients.split(",")):
            runs: dict[bool, list[Figures]] = {False: [], True: []}
            others: list[float] = []
            # The first round is short and not counted: it loads the model and reads the prompt.
            for repeat in range(settings.repeats + 1):
                seeds = [100 * repeat + client for client in range(clients)]
                for drafts in (False, True):
                    bodies = [
                        body(settings.model, scenario, seed, settings.context, drafts=drafts)
                        for seed in seeds
                    ]
                    if repeat:
                        runs[drafts].append(run(settings.url, bodies))
                    else:
                        for each in bodies:
                            each["options"]["num_predict"] = _FIRST_ROUND
                        run(settings.url, bodies)
                if settings.other:
                    asked = [other_body(scenario, seed) for seed in seeds]
                    if repeat:
                        others.append(run_other(settings.other, asked))
                    else:
                        run_other(settings.other, [each | {"max_tokens": _FIRST_ROUND} for each in asked])
            print(line(scenario, clients, runs[False], runs[True], others), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
