"""Description of a model's replies, derived from its chat template by comparing trial renderings.

Sentences of our own are given as content, thinking and calls of the model's last turn; what stands around
them in the prompt is what the model writes around its own. A rendering that the template refuses makes its
finding unknown: then the marks of known families decide.

Source: llama.cpp: common/chat-diff-analyzer.cpp has the idea; docs/architecture.md.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ollama_tw.output.description import CallLayout, Description, Pair
from ollama_tw.templates.budget import TemplateError
from ollama_tw.templates.known_marks import completed
from ollama_tw.templates.rendered_text import first_mark, last_mark, shared_end, shared_start, twin
from ollama_tw.templates.sandbox import JsonObject
from ollama_tw.templates.thinking_controls import find_controls
from ollama_tw.templates.tool_call_layout import Renderings, layout_of
from ollama_tw.templates.trial import EOS, FoundOnce, Trial, trial_of
from ollama_tw.templates.trial_tools import FIRST, IDS, KEYS, NAMES, SECOND, TYPED, tools

USER: Final = "Glimfrost asks."
CONTENT: Final = "Brundle answers."
THOUGHT: Final = "Quevent ponders."

_THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning")


@FoundOnce
def describe(source: str) -> Description:
    """Return the description of the replies of the model with this chat template.

    A template that does not compile has plain replies.
    """
    try:
        return _Probe(trial_of(source)).description()
    except TemplateError:
        return Description()


class _Probe:
    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._source = trial.source
        controls = find_controls(trial.source)
        self._on, off = controls.variables(True), controls.variables(False)
        self._parts = False
        self._user = self._prompt(False, self._on) or ""
        if USER not in self._user:
            self._parts = True
            self._user = self._prompt(False, self._on) or ""
            if USER not in self._user:
                self._parts = False
        self._tails = Pair(self._tail(self._on), self._tail(off))

    def description(self) -> Description:
        before, turn_end = self._plain()
        thought = self._thought()
        header = self._header([before] if thought is None else [before, thought[0]])
        thinking, wrapper = self._thinking(header, thought, before)
        content = Pair(wrapper, first_mark(turn_end)) if wrapper.strip() else None
        calls = self._calls(header, [thinking, content], turn_end)
        closing = turn_end if content is None else turn_end[len(content.close) :]
        ends = tuple(mark for mark in (first_mark(closing).strip(),) if mark and EOS not in mark)
        found = Description(thinking, content, calls, ends=ends, generation=self._tails)
        return completed(found, self._source)

    # Prompts

    def _prompt(self, generation: bool, switches: Mapping[str, Any]) -> str | None:
        message = self._message("user", USER)
        return self._trial.render([message], generation=generation, functions="[]", **switches)

    def _message(self, role: str, text: str) -> dict[str, Any]:
        content: Any = [{"type": "text", "text": text}] if self._parts else text
        return {"role": role, "content": content}

    def _tail(self, switches: Mapping[str, Any]) -> str:
        """Return the text at the end of a prompt after which the reply begins."""
        prompt, without = self._prompt(True, switches), self._prompt(False, switches)
        if prompt is None:
            return ""
        if without is not None and prompt.startswith(without) and prompt != without:
            return prompt[len(without) :]
        _, found, rest = prompt.rpartition(USER)
        return rest if found else ""

    def _turn(self, message: Mapping[str, Any], **options: Any) -> str | None:
        """Return what the prompt has for the model's turn ``message``, which is the last one."""
        messages = [self._message("user", USER), message]
        functions = json.dumps(tools())
        text = self._trial.render(messages, **{"functions": functions, **self._on, **options})
        if text is None:
            return None
        _, found, rest = text.rpartition(USER)
        return rest if found else text

    # Thinking and content

    def _plain(self) -> tuple[str, str]:
        """Return what stands before and after the content of a turn without thinking."""
        text = self._turn(self._message("assistant", CONTENT)) or ""
        before, found, after = text.partition(CONTENT)
        return (before, after) if found else ("", "")

    def _thought(self) -> tuple[str, str, bool] | None:
        """Return what stands before the thinking of a turn, and between it and the content.

        The third value is False if the template writes thinking beside calls only: the second one is then the
        mark after it.
        """
        keys = dict.fromkeys(_THOUGHT_KEYS, THOUGHT)
        blocks = [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": CONTENT}]
        for message in (
            {**self._message("assistant", CONTENT), **keys},
            {"role": "assistant", "content": blocks},
        ):
            text = self._turn(message)
            if text is None or THOUGHT not in text:
                continue
            before, _, rest = text.partition(THOUGHT)
            if before.endswith(("'thinking': '", '"thinking": "')):
                continue  # the block as it is: the template takes no blocks
            between, found, _ = rest.partition(CONTENT)
            if found:
                return before, between, True
        text = self._turn(
            {"role": "assistant", "content": "", **keys, "tool_calls": self._call(NAMES[0], FIRST, IDS[0])}
        )
        if text is not None and THOUGHT in text:
            before, _, rest = text.partition(THOUGHT)
            return before, first_mark(rest), False
        return None

    def _behind_user(self, tail: str) -> str:
        _, _, rest = self._user.rpartition(USER)
        return rest + tail

    def _header(self, texts: Sequence[str]) -> str:
        """Return the beginning of the model's turn: what all ``texts`` have in common, as whole marks."""
        tails = []
        for tail in (self._tails.open, self._tails.close):
            # An instruction of the template may stand between the user's text and the beginning of the reply.
            before, found, _ = texts[0].rpartition(tail) if tail else ("", "", "")
            if tail:
                tails.append(before + tail if found else self._behind_user(tail))
        header, *others = (*texts, *tails)
        for other in others:
            header = shared_start(header, other)
        following = [
            text[len(header) : len(header) + 1] for text in (*texts, *tails) if len(text) > len(header)
        ]
        if header.endswith(">") and len(following) > 1 and all(each.isalnum() for each in following):
            header = header[: len(header) - len(last_mark(header))]
        return header

    def _thinking(
        self, header: str, thought: tuple[str, str, bool] | None, plain: str
    ) -> tuple[Pair | None, str]:
        """Return the texts around thinking, and what opens the content after it."""
        if thought is None:
            return None, plain[len(header) :]
        before, between, with_content = thought
        opening, rest = before[len(header) :], plain[len(header) :]
        wrapper = shared_end(rest, between) if rest.strip() else ""
        if not opening.strip():
            opening = ""
        closing = first_mark(between) or between
        if not with_content:
            wrapper = "" if opening and opening.strip() in rest else rest
        elif not opening or opening.strip() in rest or closing.strip() in wrapper:
            wrapper = between[len(closing) :]
            closing += wrapper[: len(wrapper) - len(wrapper.lstrip())]
            wrapper = wrapper.lstrip()
        else:
            closing = between[: len(between) - len(wrapper)]
        if not closing.strip():
            return None, rest
        if not opening:
            opening = self._opening(before, closing, len(header))
        return Pair(opening, closing), wrapper

    def _opening(self, before: str, closing: str, header: int) -> str:
        """Return the mark that opens thinking, where every turn and prompt has it or none."""
        mark = twin(closing)
        if mark and mark in before:
            return before[before.rfind(mark) :]
        tail = self._tails.open
        if mark and (mark in tail or mark in self._source):
            return mark
        written = self._behind_user(tail)[header:] if tail else ""
        return written if written.strip() else last_mark(before)

    # Calls

    def _call(
        self, name: str, arguments: Mapping[str, Any], identifier: str, *, text: bool = False
    ) -> list[dict[str, Any]]:
        given = json.dumps(arguments) if text else JsonObject(arguments)
        return [{"type": "function", "id": identifier, "function": {"name": name, "arguments": given}}]

    def _calls(self, header: str, around: Sequence[Pair | None], turn_end: str) -> CallLayout | None:
        """Return the layout of calls; ``around`` are the texts around thinking and content."""
        if "tool_calls" not in self._source:
            return None
        for text in (False, True):
            for message in ({"content": ""}, {"content": None}, {}, {"content": CONTENT}):
                turn = functools.partial(self._turn_of_calls, message, text)
                one = turn((NAMES[0], FIRST, IDS[0]))
                if one is None or FIRST[KEYS[0]] not in one:
                    continue
                two = turn((NAMES[0], FIRST, IDS[0]), (NAMES[1], SECOND, IDS[1]))
                if two is not None and SECOND[KEYS[0]] not in two:
                    two = None
                kinds = turn((NAMES[0], TYPED, IDS[0])) if "{" not in one.partition(NAMES[0])[2] else None
                start = self._start_of_calls(one, header, around)
                start = max(start, one.find(CONTENT) + len(CONTENT) if CONTENT in one else 0)
                layout = layout_of(
                    Renderings(
                        one[start:], None if two is None else two[start:], kinds, turn_end, self._source
                    )
                )
                if layout is not None:
                    return layout
        return None

    def _turn_of_calls(
        self, message: Mapping[str, Any], text: bool, *calls: tuple[str, Mapping[str, Any], str]
    ) -> str | None:
        made = [each for call in calls for each in self._call(*call, text=text)]
        typed = calls[0][1] is TYPED
        return self._turn({"role": "assistant", **message, "tool_calls": made}, tools=tools(typed=typed))

    def _start_of_calls(self, text: str, header: str, around: Sequence[Pair | None]) -> int:
        """Return where the calls of a turn begin: behind its header, empty thinking and empty content."""
        start = len(shared_start(text, header))
        end = min(at for at in (text.find(NAMES[0]), text.find(IDS[0]), len(text)) if at >= 0)
        for pair in around:
            for mark in (pair.open.strip(), pair.close.strip()) if pair is not None else ():
                at = text.rfind(mark, start, end) if mark else -1
                if at >= 0:
                    start = at + len(mark)
        return start
