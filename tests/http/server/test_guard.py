import pytest

from ollama_tw.config.parsers import LOCAL_ORIGINS
from ollama_tw.http.server.guard import ADMITTED, Decision, HostPolicy, OriginPolicy

HOST = "127.0.0.1:11434"
PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        (
            "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,"
            "X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,"
            "X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,"
            "X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout,X-Api-Key,Anthropic-Version,"
            "Anthropic-Beta,Anthropic-Dangerous-Direct-Browser-Access,Openai-Organization,Openai-Project,"
            "X-Request-Id,Traceparent,Tracestate,Baggage,Cache-Control"
        ),
    ),
    ("Access-Control-Max-Age", "43200"),
)


@pytest.mark.parametrize("origin", [None, "", "http://127.0.0.1:11434", "https://127.0.0.1:11434"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_origin_and_the_servers_own_get_no_cors_headers(origin: str | None, method: str) -> None:
    assert OriginPolicy(LOCAL_ORIGINS).decide(method, origin, HOST) == ADMITTED


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:5173",
        "https://127.0.0.1:8443",
        "http://0.0.0.0:1",
        "app://obsidian.md",
        "file://",
        "tauri://localhost",
        "vscode-webview://abc",
        "vscode-file://vscode-app",
        "https://example.com",
        "https://a.wild.example",
        "chrome-extension://abc",
        "http://pre-x-post.example",
    ],
)
def test_allowed_origins(origin: str) -> None:
    policy = OriginPolicy(
        [
            *LOCAL_ORIGINS,
            "https://example.com",
            "https://*.wild.example",
            "chrome-extension://*",
            "http://pre-*-post.example",
        ]
    )
    assert policy.decide("POST", origin, HOST) == Decision(
        None, (("Vary", "Origin"), ("Access-Control-Allow-Origin", origin))
    )


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://[::1]:3000",
        "https://Example.com",
        "https://example.com.evil.example",
        "https://wild.example",
        "http://localhost.evil.example",
        "chrome-extension://abc",
        "null",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_foreign_origins_are_refused_for_each_method(origin: str, method: str) -> None:
    policy = OriginPolicy([*LOCAL_ORIGINS, "https://example.com", "https://*.wild.example"])
    assert policy.decide(method, origin, HOST) == Decision(403)


def test_an_asterisk_allows_all_origins_without_vary() -> None:
    policy = OriginPolicy(["*"])
    star = (("Access-Control-Allow-Origin", "*"),)
    assert policy.decide("GET", "http://evil.example", HOST) == Decision(None, star)
    assert policy.decide("OPTIONS", "null", HOST) == Decision(204, PREFLIGHT + star)


def test_preflight_of_a_listed_origin() -> None:
    assert OriginPolicy(LOCAL_ORIGINS).decide("OPTIONS", "http://localhost:3000", HOST) == Decision(
        204,
        (
            *PREFLIGHT,
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", "http://localhost:3000"),
            ("Vary", "Access-Control-Request-Method"),
            ("Vary", "Access-Control-Request-Headers"),
        ),
    )


@pytest.mark.parametrize(
    ("requested", "added"),
    [
        ("x-stainless-new, x-title", ",x-stainless-new,x-title"),
        ("authorization,anthropic-version", ""),
        ("bad name,a\r\nb,", ""),
        (",".join(f"h{i}" for i in range(65)), "".join(f",h{i}" for i in range(64))),
    ],
)
def test_a_preflight_allows_the_headers_that_it_asks_for(requested: str, added: str) -> None:
    decision = OriginPolicy(["*"]).decide("OPTIONS", "http://page.example", HOST, requested)
    assert dict(decision.headers)["Access-Control-Allow-Headers"] == PREFLIGHT[1][1] + added


@pytest.mark.parametrize(
    ("origin", "restricted"),
    [
        (None, False),
        ("", False),
        (f"http://{HOST}", False),
        ("http://localhost:5173", False),
        ("tauri://localhost", False),
        ("http://page.example", True),
        ("http://localhost.page.example", True),
        ("null", True),
    ],
)
def test_pages_that_may_not_change_models_by_default(origin: str | None, restricted: bool) -> None:
    assert OriginPolicy(["*", *LOCAL_ORIGINS], guards_models=True).restricts(origin, HOST) is restricted
    assert not OriginPolicy(["*", *LOCAL_ORIGINS]).restricts(origin, HOST)


LOOPBACK = HostPolicy("127.0.0.1", ["203.0.113.7", "fe80::1"], "MyBox")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:11434",
        "127.9.9.9",
        "[::1]:11434",
        "::1",
        "[::ffff:127.0.0.1]:80",
        "10.1.2.3",
        "172.31.0.1:80",
        "192.168.0.9",
        "[fd00::5]:1",
        "0.0.0.0:11434",
        "[::]:11434",
        "203.0.113.7:11434",
        "[fe80::1]:11434",
    ],
)
def test_local_addresses_are_admitted(host: str) -> None:
    assert LOOPBACK.decide("GET", host) == ADMITTED
    assert LOOPBACK.decide("OPTIONS", host) == ADMITTED


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LocalHost:11434",
        "localhost:",
        "mybox:1",
        "MYBOX",
        "a.localhost",
        "box.local",
        "x.internal:9",
    ],
)
def test_local_names_are_admitted(host: str) -> None:
    assert LOOPBACK.decide("POST", host) == ADMITTED
    assert LOOPBACK.decide("OPTIONS", host) == Decision(204)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:11434",
        "[::1]",
        "8.8.8.8",
        "172.32.0.1",
        "169.254.1.1",
        "203.0.113.8",
        "192.0.2.1",
        "[2001:db8::1]:80",
        "localhost.evil.example",
        "notlocalhost",
        ".local.evil.example",
        "127.0.0.1.evil.example",
        "a:b:c",
        "[::1]:80]",
        "local",
        "127.1",
        "017.0.0.1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_foreign_names_are_refused(host: str, method: str) -> None:
    assert LOOPBACK.decide(method, host) == Decision(403)


@pytest.mark.parametrize("bound", ["127.0.0.1", "127.0.0.2", "::1", "/run/ollama.sock", "localhost"])
def test_loopback_binds_are_protected(bound: str) -> None:
    assert HostPolicy(bound, [], "box").decide("GET", "evil.example") == Decision(403)


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "192.168.1.2", "203.0.113.7"])
def test_other_binds_admit_every_name(bound: str) -> None:
    assert HostPolicy(bound, [], "box").decide("OPTIONS", "evil.example") == ADMITTED
