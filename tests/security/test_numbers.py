"""CVE-2026-21869 and similar ones: numbers from JSON that reach C code unchecked."""

from dataclasses import astuple
from typing import Any

import pytest

from tests.helpers.application import Application

REFUSED = ("num_ctx", "num_batch", "main_gpu", "repeat_last_n", "repeat_penalty")
LIMITED = (
    *("num_gpu", "num_thread", "num_keep", "num_predict", "draft_num_predict", "seed", "temperature"),
    *("top_k", "top_p", "min_p", "typical_p", "presence_penalty", "frequency_penalty"),
)
TOO_MUCH = ("-3000000000", "2147483648", "9223372036854775808", "-9223372036854775809", "1e308", "-1e308")
NO_NUMBERS = ('"1"', "true", "[]", "{}", '"NaN"')
NO_JSON = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "01")


def ask(app: Application, fields: str, path: str = "generate") -> tuple[int, str]:
    body = '{"model":"m","prompt":"x","input":"x","stream":false,%s}' % fields  # noqa: UP031
    reply = app.post(f"/api/{path}", body.encode())
    return reply.status, reply.json.get("error", "")


@pytest.mark.parametrize("path", ["generate", "embed"])
@pytest.mark.parametrize("option", [*REFUSED, *LIMITED])
def test_options_out_of_range_are_named_or_limited(app: Application, option: str, path: str) -> None:
    limited = TOO_MUCH if option in LIMITED else ()
    for value in limited:
        assert ask(app, f'"options":{{"{option}":{value}}}', path) == (200, "")
        for sent in (app.job.sampling, app.backend.plans[-1]):
            numbers = [number for number in astuple(sent) if isinstance(number, int | float)]
            assert all(abs(number) < 2**63 for number in numbers)
    for value in (*(TOO_MUCH if not limited else ()), *NO_NUMBERS):
        status, error = ask(app, f'"options":{{"{option}":{value}}}', path)
        assert (value, status) == (value, 400)
        assert error.startswith(f'option "{option}" must be ')
    for value in NO_JSON:
        assert ask(app, f'"options":{{"{option}":{value}}}', path)[0] == 400


@pytest.mark.parametrize("option", ["num_ctx", "num_batch", "main_gpu"])
def test_sizes_are_not_negative(app: Application, option: str) -> None:
    assert ask(app, f'"options":{{"{option}":-1}}')[0] == 400


def test_options_of_the_model_are_checked_too(app: Application) -> None:
    for value in (2**31, -(2**40), 1e300, "x"):
        body: dict[str, Any] = {
            "model": "odd",
            "from": "m",
            "parameters": {"num_ctx": value},
            "stream": False,
        }
        created = app.post("/api/create", body)
        assert created.status in (200, 400)
        if created.status == 200:
            reply = app.generate(model="odd")
            assert reply.status == 400
            assert 'option "num_ctx" must be ' in reply.json["error"]


@pytest.mark.parametrize("field", ["top_logprobs", "dimensions", "keep_alive"])
def test_other_numbers(app: Application, field: str) -> None:
    path = "embed" if field == "dimensions" else "generate"
    for value in (*TOO_MUCH, *NO_JSON):
        assert ask(app, f'"{field}":{value}', path)[0] in ((200, 400) if value in TOO_MUCH else (400,))
    app.generate(keep_alive="5m")


@pytest.mark.parametrize(
    "token", ["-1", "1114112", "2147483648", "9223372036854775808", "1.5", '"x"', "null"]
)
def test_tokens_that_do_not_exist(app: Application, token: str) -> None:
    status, error = ask(app, f'"context":[104,{token}]')
    if token == "null":
        # Go reads it as zero.
        assert status == 200
    else:
        assert status == 400
        assert error
