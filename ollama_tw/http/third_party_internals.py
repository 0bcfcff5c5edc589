"""Private names of Twisted and Autobahn that the HTTP and WebSocket endpoints use or override.

Their releases may rename them without notice. ``tests/http/test_third_party_internals.py`` fails if one
of them is missing from the installed release, and if the endpoints use one that is not listed here.
"""

from collections.abc import Mapping

PRIVATE_NAMES: Mapping[str, frozenset[str]] = {
    # The request line as received, and reading paused while a body waits for the disk.
    "twisted.web.http.HTTPChannel": frozenset(
        {
            "_command",
            "_networkProducer",
            "_path",
            "_respondToBadRequestAndDisconnect",
            "_send100Continue",
            "_version",
        }
    ),
    # Compression by an extension of this server, with bounded memory.
    "autobahn.websocket.protocol.WebSocketProtocol": frozenset(
        {"_fail_connection", "_parseExtensionsHeader", "_perMessageCompress"}
    ),
    "autobahn.websocket.compress_deflate.PerMessageDeflate": frozenset({"_compressor", "_decompressor"}),
    # A close that waits until the last frame is written.
    "autobahn.twisted.websocket.WebSocketAdapterProtocol": frozenset({"_closeConnection"}),
}
"""Private attributes and methods by the class that defines them."""
