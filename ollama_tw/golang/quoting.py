"""String literals in Go's syntax.

A ``str`` stands for a Go string; a byte that is not UTF-8 is a lone surrogate (PEP 383).

Source: Go's packages ``strconv`` (Quote, QuoteToASCII, QuoteRune) and ``time`` (errors of ParseDuration).
"""

_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


def quote(text: str, mark: str = '"', *, only_ascii: bool = False) -> str:
    """Return ``text`` between two ``mark``, with unprintable characters escaped, as ``%q`` does.

    With ``only_ascii`` all characters beyond ASCII are escaped, as ``%+q`` does.
    """
    parts = [mark]
    for character in text:
        if character in (mark, "\\"):
            parts.append(f"\\{character}")
        elif character.isprintable() and (not only_ascii or character < "\x80"):
            parts.append(character)
        else:
            parts.append(_escape(character))
    parts.append(mark)
    return "".join(parts)


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quote_bytewise(text: str) -> str:
    r"""Return ``text`` in double quotes as the errors of Go's package ``time`` quote it.

    Control characters and the UTF-8 bytes of characters beyond ASCII are written as ``\xNN``.
    """
    quoted = []
    for byte in text.encode("utf-8", "surrogatepass"):
        if byte in b'"\\':
            quoted.append("\\" + chr(byte))
        elif 0x20 <= byte < 0x80:
            quoted.append(chr(byte))
        else:
            quoted.append(f"\\x{byte:02x}")
    return '"' + "".join(quoted) + '"'
