import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ollama_tw.templates.budget import TemplateError
from ollama_tw.templates.trial import BOS, EOS, MAX_STEPS, FoundOnce, trial_of

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "weather"}}


def test_a_trial_renders_plain_messages_with_tools_and_variables() -> None:
    trial = trial_of(
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{% if tools is defined %}"
        "{{ tools[0].function.name }}{% endif %}{{ add_generation_prompt }}{{ level | default('-') }}"
    )
    assert trial.render(HI) == f"{BOS}hi{EOS}False-"
    assert trial.render(HI, tools=[TOOL], generation=True, level="low") == f"{BOS}hi{EOS}weatherTruelow"


@pytest.mark.parametrize(
    "source",
    ["{{ raise_exception('no') }}", "{{ 1 + 'a' }}", "{{ messages[7].content }}", "{{ messages.pop() }}"],
)
def test_a_template_that_refuses_a_trial_gives_no_text(source: str) -> None:
    assert trial_of(source).render(HI) is None


def test_a_template_that_does_not_compile_has_no_trials() -> None:
    with pytest.raises(TemplateError, match="does not compile: line 1"):
        trial_of("{% if %}")


def test_the_variables_of_a_template() -> None:
    source = (
        "{% set a = messages %}{% for m in a %}{{ m.x }}{% endfor %}{% if thinking is defined %}{% endif %}"
    )
    assert trial_of(source).variables == {"messages", "thinking"}


def test_trials_end_when_their_common_budget_is_used_up() -> None:
    trial = trial_of("{% for i in range(n) %}{% endfor %}done")
    assert trial.render(HI, n=1) == "done"
    assert trial.render(HI, n=MAX_STEPS * 9 // 10) == "done"
    assert trial.render(HI, n=MAX_STEPS * 9 // 10) is None
    assert trial.render(HI, n=MAX_STEPS // 10) is None


def test_trials_are_cached_by_the_source() -> None:
    assert trial_of("{{ 1 }}") is trial_of("{{ 1 }}")
    assert trial_of("{{ 1 }}") is not trial_of("{{ 2 }}")


def test_threads_that_ask_at_once_wait_for_one_result() -> None:
    begun, asked = threading.Event(), threading.Barrier(5)
    calls = []

    @FoundOnce
    def find(source: str) -> str:
        calls.append(source)
        begun.wait(10)
        return source.upper()

    def ask(_: int) -> str:
        asked.wait(10)
        begun.set()
        return find("a")

    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(ask, range(5))) == ["A"] * 5
    assert calls == ["a"]


def test_only_the_latest_results_are_kept() -> None:
    calls = []

    @FoundOnce
    def find(source: str) -> str:
        calls.append(source)
        return source

    for number in range(100):
        find(str(number))
    find("99")
    assert len(calls) == 100
    find("0")
    assert calls[-1] == "0"
