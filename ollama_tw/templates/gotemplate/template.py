"""Parsed templates and their execution for a conversation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from ollama_tw.templates.gotemplate import inspection, nodes
from ollama_tw.templates.gotemplate.data import collate, message_values, tool_values
from ollama_tw.templates.gotemplate.errors import TemplateError
from ollama_tw.templates.gotemplate.evaluator import Program
from ollama_tw.templates.gotemplate.execution import MAX_OUTPUT
from ollama_tw.templates.gotemplate.functions import BUILTINS, FUNCTIONS, Environment
from ollama_tw.templates.gotemplate.inspection import TemplateTraits
from ollama_tw.templates.gotemplate.parser import parse_trees
from ollama_tw.templates.gotemplate.values import INVALID, Value


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A parsed template, made by :func:`parse`. Immutable; any number of threads may render it at once.

    ``text`` is the source of the template.
    """

    text: str
    traits: TemplateTraits
    _whole: Program = field(repr=False)
    _last_turn: Program | None = field(repr=False)

    def render(
        self,
        messages: Sequence[Any],
        *,
        now: datetime,
        tools: Sequence[Any] | None = None,
        think: bool | str | None = None,
        prompt: str = "",
        suffix: str = "",
    ) -> str:
        """Return the prompt for a conversation, with the last message left open if it is the assistant's.

        ``messages``: mappings in the shape of the API's JSON, or objects with the same attributes: ``role``,
        ``content``, ``thinking``, ``images``, ``tool_calls`` (``id``, ``function``: ``index``, ``name``,
        ``arguments``), ``tool_name``, ``tool_call_id``. ``tools``: ``type``, ``function`` (``name``,
        ``description``, ``parameters``: a JSON schema). ``think``: None if the request does not set it.
        With both ``prompt`` and ``suffix`` the result is the prompt to fill in the text between the two,
        and the messages are ignored; one of them alone is not used. ``now`` is the local time.

        Raises TemplateError. Source: ollama: template/template.go, Template.Execute.
        """
        environment = Environment(now, MAX_OUTPUT)
        thinking = {
            "Think": bool(think),
            "ThinkLevel": think if isinstance(think, str) else "medium" if think else "",
            "IsThinkSet": think is not None,
        }
        if prompt and suffix:
            return self._whole.execute(
                {"Prompt": prompt, "Suffix": suffix, "Response": "", **thinking}, environment
            )
        system, collated = collate(messages)
        if self._last_turn is not None:
            return self._render_turns(self._last_turn, collated, thinking, environment)
        try:
            conversation = {"Messages": message_values(collated), "Tools": tool_values(tools)}
        except RecursionError:
            raise TemplateError(1, "template: :1: messages or tools nested too deeply") from None
        return self._whole.execute(
            {"System": system, **conversation, "Response": "", **thinking}, environment
        )

    def _render_turns(
        self,
        last_turn: Program,
        messages: Sequence[dict[str, Any]],
        thinking: dict[str, Value],
        environment: Environment,
    ) -> str:
        """Execute a template without ``.Messages`` once for each turn; the last one stays open."""
        turns: list[str] = []
        turn = {"System": "", "Prompt": "", "Response": ""}
        for message in messages:
            role = message["role"]
            begins_turn = (role == "system" and (turn["Prompt"] or turn["Response"])) or (
                role == "user" and turn["Response"]
            )
            if begins_turn:
                turns.append(self._whole.execute({**turn, **thinking}, environment))
                turn = {"System": "", "Prompt": "", "Response": ""}
            if role in _TURN_FIELDS:
                turn[_TURN_FIELDS[role]] = message["content"]
        turns.append(last_turn.execute({**turn, **thinking}, environment))
        return "".join(turns)


_TURN_FIELDS = {"system": "System", "user": "Prompt", "assistant": "Response"}


def parse(text: str) -> Template:
    """Parse and compile a template.

    A template that contains neither ``.Messages`` nor ``.Response`` gets ``{{ .Response }}`` at its end.
    Raises TemplateError. Source: ollama: template/template.go, Parse.
    """
    try:
        return _compiled(text, parse_trees(text, FUNCTIONS))
    except RecursionError:
        raise TemplateError(1, "template: :1: exceeded maximum nesting depth") from None


@lru_cache(maxsize=4096)
def template_traits(text: str) -> TemplateTraits:
    """Return the traits of the template ``text``; cached, since each listing of models needs them all.

    Raises TemplateError.
    """
    return parse(text).traits


def _compiled(text: str, trees: dict[str, nodes.Nodes]) -> Template:
    names = inspection.identifiers(text, trees.values())
    if not names & {"messages", "response"}:
        trees = {**trees, "": (*trees[""], _response(len(text)))}
        names |= {"response"}
    main = trees[""]
    last_turn = None
    if "messages" not in names:
        # Ollama executes the cut template by itself: without its own functions, definitions and options.
        cut = inspection.cut_after_response(main)
        last_turn = Program(text, {"": cut}, BUILTINS, missing=INVALID)
    return Template(
        text=text,
        traits=TemplateTraits(names, inspection.tool_tag(main), inspection.thinking_tags(main)),
        _whole=Program(text, trees, FUNCTIONS),
        _last_turn=last_turn,
    )


def _response(position: int) -> nodes.Action:
    field_ = nodes.Field(position, ("Response",))
    return nodes.Action(position, nodes.Pipe(position, (), False, (nodes.Command(position, (field_,)),)))
