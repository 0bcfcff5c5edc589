"""Known layouts of replies and tool calls: those of Ollama's parsers, for models without a chat template.

They also complete what a template leaves open (``templates/known_marks.py``, ``template_tags.py``). What a
template writes itself is derived from it (``templates/reply_description.py``).

Source: ollama: model/parsers/parsers.go, ParserForName; the renderers of model/renderers.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ollama_tw.output.description import (
    KEY,
    CallLayout,
    Description,
    IdPlace,
    Notation,
    Pair,
    Shape,
    TaggedArguments,
    Turns,
)

_THINK = Pair("<think>\n", "\n</think>\n\n")
_OPENED = Pair("<think>\n", "<think>\n\n</think>\n\n")

HERMES = CallLayout(call=Pair("<tool_call>\n", "\n</tool_call>"), separator="\n")
QWEN_CODER = CallLayout(
    call=Pair("<tool_call>\n", "</function>\n</tool_call>"),
    separator="\n",
    shape=Shape.NAME_FIRST,
    notation=Notation.TAGGED,
    name=Pair("<function=", ">\n"),
    tagged=TaggedArguments(Pair("<parameter=", ">\n"), Pair("", "\n</parameter>\n")),
)
GLM = CallLayout(
    call=Pair("<tool_call>", "</tool_call>"),
    separator="\n",
    shape=Shape.NAME_FIRST,
    notation=Notation.TAGGED,
    name=Pair("", "\n"),
    tagged=TaggedArguments(Pair("<arg_key>", "</arg_key>\n"), Pair("<arg_value>", "</arg_value>\n")),
)
LAGUNA = replace(
    GLM,
    call=Pair("<tool_call>", "</tool_call>\n"),
    separator="",
)
LFM2 = CallLayout(
    section=Pair("<|tool_call_start|>", "<|tool_call_end|>"),
    separator=", ",
    shape=Shape.NAME_FIRST,
    notation=Notation.PYTHON,
    array=True,
)
OLMO3 = CallLayout(
    section=Pair("<function_calls>", "</function_calls>"),
    separator="\n",
    shape=Shape.NAME_FIRST,
    notation=Notation.PYTHON,
)
MINISTRAL = CallLayout(
    call=Pair("[TOOL_CALLS]", ""), shape=Shape.NAME_FIRST, name=Pair("", "[ARGS]"), array=False
)
DEEPSEEK = CallLayout(
    section=Pair("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    call=Pair("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    shape=Shape.NAME_FIRST,
    name=Pair("", "<｜tool▁sep｜>"),
)
COGITO = replace(
    DEEPSEEK,
    call=Pair("<｜tool▁call▁begin｜>", "\n```<｜tool▁call▁end｜>"),
    separator="\n",
    name=Pair("function<｜tool▁sep｜>", "\n```json\n"),
)
GEMMA4 = CallLayout(
    call=Pair("<|tool_call>", "<tool_call|>"),
    shape=Shape.NAME_FIRST,
    notation=Notation.GEMMA,
    name=Pair("call:", ""),
    quote='<|"|>',
)
FUNCTIONGEMMA = replace(GEMMA4, call=Pair("<start_function_call>", "<end_function_call>"), quote="<escape>")
COHERE = CallLayout(
    section=Pair("<|START_ACTION|>", "<|END_ACTION|>"),
    separator=",\n",
    array=True,
    name_key="tool_name",
    arguments_key="parameters",
    id_place=IdPlace.FIELD,
    id_key="tool_call_id",
)
MUSE = CallLayout(
    section=Pair("<atem:function_calls>\n", "</atem:function_calls>"),
    call=Pair('<atem:invoke name="', "</atem:invoke>\n"),
    shape=Shape.NAME_FIRST,
    notation=Notation.TAGGED,
    name=Pair("", '">\n'),
    tagged=TaggedArguments(Pair('<atem:parameter name="', '">'), Pair("", "</atem:parameter>\n")),
)
HARMONY = CallLayout(
    call=Pair("<|channel|>commentary to=functions.", "<|call|>"),
    separator="<|start|>assistant",
    shape=Shape.NAME_FIRST,
    name=Pair("", " <|constrain|>json<|message|>"),
)
MINIMAX_M3 = CallLayout(
    section=Pair("]<]minimax[>[<tool_call>\n", "]<]minimax[>[</tool_call>"),
    call=Pair(']<]minimax[>[<invoke name="', "]<]minimax[>[</invoke>\n"),
    shape=Shape.NAME_FIRST,
    notation=Notation.TAGGED,
    name=Pair("", '">'),
    tagged=TaggedArguments(Pair("]<]minimax[>[<", ">"), Pair("", f"]<]minimax[>[</{KEY}>")),
)

FUNCTIONARY = Description(
    calls=CallLayout(call=Pair(">>>"), shape=Shape.NAME_FIRST, name=Pair("", "\n")),
    turns=Turns(open=">>>", header_end="\n", closes=(), thinking=(), content=("all",), recipient=""),
)

_QWEN35 = Description(_THINK, calls=QWEN_CODER, generation=_OPENED)
_GLM = Description(
    Pair("<think>", "</think>\n"),
    calls=GLM,
    generation=Pair("<think>", "</think>"),
)
_GEMMA4 = Description(Pair("<|channel>thought\n", "\n<channel|>"), calls=GEMMA4, ends=("<|tool_response>",))

BY_NAME: Mapping[str, Description] = MappingProxyType(
    {
        "cogito": Description(_THINK, calls=COGITO),
        "cohere": Description(
            Pair("<|START_THINKING|>", "<|END_THINKING|>"),
            Pair("<|START_TEXT|>", "<|END_TEXT|>"),
            COHERE,
            generation=Pair("<|START_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
        ),
        "deepseek3": Description(
            Pair("<think>", "</think>"), calls=DEEPSEEK, generation=Pair("<think>", "</think>")
        ),
        "functiongemma": Description(calls=FUNCTIONGEMMA),
        "gemma4": _GEMMA4,
        "gemma4-no-thinking": _GEMMA4,
        "glimmer": Description(
            Pair(" to=self<|message|>", "<|eom|><|start|>assistant"),
            calls=MUSE,
            ends=("<|eot|>",),
            turns=Turns(
                open="<|start|>assistant",
                header_end="<|message|>",
                closes=("<|eom|>", "<|eot|>"),
                thinking=("to=self",),
                content=("to=user",),
                recipient="to=",
            ),
        ),
        "glm-4.7": _GLM,
        "glm-ocr": Description(Pair("<think>", "</think>\n"), calls=GLM),
        "harmony": Description(
            Pair("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
            calls=HARMONY,
            turns=Turns(
                open="<|start|>assistant",
                header_end="<|message|>",
                closes=("<|end|>", "<|call|>", "<|return|>"),
                thinking=("<|channel|>analysis",),
                content=("<|channel|>final", "<|channel|>commentary"),
                recipient="to=functions.",
            ),
        ),
        "laguna": Description(
            Pair("<think>\n", "\n</think>\n"),
            calls=LAGUNA,
            ends=("</assistant>",),
            generation=Pair("<think>", "</think>"),
        ),
        "lfm2": Description(calls=LFM2),
        "lfm2-thinking": Description(Pair("<think>", "</think>"), calls=LFM2),
        "ministral": Description(Pair("[THINK]", "[/THINK]"), calls=MINISTRAL),
        "nemotron-3-nano": _QWEN35,
        "nemotron-3.5-nano": _QWEN35,
        "olmo3": Description(calls=OLMO3),
        "olmo3-think": Description(_THINK, generation=Pair("<think>", "<think>")),
        "ornith": _QWEN35,
        "passthrough": Description(),
        "poolside-v1": Description(
            Pair("<think>", "</think>"),
            calls=LAGUNA,
            ends=("</assistant>",),
            generation=Pair("<think>", "</think>"),
        ),
        "qwen3": Description(_THINK, calls=HERMES, generation=Pair("", "<think>\n\n</think>\n\n")),
        "qwen3-coder": Description(calls=QWEN_CODER),
        "qwen3-thinking": Description(_THINK, calls=HERMES, generation=_OPENED),
        "qwen3-vl-instruct": Description(calls=HERMES),
        "qwen3-vl-thinking": Description(_THINK, calls=HERMES, generation=_OPENED),
        "qwen3.5": _QWEN35,
    }
)
"""Descriptions by the names of Ollama's parsers."""

NEVER_ASKED_TO_THINK = frozenset({"gemma4-no-thinking", "glm-ocr", "ministral", "qwen3"})
"""Names whose models may think, but whose parsers in Ollama do not have that capability."""
