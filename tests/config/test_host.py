import pytest

from ollama_tw.config.host import Endpoint, is_loopback


def parse(text: str) -> tuple[str, list[str]]:
    notes: list[str] = []
    endpoint = Endpoint.parse(text, notes.append)
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    path = f"/{endpoint.path}" if endpoint.path else ""
    return f"{endpoint.scheme}://{host}:{endpoint.port}{path}", notes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("0.0.0.0", "http://0.0.0.0:11434"),
        (":1234", "http://:1234"),
        (":0", "http://:0"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"),
        ("127.0.0.1:0", "http://127.0.0.1:0"),
        ("127.0.0.1:65535", "http://127.0.0.1:65535"),
        ("example.com", "http://example.com:11434"),
        ("example.com:1234", "http://example.com:1234"),
        ("my_host-1.lan", "http://my_host-1.lan:11434"),
        ("bücher.example", "http://bücher.example:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::]", "http://[::]:11434"),
        ("::1", "http://[::1]:11434"),
        ("::", "http://[::]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("0:0:0:0:0:0:0:1", "http://[::1]:11434"),
        ("fe80::1%eth0", "http://[fe80::1%eth0]:11434"),
        ("[fe80::1%eth0]:80", "http://[fe80::1%eth0]:80"),
        ("::ffff:127.0.0.1", "http://127.0.0.1:11434"),
        (" 1.2.3.4 ", "http://1.2.3.4:11434"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://1.2.3.4:4321", "https://1.2.3.4:4321"),
        ("http://[::1]", "http://[::1]:80"),
        ("http://:1234", "http://:1234"),
        ("http://", "http://127.0.0.1:80"),
        ("https://example.com/ollama", "https://example.com:443/ollama"),
        ("https://example.com:8443/a/b/", "https://example.com:8443/a/b"),
        ("example.com/ollama", "http://example.com:11434/ollama"),
        ("1.2.3.4:11434/", "http://1.2.3.4:11434"),
        ("ollama.com", "https://ollama.com:443"),
        ("http://ollama.com", "http://ollama.com:80"),
    ],
)
def test_forms_of_a_host(text: str, expected: str) -> None:
    assert parse(text) == (expected, [])


@pytest.mark.parametrize(
    ("text", "expected", "port"),
    [
        (":66000", "http://:11434", 11434),
        (":-1", "http://:11434", 11434),
        ("0.0.0.0:", "http://0.0.0.0:11434", 11434),
        ("1.2.3.4:http", "http://1.2.3.4:11434", 11434),
        ("[::1]:99999", "http://[::1]:11434", 11434),
        ("localhost:٣", "http://localhost:11434", 11434),
        ("http://1.2.3.4:x", "http://1.2.3.4:80", 80),
        ("https://example.com:70000/p", "https://example.com:443/p", 443),
    ],
)
def test_a_bad_port_is_replaced_and_the_host_kept(text: str, expected: str, port: int) -> None:
    assert parse(text) == (expected, [f"has a port that is not a number from 0 to 65535; using port {port}"])


@pytest.mark.parametrize(
    "text",
    [
        "ftp://1.2.3.4",
        "a:b:c",
        "::1:x::",
        "[::1",
        "[host]:80",
        "user@host",
        "two words",
        "[]",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is not|has no|has a scheme)"):
        Endpoint.parse(text, lambda note: None)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("[::]:80", "http://[::1]:80"),
        ("192.168.1.2", "http://192.168.1.2:11434"),
        ("https://example.com/ollama/", "https://example.com:443/ollama"),
    ],
)
def test_a_client_connects_to_an_address_that_exists(text: str, url: str) -> None:
    assert Endpoint.parse(text, lambda note: None).url == url


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("localhost.example.com", False),
        ("example.com", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
