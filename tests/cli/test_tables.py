"""Tables byte for byte, with the blanks at the ends of the lines."""

from typing import Any

import pytest

from ollama_tw.cli.description import description, metadata_text
from ollama_tw.cli.listings import model_table, processor, running_table
from ollama_tw.cli.tables import table

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
DIGEST = "0123456789abcdef" * 4


def test_an_empty_list_has_a_header() -> None:
    assert model_table([]) == "NAME    ID    SIZE    MODIFIED    \n"


def test_models() -> None:
    models = [
        {
            "name": "llama3:latest",
            "digest": DIGEST,
            "size": 4661224676,
            "modified_at": "2023-11-12T22:13:20Z",
        },
        {
            "name": "kimi-k2:1t-cloud",
            "digest": "f" * 64,
            "size": 384,
            "remote_model": "kimi-k2:1t",
            "modified_at": "0001-01-01T00:00:00Z",
        },
    ]
    assert model_table(models, NOW) == (
        "NAME                ID              SIZE      MODIFIED      \n"
        "llama3:latest       0123456789ab    4.7 GB    2 days ago    \n"
        "kimi-k2:1t-cloud    ffffffffffff    -         Never         \n"
    )


def test_running_models() -> None:
    models = [
        {
            "name": "a:latest",
            "digest": DIGEST,
            "size": 2_000_000_000,
            "size_vram": 500_000_000,
            "context_length": 4096,
            "expires_at": "2023-11-14T22:17:21.5+00:00",
        },
        {
            "name": "b:latest",
            "digest": DIGEST,
            "size": 1000,
            "size_vram": 1000,
            "context_length": 131072,
            "expires_at": "2023-11-14T22:13:19Z",
        },
        {
            "name": "c:latest",
            "digest": DIGEST,
            "size": 1000,
            "size_vram": 0,
            "context_length": 2048,
            "expires_at": "2318-01-01T00:00:00+01:00",
        },
    ]
    assert running_table(models, NOW) == (
        "NAME        ID              SIZE    PROCESSOR          CONTEXT    UNTIL                 \n"
        "a:latest    0123456789ab    2 GB    75%/25% CPU/GPU    4096       4 minutes from now    \n"
        "b:latest    0123456789ab    1 KB    100% GPU           131072     Stopping...           \n"
        "c:latest    0123456789ab    1 KB    100% CPU           2048       Forever               \n"
    )


@pytest.mark.parametrize(
    ("size", "vram", "text"),
    [
        (10, 0, "100% CPU"),
        (10, 10, "100% GPU"),
        (10, 11, "Unknown"),
        (0, 5, "Unknown"),
        (8, 7, "13%/87% CPU/GPU"),
    ],
)
def test_processors(size: int, vram: int, text: str) -> None:
    assert processor(size, vram) == text


def test_long_cells_are_wrapped_at_blanks_and_long_words_are_not() -> None:
    words = "aaaa bbbb cccc dddd eeee ffff gggg hhhh"
    word = "x" * 40
    assert table([("k", words), ("l", word)]) == (
        f"k    {'aaaa bbbb cccc dddd eeee ffff':40}    \n"
        # A cell without a second line is two blanks.
        f"      {'gggg hhhh':40}    \n"
        f"l    {word}    \n"
    )


def test_wide_characters_take_two_columns() -> None:
    assert table([("日本", "x"), ("abcd", "y")]) == "日本    x    \nabcd    y    \n"


def test_show_of_a_model_without_metadata() -> None:
    shown = {"details": {"family": "test", "parameter_size": "7B", "quantization_level": "FP16"}}
    assert description(shown) == (
        "  Model\n    architecture    test    \n    parameters      7B      \n"
        "    quantization    FP16    \n\n"
    )


SHOWN: dict[str, Any] = {
    "details": {"parameter_size": "", "quantization_level": "Q4_0"},
    "model_info": {
        "general.architecture": "llama",
        "general.parameter_count": 8030261312,
        "llama.context_length": 8192,
        "llama.embedding_length": 4096,
        "llama.rope.freq_base": 500000.0,
        "tokenizer.ggml.tokens": None,
        "tokenizer.ggml.scores": [0.5, 1, 2, 3, 4, 5],
    },
    "projector_info": {
        "general.architecture": "clip",
        "general.parameter_count": 311890944,
        "clip.vision.embedding_length": 1024,
        "clip.vision.projection_dim": 768,
    },
    "capabilities": ["completion", "vision"],
    "parameters": 'stop                           "<|user|>"\nnum_ctx                        4096',
    "tensors": [{"name": "token_embd.weight", "type": "Q4_0", "shape": [4096, 128256]}],
    "system": "  You are Mario.\n\nBe brief.\nAnd kind.\n",
    "license": "MIT License\nCopyright\n",
    "requires": "0.14.0",
}

BRIEF = """\
  Model
    architecture        llama     |
    parameters          8.0B      |
    context length      8192      |
    embedding length    4096      |
    quantization        Q4_0      |
    requires            0.14.0    |

  Capabilities
    completion    |
    vision        |

  Projector
    architecture        clip       |
    parameters          311.89M    |
    embedding length    1024       |
    dimensions          768        |

  Parameters
    stop       "<|user|>"    |
    num_ctx    4096          |

""".replace("|\n", "\n")

VERBOSE = """\
  Metadata
    general.architecture       llama                   |
    general.parameter_count    8.030261312e+09         |
    llama.context_length       8192                    |
    llama.embedding_length     4096                    |
    llama.rope.freq_base       500000                  |
    tokenizer.ggml.scores      [0.5 1 2 ...+3 more]    |
    tokenizer.ggml.tokens      <nil>                   |

  Tensors
    token_embd.weight    Q4_0    [4096 128256]    |

""".replace("|\n", "\n")

TEXTS = """\
  System
    You are Mario.    |
    Be brief.         |
    ...               |

  License
    MIT License    |
    Copyright      |

""".replace("|\n", "\n")


def test_show() -> None:
    assert description(SHOWN) == BRIEF + TEXTS


def test_show_verbose() -> None:
    assert description(SHOWN, verbose=True) == BRIEF + VERBOSE + TEXTS


def test_a_stub_is_shown_with_its_server() -> None:
    shown = {
        "details": {"quantization_level": ""},
        "model_info": {},
        "remote_model": "kimi-k2:1t",
        "remote_host": "https://ollama.com:443",
    }
    assert description(shown).splitlines()[1:4] == [
        "    Remote model    kimi-k2:1t                ",
        "    Remote URL      https://ollama.com:443    ",
        "    quantization                              ",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        ("text", "text"),
        (1048576, "1.048576e+06"),
        (None, "<nil>"),
        ([], "[]"),
        (["a very long first item", 2], "[a very long first item ...+1 more]"),
        ([1, 2], "[1 2]"),
    ],
)
def test_metadata(value: object, text: str) -> None:
    assert metadata_text(value) == text
