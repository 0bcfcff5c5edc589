"""Go's text/template as Ollama's models use it: `parse` a template once, `Template.render` it often.

Written from Go's documentation and Ollama's behaviour; values are plain data, nothing of Python can
be reached from a template, and what an execution may cost is bounded.
"""

from ollama_tw.templates.gotemplate.errors import TemplateError
from ollama_tw.templates.gotemplate.inspection import TemplateTraits, ThinkingTags
from ollama_tw.templates.gotemplate.template import Template, parse, template_traits

__all__ = ["Template", "TemplateError", "TemplateTraits", "ThinkingTags", "parse", "template_traits"]
