"""Chat templates of the families that Ollama names, for model files that have none.

A family is data: the texts around each message, and the layout of calls in the description of its replies.
``family_template.py`` writes a template from them.

Source: ollama: model/renderers, of which the texts around messages are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from ollama_tw.output.description import CallLayout, Pair
from ollama_tw.output.known_layouts import MUSE

NAME: Final = "{name}"
"""In a text: the name of the function."""
_NOTHING: Final = Pair()


@dataclass(frozen=True)
class Family:
    """Texts of a family's prompts; ``parser`` names the description of its replies."""

    parser: str
    system: Pair
    user: Pair
    assistant: Pair
    result: Pair
    """Around the result of a call; may contain :data:`NAME`."""
    results: Pair = _NOTHING
    """Around the results that follow each other."""
    begin: str = ""
    """The beginning of the prompt."""
    opened: str = ""
    """Before a reply with thinking."""
    closed: str = ""
    """Before a reply without thinking."""
    unthought: str = ""
    """Before the content of an earlier reply without thinking."""
    asks: Pair = _NOTHING
    """At the beginning of the system text, with thinking (``open``) and without it."""
    asks_after: Pair = _NOTHING
    """At its end, likewise."""
    asks_user: Pair = _NOTHING
    """At the end of each text of the user, likewise."""
    content: Pair = _NOTHING
    """Around the content of every message of the assistant."""
    calls: CallLayout | None = None
    """The layout in which calls are written, if not that of the description; may contain :data:`NAME`."""
    results_in_reply: bool = False
    """Results are in the assistant's message, which goes on after them."""
    reopened: str = ""
    """Before a reply with thinking that goes on."""
    keeps_thinking: bool = False
    """The thinking before the last text of the user is shown too."""
    always_system: bool = False
    """A prompt without a system text has an empty one."""


_CHATML = Family(
    "qwen3-coder",
    system=Pair("<|im_start|>system\n", "<|im_end|>\n"),
    user=Pair("<|im_start|>user\n", "<|im_end|>\n"),
    assistant=Pair("<|im_start|>assistant\n", "<|im_end|>\n"),
    result=Pair("<tool_response>\n", "\n</tool_response>"),
    results=Pair("<|im_start|>user\n", "<|im_end|>\n"),
)
_QWEN = replace(_CHATML, opened="<think>\n", closed="<think>\n\n</think>\n\n")
_NEMOTRON = replace(
    _CHATML,
    parser="nemotron-3-nano",
    opened="<think>\n",
    closed="<think></think>",
    unthought="<think></think>",
    always_system=True,
)
_OLMO = replace(
    _CHATML, parser="olmo3", result=Pair("<|im_start|>environment\n", "<|im_end|>\n"), results=Pair()
)
_OLMO_THINK = replace(_OLMO, parser="olmo3-think", opened="<think>", closed="<think>")
_LFM2 = replace(
    _CHATML,
    parser="lfm2",
    begin="<|startoftext|>",
    result=Pair("<|im_start|>tool\n<|tool_response_start|>", "<|tool_response_end|><|im_end|>\n"),
    results=Pair(),
)
_DEEPSEEK = Family(
    "deepseek3",
    begin="<｜begin▁of▁sentence｜>",
    system=Pair(),
    user=Pair("<｜User｜>", ""),
    assistant=Pair("<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    result=Pair("<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"),
    results=Pair("<｜end▁of▁sentence｜>", ""),
    results_in_reply=True,
    opened="<think>",
    closed="</think>",
    unthought="</think>",
)
_GEMMA4 = Family(
    "gemma4",
    begin="<bos>",
    system=Pair("<|turn>system\n", "<turn|>\n"),
    user=Pair("<|turn>user\n", "<turn|>\n"),
    assistant=Pair("<|turn>model\n", "<turn|>\n"),
    result=Pair(f'<|tool_response>response:{NAME}{{value:<|"|>', '<|"|>}<tool_response|>'),
    asks=Pair("<|think|>\n", ""),
    results_in_reply=True,
    reopened="<|channel>thought\n",
)
_GLM = Family(
    "glm-4.7",
    begin="[gMASK]<sop>",
    system=Pair("<|system|>", ""),
    user=Pair("<|user|>", ""),
    assistant=Pair("<|assistant|>", ""),
    result=Pair("<tool_response>", "</tool_response>"),
    results=Pair("<|observation|>", ""),
    opened="<think>",
    closed="</think>",
    unthought="</think>",
    keeps_thinking=True,
)
_LAGUNA = Family(
    "laguna",
    begin="〈|EOS|〉",
    system=Pair("<system>\n\n", "\n</system>\n"),
    user=Pair("<user>\n", "\n</user>\n"),
    assistant=Pair("<assistant>\n", "\n</assistant>\n"),
    result=Pair("<tool_response>\n", "\n</tool_response>\n"),
    opened="<think>",
    closed="</think>",
    unthought="</think>\n",
    keeps_thinking=True,
)
_TURN = "<|START_OF_TURN_TOKEN|>"
_COHERE_TURN_END = "<|END_TEXT|><|END_OF_TURN_TOKEN|>"
_MUSE_RECIPIENTS = '# Valid recipients: "self", "user".'

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {
        "cogito": replace(
            _DEEPSEEK,
            parser="cogito",
            results=Pair("<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"),
            results_in_reply=False,
            opened="<think>\n",
            closed="",
            unthought="",
            asks=Pair("Enable deep thinking subroutine.\n\n", ""),
        ),
        "cohere": Family(
            "cohere",
            system=Pair(f"{_TURN}<|SYSTEM_TOKEN|><|START_TEXT|>", _COHERE_TURN_END),
            user=Pair(f"{_TURN}<|USER_TOKEN|><|START_TEXT|>", _COHERE_TURN_END),
            assistant=Pair(f"{_TURN}<|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
            result=Pair("<|START_TOOL_RESULT|>", "<|END_TOOL_RESULT|>"),
            results=Pair(f"{_TURN}<|SYSTEM_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
            opened="<|START_THINKING|>",
            closed="<|START_THINKING|><|END_THINKING|>",
            content=Pair("<|START_TEXT|>", "<|END_TEXT|>"),
            keeps_thinking=True,
        ),
        "deepseek3.1": _DEEPSEEK,
        "functiongemma": Family(
            "functiongemma",
            begin="<bos>",
            system=Pair("<start_of_turn>developer\n", "<end_of_turn>\n"),
            user=Pair("<start_of_turn>user\n", "<end_of_turn>\n"),
            assistant=Pair("<start_of_turn>model\n", "<end_of_turn>\n"),
            result=Pair(
                f"<start_function_response>response:{NAME}{{<escape>", "<escape>}<end_function_response>"
            ),
            results_in_reply=True,
        ),
        "gemma4": _GEMMA4,
        "gemma4-large": replace(_GEMMA4, closed="<|channel>thought\n<channel|>"),
        "gemma4-small": _GEMMA4,
        "glimmer": Family(
            "glimmer",
            begin="<|begin_of_text|>",
            system=Pair("<|start|>system<|message|>", "<|eot|>"),
            user=Pair("<|start|>user<|message|>", "<|eot|>"),
            assistant=Pair("<|start|>assistant", "<|eot|>"),
            result=Pair(
                f'<|start|>tool {NAME}<|message|><tool_output name="{NAME}">\n', "\n</tool_output><|eot|>"
            ),
            asks_after=Pair(
                f"\n\nReasoning strength: high.\n\n{_MUSE_RECIPIENTS}",
                f"\n\nReasoning strength: none.\n\n{_MUSE_RECIPIENTS}",
            ),
            content=Pair(" to=user<|message|>", ""),
            calls=replace(
                MUSE,
                section=Pair(),
                call=Pair(
                    f" to={NAME}<|message|>{MUSE.section.open}{MUSE.call.open}",
                    MUSE.call.close + MUSE.section.close,
                ),
                separator="<|eom|><|start|>assistant",
            ),
        ),
        "glm-4.7": _GLM,
        "glm-ocr": Family(
            "glm-ocr",
            begin="[gMASK]<sop>",
            system=Pair("<|system|>\n", "\n"),
            user=Pair("<|user|>\n", ""),
            assistant=Pair("<|assistant|>\n", "\n"),
            result=Pair("<tool_response>\n", "\n</tool_response>\n"),
            results=Pair("<|observation|>\n", ""),
            closed="<think></think>\n",
            unthought="<think></think>\n",
            asks_user=Pair("", "/nothink"),
            keeps_thinking=True,
        ),
        "laguna": _LAGUNA,
        "lfm2": _LFM2,
        "lfm2-thinking": replace(_LFM2, parser="lfm2-thinking", keeps_thinking=True),
        "nemotron-3-nano": _NEMOTRON,
        "nemotron-3.5-nano": _NEMOTRON,
        "olmo3": _OLMO,
        "olmo3-32b-think": _OLMO_THINK,
        "olmo3-think": _OLMO_THINK,
        "olmo3.1": _OLMO,
        "ornith": replace(_QWEN, parser="ornith", unthought="<think>\n\n</think>\n\n", keeps_thinking=True),
        "poolside-v1": Family(
            "poolside-v1",
            begin="〈|EOS|〉",
            system=Pair("<system>", "</system>\n"),
            user=Pair("<user>", "</user>\n"),
            assistant=Pair("<assistant>", "</assistant>\n"),
            result=Pair("<tool_response>", "</tool_response>\n"),
            opened="<think>",
            closed="</think>",
            unthought="</think>",
            keeps_thinking=True,
        ),
        "qwen3-coder": _CHATML,
        "qwen3-vl-instruct": replace(_CHATML, parser="qwen3-vl-instruct"),
        "qwen3-vl-thinking": replace(_CHATML, parser="qwen3-vl-thinking", opened="<think>\n"),
        "qwen3.5": replace(_QWEN, parser="qwen3.5"),
        "qwen3.8": replace(_QWEN, parser="qwen3.5", unthought="<think>\n\n</think>\n\n"),
    }
)
"""Families by the names of Ollama's renderers."""
