import pytest

from ollama_tw.cli.hints import pull_hint


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("pull model manifest: file does not exist", "check the name and the tag"),
        (
            'Get "https://registry.ollama.ai/v2/": dial tcp: lookup registry.ollama.ai: no such host',
            "check its network, and HTTPS_PROXY",
        ),
        (
            'pull model manifest: Get "https://h/v2/": the proxy refused the connection: 407 Required',
            "check HTTPS_PROXY and NO_PROXY",
        ),
        ("max retries exceeded: unexpected EOF", "what was downloaded is kept"),
        ("write /x: no space left on device", "OLLAMA_MODELS"),
    ],
)
def test_what_to_do_about_a_failed_pull(error: str, advice: str) -> None:
    assert advice in pull_hint(error)


def test_nothing_is_advised_about_other_errors() -> None:
    assert pull_hint("400 Bad Request: invalid model name") == ""
