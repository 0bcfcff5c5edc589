"""What msgspec's decoders raise, in a module that imports nothing else: child processes need it, too."""

import msgspec

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Exceptions of msgspec's decoders for data that is invalid or nested too deeply.

Before msgspec 0.23 invalid UTF-8 is a UnicodeDecodeError.
"""
