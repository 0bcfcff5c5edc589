"""Detection of the named Go template that is equivalent to a file's chat template."""

from ollama_tw.gguf.reader import Header
from ollama_tw.templates.known_formats import NamedTemplate, detect


def detect_template(header: Header) -> NamedTemplate | None:
    """Return the named Go template that renders like the file's chat template, with the file's tokens.

    Returns None if there is none. Blocking: reads the vocabulary; raises OSError, GGUFError.
    """
    chat_template = header.chat_template or ""
    if header.metadata.get("tokenizer.ggml.add_bos_token") is False and "bos_token" in chat_template:
        # Go templates leave the first token to the tokenizer, which leaves it to the template here.
        return None
    tokens = header.raw_strings("tokenizer.ggml.tokens")
    return detect(chat_template, bos=_token(header, tokens, "bos"), eos=_token(header, tokens, "eos"))


def _token(header: Header, tokens: list[bytes], name: str) -> str | None:
    number = header.metadata.get(f"tokenizer.ggml.{name}_token_id")
    if not isinstance(number, int) or not 0 <= number < len(tokens):
        return None
    return tokens[number].decode("utf-8", "replace")
