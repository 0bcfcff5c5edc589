import time
from datetime import datetime
from typing import Any

import pytest

from ollama_tw.templates.budget import (
    MAX_OUTPUT,
    Budget,
    LimitExceeded,
    Limits,
    TemplateError,
    TemplateRefusal,
)
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction
from tests.templates import sources as templates

NOW = datetime(2026, 3, 9, 12, 30)
WEATHER = {"type": "function", "function": {"name": "weather", "description": "<b> & é", "parameters": {}}}
HI = [Message("user", "hi")]


def render(source: str, messages: list[Message] = HI, **kwargs: Any) -> str:
    return ChatTemplate(source, bos="<s>", eos="</s>").render(messages, now=NOW, **kwargs)


def calling(arguments: dict[str, Any], call_id: str = "call_abcd1234", content: str = "") -> Message:
    call = ToolCall(id=call_id, function=ToolCallFunction(name="weather", arguments=arguments))
    return Message("assistant", content, tool_calls=[call])


# Shapes of real templates


def test_smollm2_adds_its_system_message() -> None:
    assert render(templates.SMOLLM2) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_smollm2_keeps_a_given_system_message() -> None:
    assert render(templates.SMOLLM2, [Message("system", "Be brief."), *HI]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chatml_with_block_trimming_loop_controls_and_the_generation_tag() -> None:
    messages = [*HI, Message("assistant", "yo"), Message("user", "ok")]
    assert render(templates.CHATML, messages) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
        "<|im_start|>user\nok<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(templates.CHATML, add_generation_prompt=False) == "<|im_start|>user\nhi<|im_end|>\n"


def test_llama_with_tools() -> None:
    messages = [Message("system", " Rules. "), *HI, calling({"city": "Zürich", "days": 2})]
    messages.append(Message("tool", "12 °C", tool_name="weather"))
    assert render(
        templates.LLAMA, messages, tools=[{"type": "function", "function": {"name": "weather"}}]
    ) == (
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 09 Mar 2026\n\nRules.\n"
        '{\n  "type": "function",\n  "function": {\n    "name": "weather"\n  }\n}<|eot_id|>'
        "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
        '{"name": "weather", "parameters": {"city": "Zürich", "days": 2}}<|eot_id|>'
        "<|start_header_id|>ipython<|end_header_id|>\n\n12 °C<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_the_message_of_raise_exception_reaches_the_user() -> None:
    call = ToolCall(function=ToolCallFunction(name="weather"))
    with pytest.raises(TemplateError) as caught:
        render(templates.LLAMA, [Message("assistant", tool_calls=[call, call])])
    assert caught.value.message == "This model only supports single tool-calls at once!"
    assert caught.value.status == 400


def test_mistral_gets_ids_of_nine_characters() -> None:
    messages = [*HI, calling({"city": "Rome"}), Message("tool", "20", tool_call_id="call_abcd1234")]
    assert render(templates.MISTRAL, messages, tools=[WEATHER]) == (
        '<s>[AVAILABLE_TOOLS] [{"type": "function", "function": {"name": "weather", '
        '"description": "<b> & é", "parameters": {}}}][/AVAILABLE_TOOLS][INST] hi[/INST]'
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}, "id": "labcd1234"}]</s>'
        '[TOOL_RESULTS] {"content": 20, "call_id": "labcd1234"}[/TOOL_RESULTS]'
    )


def test_mistral_results_without_ids_answer_the_calls_in_order() -> None:
    two = calling({"city": "Rome"}, call_id="")
    assert isinstance(two.tool_calls, list)
    two.tool_calls.append(ToolCall(function=ToolCallFunction(name="weather", arguments={"city": "Oslo"})))
    messages = [*HI, two, Message("tool", "20"), Message("tool", "5")]
    assert render(templates.MISTRAL, messages).endswith(
        '"id": "000000000"}, {"name": "weather", "arguments": {"city": "Oslo"}, "id": "000000001"}]</s>'
        '[TOOL_RESULTS] {"content": 20, "call_id": "000000000"}[/TOOL_RESULTS]'
        '[TOOL_RESULTS] {"content": 5, "call_id": "000000001"}[/TOOL_RESULTS]'
    )


def test_templates_that_require_nine_characters_at_least() -> None:
    source = (
        "{% for m in messages %}{{ m.content }}{% for call in m.tool_calls %}{{ call.function.name }} "
        "{{ raise_exception('short') if call.id | length < 9 else call.id }}{% endfor %}{% endfor %}"
    )
    assert render(source, [calling({}, "call_1")]) == "weather 0000call1"


def test_qwen3_thinking() -> None:
    messages = [*HI, Message("assistant", "<think>\nold\n</think>\n\nyo"), Message("user", "weather?")]
    messages += [
        Message("assistant", tool_calls=calling({"city": "Rome"}).tool_calls, thinking="Ask."),
        Message("tool", "20"),
    ]
    assert render(templates.QWEN3, messages, tools=[WEATHER], think=False) == (
        '<|im_start|>system\n<tools>\n{"type": "function", "function": {"name": "weather", '
        '"description": "<b> & é", "parameters": {}}}\n</tools><|im_end|>\n'
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
        "<|im_start|>user\nweather?<|im_end|>\n"
        '<|im_start|>assistant\n<think>\nAsk.\n</think>\n\n<tool_call>\n{"name": "weather", "arguments": '
        '{"city": "Rome"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n20\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


@pytest.mark.parametrize("think", [None, True, "high"])
def test_qwen3_leaves_thinking_open_by_default(think: bool | str | None) -> None:
    assert render(templates.QWEN3, think=think).endswith("hi<|im_end|>\n<|im_start|>assistant\n")


def test_gemma_without_system_role_gets_the_system_text_in_front_of_the_user() -> None:
    messages = [Message("system", "Be brief."), *HI, Message("assistant", "yo"), Message("user", "ok")]
    assert render(templates.GEMMA, messages) == (
        "<s><start_of_turn>user\nBe brief.\n\nhi<end_of_turn>\n<start_of_turn>model\nyo<end_of_turn>\n"
        "<start_of_turn>user\nok<end_of_turn>\n<start_of_turn>model\n"
    )


def test_gemma_rejects_a_conversation_that_the_model_begins() -> None:
    with pytest.raises(TemplateRefusal, match=r"^Conversation roles must alternate user"):
        render(templates.GEMMA, [Message("assistant", "a"), *HI])


def test_a_template_that_requires_content_parts_gets_them() -> None:
    assert render(templates.CONTENT_PARTS, [Message("system", "S"), *HI]) == "system: S\nuser: hi\n"


# Variables and filters


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}|{{ eos_token }}", "<s>|</s>"),
        ("{{ strftime_now('%Y-%m-%d %H:%M') }}", "2026-03-09 12:30"),
        ("{{ date_string }}", "09 Mar 2026"),
        ("{{ tools is defined }}{{ documents is defined }}", "FalseFalse"),
        ("{{ enable_thinking is defined }}{{ reasoning_effort is defined }}", "FalseFalse"),
        ("{{ {'b': '<é>', 'a': [1, none, true]} | tojson }}", '{"b": "<é>", "a": [1, null, true]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":2,"b":1}'),
        ("{{ {'a': 'é'} | tojson(ensure_ascii=true) }}", '{"a": "\\u00e9"}'),
        ("{{ {'a': 1} | tojson(indent=4) }}", '{\n    "a": 1\n}'),
        ("{{ ('[1, 2]' | fromjson)[1] }}{{ ('{\"a\": 3}' | from_json).a }}", "23"),
        ("{% for k, v in {'x': 1, 'y': 2} | items %}{{ k }}{{ v }}{% endfor %}", "x1y2"),
        ("{% for k, v in {'x': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "x1"),
        ("{{ 'a\nb\n' | indent(2) }}|", "a\n  b\n|"),
        ("{{ 'a\nb' | indent(2, true) }}", "  a\n  b"),
        ("{{ ['a', 1] | join(', ') }} {{ [{'n': 'x'}, {'n': 'y'}] | join('-', attribute='n') }}", "a, 1 x-y"),
        ("{{ 'aXbX' | replace('X', '__') }}{{ 'aXbX'.replace('X', '') }}", "a__b__ab"),
        ("{{ 'n=%03d %s' | format(7, 'x') }} {{ '%s' % 'y' }}", "n=007 x y"),
        ("{{ '{}-{a:>3}'.format(1, a=2) }}", "1-  2"),
        ("{{ ['b', 'a'] | sort | map('upper') | list | tojson }}", '["A", "B"]'),
        ("{{ [1, 2, 3][::-1] | first ~ 'x' ~ none }}", "3xNone"),
        ("{% set s = namespace(n=0) %}{% for i in [1] %}{% set s.n = s.n + 3 %}{% endfor %}{{ s.n }}", "3"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ loop.revindex }}{% endfor %}", "98"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(1) + m(x=2) }}", "<1><2>"),
        ("{% set a = [] %}{% for i in [1, 2] %}{% set _ = a.append(i) %}{% endfor %}{{ a }}", "[1, 2]"),
        ("{% set n = namespace(a=[]) %}{% set _ = n.a.append('x') %}{{ n.a.pop(0) }}{{ n.a }}", "x[]"),
        ("{% set a = messages | list %}{% set _ = a.extend([1, 2]) %}{{ a | length }}", "3"),
        ("{% set a = [1] %}{% set b = [a, a] %}{% set _ = a.append(2) %}{{ b }}{{ a }}", "[[1], [1]][1, 2]"),
        ("{{ ['b', 'a'] | map('upper') | tojson }}{{ {'a': 1}.values() | tojson }}", '["B", "A"][1]'),
        ("{{ '<i>' | safe + '<b>' }}{{ '<' | e + '<' }}", "<i><b>&lt;<"),
    ],
)  # fmt: skip
def test_what_templates_can_use(source: str, expected: str) -> None:
    assert render(source) == expected


def test_thinking_variables() -> None:
    source = "{{ enable_thinking }} {{ reasoning_effort | default('-') }}"
    assert render(source, think=True) == "True -"
    assert render(source, think=False) == "False -"
    assert render(source, think="low") == "True low"


@pytest.mark.parametrize("name", ["enable_thinking", "thinking", "reasoning"])
def test_thinking_is_switched_under_every_name(name: str) -> None:
    source = "{% if NAME is defined %}{{ NAME }}{% endif %}".replace("NAME", name)
    assert render(source, think=True) == "True"
    assert render(source, think=False) == "False"
    assert render(source) == ""


@pytest.mark.parametrize("name", ["reasoning_effort", "reasoning_strength", "thinking_effort"])
def test_the_level_of_thinking_is_given_under_every_name(name: str) -> None:
    assert render("{{ NAME }}".replace("NAME", name), think="low") == "low"


def test_extra_variables_override_the_defaults() -> None:
    assert render("{{ date_string }} {{ mine }}", extra={"date_string": "1", "mine": "2"}) == "1 2"


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_earlier_thinking_is_passed_under_the_key_that_the_template_reads(key: str) -> None:
    messages = [Message("assistant", "a", thinking="hm")]
    source = "{% for m in messages %}{{ m.content }}{{ m.KEY }}{% endfor %}".replace("KEY", key)
    assert render(source, messages) == "ahm"
    assert render("{{ messages | tojson }}", messages) == '[{"role": "assistant", "content": "a"}]'


def test_the_fields_of_a_message() -> None:
    messages = [
        calling({"b": 1, "a": 2}, "call_1"),
        Message("tool", "x", tool_name="weather", tool_call_id="call_1"),
    ]
    assert render("{{ messages | tojson }}", messages) == (
        '[{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": '
        '{"name": "weather", "arguments": {"b": 1, "a": 2}}, "id": "call_1"}]}, '
        '{"role": "tool", "content": "x", "name": "weather", "tool_call_id": "call_1"}]'
    )


def test_arguments_print_and_join_as_json() -> None:
    source = "{% set a = messages[0].tool_calls[0].function.arguments %}{{ a }} {{ '>' + a }}"
    assert render(source, [calling({"a": None})]) == '{"a": null} >{"a": null}'


def test_a_test_of_the_earlier_thinking_does_not_make_the_content_none() -> None:
    source = (
        "{% for m in messages %}{% if m.reasoning_content is not none %}{% endif %}"
        "{{ '</think>' in m.content }}{% endfor %}"
    )
    assert render(source, [calling({})]) == "False"


def test_content_is_none_for_templates_that_require_it() -> None:
    source = (
        "{% for m in messages %}{% if m['content'] is none %}{{ m.tool_calls[0].function.name }}"
        "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    assert render(source, [calling({}), calling({}, content="text"), *HI]) == "weathertexthi"


def test_one_template_serves_many_renderings() -> None:
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", bos="A", eos="")
    other = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", bos="B", eos="")
    assert [t.render(HI, now=NOW) for t in (template, other, template)] == ["Ahi", "Bhi", "Ahi"]


# Hostile templates


@pytest.mark.parametrize(
    "source",
    [
        "{{ ().__class__.__base__.__subclasses__() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__['os'].system('id') }}",
        "{{ joiner.__init__.__globals__.__builtins__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ self.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__ }}",
        "{{ strftime_now.func }}",
        "{{ dict.mro() }}",
        "{{ messages.__class__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ messages[0].clear() }}",
        "{{ '' | attr('__class__') }}",
        "{{ [''] | map(attribute='__class__') | map(attribute='__mro__') | list | tojson }}",
        "{{ '{0.__class__.__base__}'.format('') }}",
        "{{ '{a.__class__}'.format_map({'a': ''}) }}",
        "{{ ('{0.__class__.__base__}' | format)('') }}",
        "{{ (['{0.__class__.__base__}'] | map(attribute='format') | first)(1) }}",
        "{{ [raise_exception] | map(attribute='__globals__') | first }}",
        "{% set x = ''['__class__'] %}{{ x.__base__ }}",
        "{% for c in [].__class__.__base__.__subclasses__() %}{{ c.__name__ }}{% endfor %}",
        "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}",
        "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
        "{% for x in [1] %}{{ loop.__class__.__init__.__globals__ }}{% endfor %}",
        "{{ config }}{{ request }}{{ get_flashed_messages }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
        "{% extends 'x' %}",
        "{{ (1).to_bytes(4, 'big') }}",
        "{{ 'x'.encode() }}",
        "{{ bos_token.translate({60: 'y'}) }}",
    ],
)
def test_gadgets_render_nothing(source: str) -> None:
    messages = [Message("user", "hi")]
    try:
        text = render(source, messages)
    except TemplateError:
        text = ""
    assert text == ""
    assert messages == [Message("user", "hi")]


GROW = "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(70) %}{% set ns.x = STEP %}{% endfor %}"
DOUBLED_BLOCK = "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 1000000000 }}",
        "{{ 1000000000 * ['x'] }}",
        "{{ 10 ** (10 ** 10) * 10 ** 100000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' | format(1.0) }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        GROW.replace("STEP", "ns.x ~ ns.x"),
        GROW.replace("STEP", "ns.x + ns.x"),
        GROW.replace("STEP", "[ns.x, ns.x]"),
        GROW.replace("STEP", "(ns.x, ns.x)"),
        GROW.replace("STEP", "{'a': ns.x, 'b': ns.x}"),
        GROW.replace("STEP", "dict(a=ns.x, b=ns.x)"),
        GROW.replace("STEP", "ns.x | replace('x', 'xx')"),
        GROW.replace("STEP", "ns.x.replace('x', 'xx')"),
        GROW.replace("STEP", "[ns.x] * 2"),
        GROW.replace("STEP", "'%s%s' % (ns.x, ns.x)"),
        GROW.replace("STEP", "'{0}{0}'.format(ns.x)"),
        GROW.replace("STEP", "(['x'] * 9) | join(ns.x)"),
        GROW.replace("STEP", "ns.x.join(['a', 'b', 'c'])"),
        GROW.replace("'xxxxxxxx'", "3").replace("STEP", "ns.x * ns.x"),
        GROW.replace("{% set ns.x = STEP %}", DOUBLED_BLOCK),
        "{% set a = ['x'] %}{% for i in range(70) %}{% set _ = a.extend(a) %}{% endfor %}",
        "{% set a = ['x'] %}{% for i in range(70) %}{% set _ = a.append(a) %}{% endfor %}",
        "{% set a = ['x' * 999999] %}{% for i in range(70) %}{% set _ = a.append(a[0]) %}{% endfor %}{{ a }}",
        "{% for i in range(100000) %}" + "x" * 500 + "{% endfor %}",
        "{% set y %}{% for i in range(99999) %}" + "x" * 9999 + "{% endfor %}{% endset %}",
    ],
)  # fmt: skip
def test_growth_is_rejected(source: str) -> None:
    with pytest.raises(LimitExceeded, match=r" too (large|long|much memory)$"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x'.center(1000000000) }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ range(1000000000) | list }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
        "{{ tools | tojson(1, 2, 3, 4, 5) }}",
        "{{ messages[0].nothing.at_all }}",
        "{{ raise_exception | tojson }}",
    ],
)
def test_a_failing_template_gives_one_sentence(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^the chat template [^\n]{10,220}$"):
        render(source)


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in [1, 2] recursive %}{% if loop.depth < 60 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for a in range(99999) %}{% set x = range(99999) | map('string') | list %}{% endfor %}",
    ],
)
def test_endless_work_is_stopped_by_the_clock(source: str) -> None:
    ticks = iter(range(10**9))
    template = ChatTemplate(source, bos="", eos="", clock=lambda: next(ticks) / 10)
    with pytest.raises(TemplateError, match=r"^the chat template takes too long to render$"):
        template.render(HI, now=NOW)


def test_a_machine_that_does_something_else_is_no_work_of_a_template() -> None:
    budget = Budget(limits=Limits(seconds=0.01))
    time.sleep(0.02)
    for _ in range(100):
        budget.step()


def test_a_long_valid_prompt_passes() -> None:
    messages = [Message("user", "x" * 1000)] * 2000
    assert (
        len(render(templates.CHATML, messages)) == 2000 * (1000 + len("<|im_start|>user\n<|im_end|>\n")) + 22
    )
    assert MAX_OUTPUT > 2_100_000


@pytest.mark.parametrize(
    "source",
    ["{% for x in y %}", "{{ x | nofilter }}", "{{", "{% nonsense %}", "{{" + "(" * 3000, "{# #}" * 60000],
)
def test_a_template_that_does_not_compile(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^the chat template (does not compile: |is too long$)"):
        ChatTemplate(source, bos="", eos="")


def test_a_template_with_very_many_names_is_not_compiled() -> None:
    source = "".join(f"{{% if v{number} %}}a{{% endif %}}" for number in range(501))
    with pytest.raises(
        TemplateError, match=r"^the chat template does not compile: it has more than 500 names$"
    ):
        ChatTemplate(source, bos="", eos="")
