"""Values of Go's literals: strings, characters and numbers.

Source: The Go Programming Language Specification, "String literals", "Rune literals", "Integer literals".
"""

import re

_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))", re.DOTALL
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip
_INTEGER = re.compile(
    r"([+-]?)(?:0[xX]((?:_?[0-9a-fA-F])+)|0[bB]((?:_?[01])+)|0[oO]?((?:_?[0-7])+)|(0|[1-9](?:_?[0-9])*))\Z"
)
_FLOAT = re.compile(
    r"[+-]?(?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9]+)?\Z"
)
_HEX_FLOAT = re.compile(
    r"[+-]?0[xX](?:_?[0-9a-fA-F])*(?:\.(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?)?[pP][+-]?[0-9]+\Z"
)
_BASES = (16, 2, 8, 10)
_INT_LIMIT = 2**63
_UINT_LIMIT = 2**64
_LONGEST_NUMBER = 400


def to_bytes(text: str) -> bytes:
    """Return ``text`` in UTF-8. A byte that is not UTF-8 is a lone surrogate in ``text`` (PEP 383)."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def from_bytes(data: bytes) -> str:
    """Return the text of ``data``, the inverse of `to_bytes`."""
    return data.decode("utf-8", "surrogateescape")


def valid_text(text: str) -> str:
    """Return ``text`` with U+FFFD for bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return to_bytes(text).decode("utf-8", "replace")
    return text


def unquote(literal: str) -> str:
    """Return the text of a string in double quotes or backquotes. Raises ValueError("invalid syntax")."""
    if literal.startswith("`"):
        return literal[1:-1].replace("\r", "")
    return _unescape(literal[1:-1], quote='"')


def character(literal: str) -> int:
    """Return the code point of a constant such as ``'a'``. Raises ValueError with Go's text."""
    try:
        data = _unescape(literal[1:-1], quote="'")
    except ValueError:
        data = ""
    if len(data) != 1:
        raise ValueError(f"malformed character constant: {literal}")
    code = ord(data)
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code


def number(literal: str) -> int | float | complex:
    """Return the value of a numeric constant, an int, float or complex according to its spelling.

    Raises ValueError with Go's text.
    """
    if len(literal) > _LONGEST_NUMBER:
        raise ValueError(f"number of more than {_LONGEST_NUMBER} characters")
    if literal.endswith("i"):
        real, imaginary = _complex_parts(literal[:-1])
        return complex(_floating(real, literal) if real else 0.0, _floating(imaginary, literal))
    match = _INTEGER.match(literal)
    if match is None:
        value = _floating(literal, literal)
        if not set(literal) & set(".eEpP"):
            raise ValueError(f'integer overflow: "{literal}"')
        return value
    sign, *digits = match.groups()
    integer = next(
        int(text.replace("_", ""), base)
        for text, base in zip(digits, _BASES, strict=True)
        if text is not None
    )
    if sign == "-":
        integer = -integer
    if not -_INT_LIMIT <= integer < _UINT_LIMIT:
        raise ValueError(f'integer overflow: "{literal}"')
    return integer


def _complex_parts(literal: str) -> tuple[str, str]:
    for position in range(len(literal) - 1, 0, -1):
        if literal[position] in "+-" and literal[position - 1] not in "eEpP":
            return literal[:position], literal[position:]
    return "", literal


def _floating(literal: str, whole: str) -> float:
    try:
        if _FLOAT.match(literal):
            value = float(literal)
        elif _HEX_FLOAT.match(literal):
            value = float.fromhex(literal.replace("_", ""))
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f'illegal number syntax: "{whole}"') from None
    if value in (float("inf"), float("-inf")):
        raise ValueError(f'illegal number syntax: "{whole}"')
    return value


def _unescape(body: str, quote: str) -> str:
    def replace(match: re.Match[str]) -> str:
        simple, octal, byte, short, long, other = match.groups()
        if simple is not None:
            if simple in "'\"" and simple != quote:
                raise ValueError("invalid syntax")
            return _SIMPLE[simple]
        if octal is not None or byte is not None:
            code = int(octal, 8) if octal is not None else int(byte, 16)
            if code > 0xFF:
                raise ValueError("invalid syntax")
            return chr(code) if code < 0x80 else chr(0xDC00 + code)
        code = int(short or long or "110000", 16)
        if other is not None or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise ValueError("invalid syntax")
        return chr(code)

    text = _ESCAPE.sub(replace, body)
    # Adjacent escaped bytes may form a character.
    return from_bytes(to_bytes(text)) if not text.isascii() else text
