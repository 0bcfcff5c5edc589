"""permessage-deflate (RFC 7692), such that a connection keeps nothing of it while it is idle."""

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

# zlib takes 4 << bits and 512 << level bytes for a compressor: 8 KiB, where its own defaults make
# 256. Records are alike, and the last few suffice to compress the next one.
_WINDOW_BITS = 10
_MEMORY_LEVEL = 3

_TOO_BIG = WebSocketProtocol.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG
_INVALID = WebSocketProtocol.CLOSE_STATUS_CODE_INVALID_PAYLOAD


class Deflate(PerMessageDeflate):
    """Both directions of one connection.

    The client's messages are compressed each by itself, so that nothing is kept between them. What
    the server sends has one context as long as the connection is busy: see :meth:`rest`.
    """

    def __init__(self, agreed: PerMessageDeflate, fail: Callable[[int, str], None]) -> None:
        """``agreed`` has the parameters that were negotiated; ``fail`` closes the connection with a
        code and a reason."""
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
        """The payload of the frame that carries ``message``."""
        self.start_compress_message()
        compressed: bytes = self.compress_message_data(message) + self.end_compress_message()
        return compressed

    # Raised, errors would have Autobahn stop within the frame and never see the next one, in which
    # the client agrees to the end.

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
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
        try:
            if not self._broken:
                super().end_decompress_message()
        except PayloadCorruptError:
            self._break(_INVALID, "the message cannot be decompressed")
        self._decompressor = None

    def _break(self, code: int, reason: str) -> None:
        self._broken = True
        self._fail(code, reason)

    def rest(self) -> None:
        """Forget what was sent: the next message refers to nothing before it, which is always allowed."""
        self._compressor = None


def accept(offers: Iterable[Any], max_message: int) -> PerMessageDeflateOfferAccept | None:
    """The answer to the first offer of permessage-deflate, None without one. ``max_message`` is in bytes."""
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
    """Whether the extension that a client names is one that can be accepted. RFC 7692 lets the server
    pass over an offer with parameters that it does not know, where Autobahn refuses the handshake."""
    if name != PerMessageDeflateOffer.EXTENSION_NAME:
        return False
    try:
        PerMessageDeflateOffer.parse(parameters)
    except Exception:
        # Autobahn has no narrower type for it.
        return False
    return True
