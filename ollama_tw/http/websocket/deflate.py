"""permessage-deflate (RFC 7692) without memory for idle connections."""

# mypy: allow-untyped-calls, disallow-subclassing-any=False
# (Autobahn is not typed for strict checking)

from collections.abc import Callable, Iterable
from typing import Any

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from autobahn.websocket.compress import (
    PerMessageDeflate,
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
)
from autobahn.websocket.protocol import WebSocketProtocol

# zlib allocates 4 << bits and 512 << level bytes for a compressor: 8 KiB instead of 256 KiB with its
# defaults. Records are alike, and the last few suffice to compress the next one.
_WINDOW_BITS = 10
_MEMORY_LEVEL = 3

_TOO_BIG = WebSocketProtocol.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG
_INVALID = WebSocketProtocol.CLOSE_STATUS_CODE_INVALID_PAYLOAD


class Deflate(PerMessageDeflate):
    """Compressor and decompressor of one connection.

    The client's messages are decompressed without a common context. The server's messages share one
    while requests are running: see :meth:`reset`.
    """

    def __init__(self, agreed: PerMessageDeflate, fail: Callable[[int, str], None]) -> None:
        """Use the negotiated parameters of ``agreed``; ``fail`` closes with a code and a reason."""
        super().__init__(
            True,
            agreed.server_no_context_takeover,
            agreed.client_no_context_takeover,
            agreed.server_max_window_bits,
            agreed.client_max_window_bits,
            agreed.mem_level,
            agreed.max_message_size,
        )
        self._fail = fail
        self._broken = False

    def compress(self, message: bytes) -> bytes:
        """Return the payload of the frame for ``message``."""
        self.start_compress_message()
        compressed: bytes = self.compress_message_data(message) + self.end_compress_message()
        return compressed

    # Errors are reported by ``fail``: if they were raised, Autobahn would stop within the frame and
    # never read the client's close frame.

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        """Decompress a part of a message; return nothing after an error."""
        if self._broken:
            return b""
        try:
            message: bytes = super().decompress_message_data(data, max_output_len)
        except PayloadExceededError:
            self._break(_TOO_BIG, "the message is too large")
        except PayloadCorruptError:
            self._break(_INVALID, "the message cannot be decompressed")
        else:
            return message
        return b""

    def end_decompress_message(self) -> None:
        """End a message and release the decompressor."""
        try:
            if not self._broken:
                super().end_decompress_message()
        except PayloadCorruptError:
            self._break(_INVALID, "the message cannot be decompressed")
        self._decompressor = None

    def _break(self, code: int, reason: str) -> None:
        self._broken = True
        self._fail(code, reason)

    def reset(self) -> None:
        """Release the compressor: the next message begins a new context, which is always allowed."""
        self._compressor = None


def accept(offers: Iterable[Any], max_message: int) -> PerMessageDeflateOfferAccept | None:
    """Return the answer to the first offer of permessage-deflate. ``max_message`` is in bytes."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(
                offer,
                request_no_context_takeover=True,
                window_bits=min(_WINDOW_BITS, offer.request_max_window_bits or _WINDOW_BITS),
                mem_level=_MEMORY_LEVEL,
                max_message_size=max_message,
            )
    return None


def is_offer(name: str, parameters: Any) -> bool:
    """Return whether an extension of a handshake is an acceptable offer of permessage-deflate.

    RFC 7692 lets the server ignore an offer with unknown parameters; Autobahn refuses the handshake.
    """
    if name != PerMessageDeflateOffer.EXTENSION_NAME:
        return False
    try:
        PerMessageDeflateOffer.parse(parameters)
    except Exception:
        # Autobahn raises no narrower type.
        return False
    return True
