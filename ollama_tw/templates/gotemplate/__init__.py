"""Go's ``text/template`` as Ollama's models use it: `parse` a template once, `Template.render` it often.

Values are plain data, so that templates cannot reach Python's objects, and the cost of an execution is
bounded. Source: Go's package ``text/template``; ollama: template/template.go.
"""

from ollama_tw.templates.gotemplate.errors import TemplateError
from ollama_tw.templates.gotemplate.inspection import TemplateTraits, ThinkingTags
from ollama_tw.templates.gotemplate.template import Template, parse, template_traits

__all__ = ["Template", "TemplateError", "TemplateTraits", "ThinkingTags", "parse", "template_traits"]
