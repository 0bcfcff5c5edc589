"""The configuration file: what is read, and the text and line of each mistake."""

import pytest

from ollama_tw.configfile.document import ModelConfig
from ollama_tw.configfile.parsing import parse_document
from ollama_tw.golang.durations import FOREVER, HOUR

WHOLE = """\
# The server
num_parallel = 4
keep_alive = "10m"
debug = true
origins = ["https://a.example", "https://b.example"]

[models."qwen3:8b"]
parallel = 2
context_length = 8192
keep_alive = "1h"
preload = true
gpu_layers = 20
kv_cache_type = "q8_0"
draft = "qwen3:0.6b"
options = { temperature = 0.2, stop = ["x"] }

[models."team/Small"]
pin = true

[aliases]
"gpt-4o" = "qwen3:8b"
"Other:latest" = "team/small"
"""


def test_a_whole_file() -> None:
    document = parse_document(WHOLE)
    assert document.mistakes == ()
    assert document.settings == {
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_KEEP_ALIVE": "10m",
        "OLLAMA_DEBUG": "true",
        "OLLAMA_ORIGINS": "https://a.example,https://b.example",
    }
    assert document.lines["keep_alive",] == 3
    assert document.lines["origins",] == 5
    assert document.lines["models", "team/small:latest", "pin"] == 18
    assert document.model("qwen3:8b") == ModelConfig(
        parallel=2,
        keep_alive=HOUR,
        preload=True,
        kv_cache_type="q8_0",
        draft="qwen3:0.6b",
        options={"num_ctx": 8192, "num_gpu": 20, "temperature": 0.2, "stop": ["x"]},
    )
    assert document.model("team/small:latest").pin
    assert document.model("other:latest") == ModelConfig()


def test_aliases_are_found_in_any_case_and_with_the_tag_that_clients_add() -> None:
    document = parse_document(WHOLE)
    for sent in ("gpt-4o", "GPT-4o", "gpt-4o:latest", " gpt-4o "):
        assert document.resolve_alias(sent) == "qwen3:8b"
    assert document.resolve_alias("other") == "team/small"
    assert document.resolve_alias("gpt-4o:mini") == "gpt-4o:mini"
    assert document.resolve_alias("qwen3:8b") == "qwen3:8b"


def test_an_empty_file_changes_nothing() -> None:
    assert parse_document("# nothing\n") == parse_document("")


@pytest.mark.parametrize(
    ("text", "line", "mistake"),
    [
        ("a = \n", 1, "this is not TOML: invalid value"),
        ('debug = true\nx = "a\n', 2, "this is not TOML: "),
        ("debug = true\ndebug = false\n", 2, "this is not TOML: cannot overwrite a value"),
        pytest.param("a = " + "[" * 10_000, 0, "it is nested too deeply", id="lists in lists"),
        pytest.param("a." * 5_000 + "a = 1", 0, "it is nested too deeply", id="tables in tables"),
        ("num_paralel = 2", 1, 'there is no setting "num_paralel": did you mean num_parallel?'),
        ("\n\nfrobnicate = 2", 3, 'there is no setting "frobnicate"'),
        ("config = 'x'", 1, 'there is no setting "config"'),
        ("[model]\n", 1, 'there is no table "model": did you mean models?'),
        ("num_parallel = 'many'", 1, 'num_parallel = "many" is not a whole number'),
        ("num_parallel = 0", 1, 'num_parallel = "0" is not from 1 to 256'),
        ("\ndebug = 'maybe'", 2, 'debug = "maybe" is neither 1 or true nor 0 or false'),
        ("keep_alive = 'long'", 1, 'keep_alive = "long" is not a duration such as 30s, 5m or -1'),
        ("noprune = 'x'", 1, 'noprune = "x" is taken as true: the values are 1 or true, and 0 or false'),
        ("host = 'localhost:x'", 1, 'host = "localhost:x" has a port that is not a number'),
        ("origins = ['example.com']", 1, 'origins: the origin "example.com" must contain a * or begin with'),
        ("models = 'x'", 1, 'models is not a table [models."NAME"]; OLLAMA_MODELS sets the models directory'),
        ("aliases = 1", 1, "aliases is not a table: write [aliases]"),
        ("keep_alive = 2020-01-01", 1, "keep_alive is not a text, a number, true, false or a list of texts"),
        ("origins = [1]", 1, "origins is not a text, a number, true, false or a list of texts"),
        ('[models]\n"a:b" = 1', 2, 'models."a:b" is not a table: write [models."a:b"]'),
        ('\n[models."a b"]\n', 2, '"a b" is not the name of a model'),
        ("[models.m]\nparalel = 1", 2, 'there is no setting "paralel" of models: did you mean parallel?'),
        ('[models.m]\nparallel = "2"', 2, "parallel is not a whole number"),
        ("[models.m]\nparallel = 0", 2, "parallel is not from 1 to 256"),
        ("[models.m]\npin = 1", 2, "pin is not true or false"),
        ("[models.m]\npin = true\nkeep_alive = 1", 3, "keep_alive has no effect on a model with pin"),
        ("[models.m]\nkeep_alive = 'x'", 2, "keep_alive is not a duration such as 30s, 5m or -1"),
        ("[models.m]\nkv_cache_type = 'q5'", 2, "kv_cache_type is not one of f16, q8_0, q4_0"),
        ("[models.m]\ndraft = 3", 2, "draft is not the name of a model, or false for none"),
        ("[models.m]\ncontext_length = 'big'", 2, "context_length must be of type integer"),
        (
            "[models.m]\ngpu_layers = 1\noptions = {num_gpu = 2}",
            2,
            "gpu_layers and the option num_gpu are",
        ),
        ("[models.m]\noptions = 1", 2, "options is not a table such as { temperature = 0.2 }"),
        ("[models.m]\ngpu_layers = 1.5", 2, "gpu_layers is not a whole number"),
        ("[models.m]\noptions = {num_predict = nan}", 2, 'option "num_predict" is not a whole number'),
        ("[models.m]\n\noptions = {top_q = 1}", 3, 'there is no option "top_q"'),
        ("[models.m.options]\ntemperature = 1\ntop_k = 'x'", 3, 'option "top_k" must be of type integer'),
        ("[models.m]\npin = true\n[models.'m:latest']\n", 3, 'the model "m:latest" has a table already'),
        ("[aliases]\na = 1", 2, 'the alias "a" is not followed by the name of a model in quotes'),
        ("[aliases]\na = ''", 2, 'the alias "a" = "": model is required'),
        ("[aliases]\n\na = 'b'\nb = 'c'", 3, 'the alias "a" leads to another alias: give the model itself'),
        ("[aliases]\na = 'a'", 2, 'the alias "a" leads to another alias: give the model itself'),
    ],
)
def test_mistakes(text: str, line: int, mistake: str) -> None:
    [found] = parse_document(text).mistakes
    assert found.text.startswith(mistake)
    assert found.line == line


def test_all_mistakes_are_found_in_the_order_of_their_lines() -> None:
    text = '[aliases]\n"a b" = "c"\n[models."m"]\npin = 3\nparallel = """\nx\n"""\n\noptions = {\nx = 1,\n}\n'
    text = text.replace("{\nx = 1,\n}", "{x = 1}")
    assert [one.line for one in parse_document(f"x = 1\n{text}").mistakes] == [1, 3, 5, 6, 10]


def test_what_is_valid_is_read_beside_mistakes() -> None:
    document = parse_document("num_parallel = 3\nfrobnicate = 1\n[models.m]\npin = true\nparallel = 'x'\n")
    assert document.settings == {"OLLAMA_NUM_PARALLEL": "3"}
    assert document.model("m:latest").pin


def test_a_model_that_never_expires() -> None:
    assert parse_document("[models.m]\nkeep_alive = -1").model("m:latest").keep_alive == FOREVER
