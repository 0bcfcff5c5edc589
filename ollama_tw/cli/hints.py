"""Advice for a pull that failed, by the text of its error. Pure."""

from collections.abc import Sequence

_OFFLINE = "a GGUF file on this machine needs no network: ollama pull ./FILE.gguf"
_NO_NETWORK = "the server cannot reach the registry: check its network, and HTTPS_PROXY for a proxy;\n"
_HINTS: Sequence[tuple[tuple[str, ...], str]] = (
    (("the proxy ",), "check HTTPS_PROXY and NO_PROXY in the environment of the server"),
    (
        ("no such host", "connection refused", "cannot be reached", "did not answer in time", "was lost"),
        f"{_NO_NETWORK}{_OFFLINE}",
    ),
    (
        ("failed to verify certificate",),
        "set SSL_CERT_FILE in the environment of the server to the certificates of your network",
    ),
    (("server gave HTTP response",), "the registry has no TLS: use --insecure if you trust the network"),
    (("unauthorized",), "check the name; a private model needs ollama signin, and access for your account"),
    (
        ("file does not exist",),
        f"check the name and the tag: https://ollama.com/search lists models;\n{_OFFLINE}",
    ),
    (("no space left",), "free some space, or set OLLAMA_MODELS to a larger disk, then pull again to resume"),
    (("max retries exceeded", "unexpected EOF"), "pull again: what was downloaded is kept"),
)


def pull_hint(message: str) -> str:
    """Return what to do about the error ``message`` of a pull, "" if nothing is known."""
    return next((hint for texts, hint in _HINTS if any(text in message for text in texts)), "")
