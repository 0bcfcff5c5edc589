import pytest
from twisted.web.http_headers import Headers

from ollama_tw.http.server.identity import identity_of

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("given", ["order-4711", "a", "A.b_c~d:e+f=g@h-1", "x" * 128, "  padded "])
def test_the_id_of_the_client_is_taken_over(given: str) -> None:
    assert identity_of(Headers({"x-request-id": [given]})).request_id == given.strip()


@pytest.mark.parametrize(
    "given", [[], [""], ["x" * 129], ["two words"], ['"'], ["a\x1b[31m"], ["a/b"], ["grün"], ["a", "b"]]
)
def test_any_other_id_is_replaced_by_a_new_one(given: list[str]) -> None:
    first, second = (identity_of(Headers({"x-request-id": given})).request_id for _ in range(2))
    assert len(first) == len(second) == 24
    assert first != second
    int(first, 16)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (TRACE, TRACE),
        (TRACE.upper(), ""),
        (TRACE + "-more", ""),
        ("ff" + TRACE[2:], ""),
        (TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), ""),
        (TRACE.replace("00f067aa0ba902b7", "0" * 16), ""),
        ("", ""),
    ],
)
def test_only_a_valid_traceparent_is_kept(given: str, kept: str) -> None:
    assert identity_of(Headers({"traceparent": [given]})).traceparent == kept
