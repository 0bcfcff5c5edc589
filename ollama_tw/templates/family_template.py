"""Chat template of a family, written from the texts around its messages and the layout of its calls.

The list of tools, which each family words differently, is in words of our own, with a call as the example. A
last message of the assistant is continued.
"""

import json
from functools import lru_cache
from typing import Final

from ollama_tw.output.description import CallLayout, IdPlace, Pair, Shape, TaggedArguments
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.templates.family_prompts import FAMILIES


@lru_cache(maxsize=64)
def family_template(renderer: str) -> str | None:
    """Return the Jinja template of the family that ``renderer`` names; None for an unknown name."""
    family = FAMILIES.get(renderer)
    if family is None:
        return None
    description = BY_NAME[family.parser]
    layout = family.calls or description.calls
    texts = {
        "begin": family.begin,
        "opened": family.opened,
        "closed": family.closed,
        "reopened": family.reopened,
        "unthought": family.unthought,
        "results_in_reply": family.results_in_reply,
        "keeps_thinking": family.keeps_thinking,
        "always_system": family.always_system,
        "thinking": _pair(description.thinking or Pair()),
        **{
            name: _pair(getattr(family, name))
            for name in (
                *("system", "user", "assistant", "result", "results"),
                *("asks", "asks_after", "asks_user", "content"),
            )
        },
    }
    head = "{%- set T = " + json.dumps(texts, ensure_ascii=False) + " -%}"
    return head + (_calls(layout) if layout is not None else _NO_CALLS) + _CONVERSATION


def _pair(pair: Pair) -> tuple[str, str]:
    return pair.open, pair.close


def _calls(layout: CallLayout) -> str:
    """Return the macros that write calls in ``layout``."""
    tags = layout.tagged or TaggedArguments(Pair(), Pair())
    texts = {
        **{name: _pair(getattr(layout, name)) for name in ("section", "call", "name")},
        "brackets": ("[", "]") if layout.array else ("", ""),
        "separator": layout.separator,
        "name_key": layout.name_key,
        "arguments_key": layout.arguments_key,
        "id_key": layout.id_key if layout.id_place is IdPlace.FIELD else "",
        "object": layout.shape is Shape.OBJECT,
        "notation": layout.notation.name,
        "key": _pair(tags.key),
        "value": _pair(tags.value),
        "between": tags.separator,
        "quote": layout.quote,
    }
    return "{%- set C = " + json.dumps(texts, ensure_ascii=False) + " -%}" + _CALLS


_NO_CALLS: Final = "{%- macro write_calls(calls) -%}{%- endmacro -%}"
_CALLS: Final = """
{%- macro gemma(value) -%}
{%- if value is string -%}{{ C.quote ~ value ~ C.quote }}
{%- elif value is mapping -%}{
{%- for k, v in value.items() -%}{{ (',' if not loop.first else '') ~ k ~ ':' }}{{ gemma(v) }}{%- endfor -%}}
{%- elif value is iterable -%}[
{%- for v in value -%}{{ ',' if not loop.first else '' }}{{ gemma(v) }}{%- endfor -%}]
{%- else -%}{{ value | tojson }}{%- endif -%}
{%- endmacro -%}
{%- macro write_arguments(arguments) -%}
{%- if C.notation == 'TAGGED' -%}
{%- for k, v in arguments.items() -%}
{{ (C.between if not loop.first else '') ~ C.key[0] ~ k ~ C.key[1] ~ C.value[0] }}
{{- v if v is string else v | tojson }}{{ C.value[1] }}
{%- endfor -%}
{%- elif C.notation == 'PYTHON' -%}(
{%- for k, v in arguments.items() -%}
{{ (', ' if not loop.first else '') ~ k ~ '=' ~ (v | tojson) }}
{%- endfor -%})
{%- elif C.notation == 'GEMMA' -%}{{ gemma(arguments) }}
{%- else -%}{{ arguments | tojson }}{%- endif -%}
{%- endmacro -%}
{%- macro write_calls(calls) -%}
{{ C.section[0] ~ C.brackets[0] }}
{%- for call in calls -%}
{%- set f = call.function if call.function is defined else call -%}
{{ (C.separator if not loop.first else '') ~ C.call[0] | replace('{name}', f.name) }}
{%- if C.object -%}{
{{- ('"' ~ C.id_key ~ '": "' ~ loop.index0 ~ '", ') if C.id_key else '' -}}
{{ '"' ~ C.name_key ~ '": ' ~ (f.name | tojson) ~ ', "' ~ C.arguments_key ~ '": ' ~ (f.arguments | tojson) }}}
{%- else -%}{{ C.name[0] ~ f.name ~ C.name[1] }}{{ write_arguments(f.arguments) }}
{%- endif -%}
{{ C.call[1] }}
{%- endfor -%}
{{ C.brackets[1] ~ C.section[1] }}
{%- endmacro -%}
"""
_CONVERSATION: Final = """
{%- set thinks = enable_thinking is not defined or enable_thinking -%}
{%- set last = namespace(user=-1) -%}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{%- set last.user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- set prefilled = add_generation_prompt and messages and messages[-1].role == 'assistant'
    and not messages[-1].tool_calls -%}
{%- macro write_tools() -%}
# Tools

These functions can be called:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}
A call is written like this, with the name and the arguments of the function:
{{ write_calls([{'name': 'function_name', 'arguments': {'argument_name': 'value'}}]) }}
{%- endmacro -%}
{%- macro write_system(text) -%}
{{ T.system[0] ~ T.asks[0 if thinks else 1] ~ text }}
{%- if tools -%}{{ '\\n\\n' if text else '' }}{{ write_tools() }}{%- endif -%}
{{ T.asks_after[0 if thinks else 1] ~ T.system[1] }}
{%- endmacro -%}
{{ T.begin }}
{%- if messages and messages[0].role == 'system' -%}{{ write_system(messages[0].content) }}
{%- elif tools or T.always_system or T.asks[0 if thinks else 1] or T.asks_after[0 if thinks else 1] -%}
{{ write_system('') }}
{%- endif -%}
{%- for m in messages -%}
{%- set before = messages[loop.index0 - 1].role if not loop.first else '' -%}
{%- set after = messages[loop.index0 + 1].role if not loop.last else '' -%}
{%- if m.role == 'system' -%}
{%- if not loop.first -%}{{ T.system[0] ~ m.content ~ T.system[1] }}{%- endif -%}
{%- elif m.role == 'user' -%}{{ T.user[0] ~ m.content ~ T.asks_user[0 if thinks else 1] ~ T.user[1] }}
{%- elif m.role == 'tool' -%}
{{ T.results[0] if before != 'tool' else '' }}
{{- (T.result[0] | replace('{name}', m.name or '')) ~ m.content ~ T.result[1] }}
{{- T.results[1] if after != 'tool' else '' }}
{%- else -%}
{%- set goes_on = T.results_in_reply and before == 'tool' -%}
{{ T.assistant[0] if not goes_on else '' }}
{%- if m.reasoning_content and (T.keeps_thinking or loop.index0 > last.user) -%}
{{ T.thinking[0] ~ m.reasoning_content ~ T.thinking[1] }}
{%- elif not goes_on -%}{{ T.closed if prefilled and loop.last else T.unthought }}{%- endif -%}
{%- if m.content -%}{{ T.content[0] ~ m.content }}
{{- T.content[1] if not (prefilled and loop.last) else '' }}{%- endif -%}
{%- if m.tool_calls -%}{{ write_calls(m.tool_calls) }}{%- endif -%}
{{ T.assistant[1] if not (T.results_in_reply and m.tool_calls) and not (prefilled and loop.last) else '' }}
{%- endif -%}
{%- endfor -%}
{%- set goes_on = T.results_in_reply and messages and messages[-1].role == 'tool' -%}
{%- if add_generation_prompt and goes_on -%}{{ T.reopened if thinks else '' }}
{%- elif add_generation_prompt and not prefilled -%}
{{ T.assistant[0] ~ (T.opened if thinks else T.closed) }}
{%- endif -%}
"""
