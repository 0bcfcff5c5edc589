import pytest

from ollama_tw.output.model_syntax import (
    CallSyntax,
    Form,
    Syntax,
    ThinkingSyntax,
    by_name,
    from_chat_template,
    from_template,
)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("<tool_call>", ("<tool_call>", "</tool_call>", False)),
        ("<tool_call>\n[", ("<tool_call>", "</tool_call>", False)),
        ("<|tool_call|>", ("<|tool_call|>", "<|/tool_call|>", False)),
        ("[TOOL_CALLS] [", ("[TOOL_CALLS]", "[/TOOL_CALLS]", False)),
        ("Action: ```json", ("Action: ```json", "```", False)),
        ("Action: ```json\n[", ("Action: ```json", "```", False)),
        ("<my.calls>", ("<my.calls>", "</my.calls>", False)),
        ("<|calls_start|>", ("<|calls_start|>", "<|calls_end|>", False)),
        ("<｜tool▁calls▁begin｜>", ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", False)),
        ("CALL:", ("CALL:", None, False)),
        ("{", ("{", None, True)),
        ("[", ("[", None, True)),
    ],
)
def test_the_call_syntax_of_a_go_templates_tag(tag: str, expected: tuple[str, str | None, bool]) -> None:
    syntax = from_template(tag)
    assert syntax.thinking is None
    assert syntax.calls is not None
    assert (syntax.calls.open, syntax.calls.close, syntax.calls.leading) == expected
    assert syntax.calls.form is Form.JSON


def test_a_go_template_may_have_thinking_tags_and_no_calls() -> None:
    assert from_template(None, "<r>", "</r>") == Syntax(ThinkingSyntax("<r>", "</r>"), None)
    assert from_template("", "<r>", "") == Syntax(None, None)


@pytest.mark.parametrize(
    ("source", "thinking"),
    [
        ("{% if enable_thinking %}<think>\n{% endif %}{{ content.split('</think>')[-1] }}", "<think>"),
        ("{{ message.content.split('</think>') | last }}", "<think>"),
        ("[THINK]{{ message.reasoning }}[/THINK]", "[THINK]"),
        ("<|START_THINKING|><|END_THINKING|>", "<|START_THINKING|>"),
        ("{{ message.content }}", None),
    ],
)
def test_the_thinking_tags_of_a_chat_template(source: str, thinking: str | None) -> None:
    found = from_chat_template(source).thinking
    assert (found.open if found else None) == thinking
    assert found is None or not found.starts_open


@pytest.mark.parametrize(
    ("source", "opening", "form", "leading"),
    [
        ("{% if tools %}<tool_call>\n{...}\n</tool_call>{% endif %}", "<tool_call>", Form.JSON, False),
        ("{% if tools %}<tool_call>\n<function=x>\n{% endif %}", "<tool_call>", Form.XML, False),
        ("{{ '[AVAILABLE_TOOLS]' }}{{ tools }}[TOOL_CALLS] [", "[TOOL_CALLS]", Form.JSON, False),
        ("{{ tools }} <|tool_call|>", "<|tool_call|>", Form.JSON, False),
        ('{% if tools %}Respond in the format {"name": function name}', "{", Form.JSON, True),
        ("{% if builtin_tools %}<|python_tag|>{% endif %}{{ tools }}", "{", Form.JSON, True),
    ],
)
def test_the_call_syntax_of_a_chat_template(source: str, opening: str, form: Form, leading: bool) -> None:
    calls = from_chat_template(source).calls
    assert calls is not None
    assert (calls.open, calls.form, calls.leading) == (opening, form, leading)
    assert calls.marker == ("<|python_tag|>" if "<|python_tag|>" in source else None)


def test_a_chat_template_without_tools_has_no_calls() -> None:
    assert from_chat_template("{{ messages }}").calls is None


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
    ],
)
def test_a_prompt_that_ends_with_the_tag_opens_thinking(prompt: str, opened: bool) -> None:
    syntax = Syntax(ThinkingSyntax("<think>", "</think>"), CallSyntax("{", leading=True)).after(prompt)
    assert syntax == Syntax(
        ThinkingSyntax("<think>", "</think>", starts_open=opened), CallSyntax("{", leading=True)
    )


def test_the_prompt_does_not_change_a_syntax_without_thinking() -> None:
    assert Syntax().after("<think>") == Syntax()


def test_families_are_found_by_name() -> None:
    coder = by_name("qwen3-coder")
    assert coder is not None
    assert coder.thinking is None
    assert coder.calls is not None
    assert (coder.calls.form, coder.calls.close) == (Form.XML, "</tool_call>")
    assert by_name("passthrough") == Syntax()
    assert by_name("no such family") is None


def test_the_xml_form_needs_a_closing_tag() -> None:
    with pytest.raises(ValueError, match="closing tag"):
        CallSyntax("<tool_call>", form=Form.XML)
