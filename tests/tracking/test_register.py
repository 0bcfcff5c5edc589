import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.tracking.context import Phase, RequestContext
from ollama_tw.tracking.register import RequestRegister, description


def registered(register: RequestRegister, request_id: str, client: str = "ann") -> RequestContext:
    context = RequestContext(request_id, client)
    register.add(context)
    return context


def test_requests_that_run_no_model_are_not_listed() -> None:
    register = RequestRegister()
    registered(register, "a")
    run = registered(register, "b")
    progress = run.begin("m")
    assert list(register.running()) == [run]
    run.end(progress)
    assert list(register.running()) == []


def test_a_client_sees_and_cancels_its_own_requests_only() -> None:
    register = RequestRegister()
    ann, bob = registered(register, "x", "ann"), registered(register, "x", "bob")
    for one in (ann, bob):
        one.begin("m")
    assert list(register.running("bob")) == [bob]
    assert not register.cancel("x", "eve")
    assert register.cancel("x", "bob")
    assert (ann.is_set(), bob.is_set()) == (False, True)
    register.remove(ann)
    assert not register.cancel("x", "ann")


def test_a_cancelled_request_stops_its_work_and_fails_with_499() -> None:
    context = RequestContext("x")
    stopped: list[bool] = []
    context.stop = lambda: stopped.append(context.is_set())
    context.check()
    context.cancel()
    assert stopped == [True]
    with pytest.raises(OllamaError, match="the request was cancelled by DELETE /api/requests") as raised:
        context.check()
    assert raised.value.status == 499


def test_a_request_of_several_runs_is_described_by_their_sums() -> None:
    context = RequestContext("x", "ann")
    context.endpoint = "/v1/chat/completions"
    first, second, third = (context.begin("m") for _ in range(3))
    second.prompt(5, 40)
    third.prompt(40, 40)
    third.token()
    third.token()
    found = description(context, {first: 3})
    assert found["tokens_per_second"] >= 0
    assert found["age"] >= 0
    assert {**found, "age": 0, "tokens_per_second": 0} == {
        "id": "x",
        "model": "m",
        "client": "ann",
        "endpoint": "/v1/chat/completions",
        "age": 0,
        "phase": "decode",
        "prompt_tokens": 80,
        "prompt_done": 45,
        "tokens": 2,
        "tokens_per_second": 0,
    }


def test_a_queued_request_has_the_best_place_of_its_runs() -> None:
    context = RequestContext("x")
    first, second = context.begin("m"), context.begin("m")
    assert description(context, {first: 7, second: 4})["position"] == 4
    first.phase = Phase.LOADING
    assert "position" not in description(context, {first: 7, second: 4})


def test_ended_runs_leave_their_tokens() -> None:
    context = RequestContext("x")
    progress = context.begin("m")
    progress.token()
    progress.finish(12, 5)
    context.end(progress)
    assert (context.model, context.prompt_tokens, context.tokens) == ("m", 12, 5)
