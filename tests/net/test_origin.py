"""Origins of URLs."""

import pytest

from ollama_tw.net.origin import BadURL, Origin, origin_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://Example.com", Origin("http", "example.com", 80)),
        ("https://a.b:8443/x?y", Origin("https", "a.b", 8443)),
        ("https://[2001:db8::1]/", Origin("https", "2001:db8::1", 443)),
    ],
)
def test_origins(text: str, expected: Origin) -> None:
    assert origin_of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/v2/",
        "ftp://a",
        "file:///etc/passwd",
        "https://",
        "https://u:p@a/",
        "http://a\r\nb/",
        "http://a:x/",
        "http://a\\b/",
    ],
)
def test_invalid_urls(text: str) -> None:
    with pytest.raises(BadURL):
        origin_of(text)
