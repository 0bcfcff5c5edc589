"""Commands in pipes, against a server process: output, standard error and exit status."""

import hashlib
import json
import re
from pathlib import Path

import numpy
import pytest

from tests.cli.conftest import Ollama, Result
from tests.convert.sets import write_safetensors
from tests.helpers.gguf_files import write_gguf
from tests.helpers.server import Server


def test_list(ollama: Ollama) -> None:
    result = ollama("ls", "M")
    assert (result.code, result.err) == (0, "")
    header, row = result.out.splitlines()
    assert header.split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert re.fullmatch(r"m:latest    [0-9a-f]{12}    \d(\.\d)? KB    .* ago +", row)


def test_list_without_a_match_is_a_header(ollama: Ollama) -> None:
    assert ollama("list", "nothing") == Result(0, "NAME    ID    SIZE    MODIFIED    \n", "")


def test_ps_and_stop(ollama: Ollama) -> None:
    ollama("stop", "m")
    assert ollama("ps", "m").out == "NAME    ID    SIZE    PROCESSOR    CONTEXT    UNTIL    \n"
    assert ollama("run", "m", "SAY hi").code == 0
    row = ollama("ps", "m").out.splitlines()[1]
    assert re.match(r"m:latest    [0-9a-f]{12}    .*100% CPU +\d+ +4 minutes from now    $", row)
    assert ollama("ps", "M").out.count("\n") == 1
    assert ollama("stop", "m") == Result(0, "", "")
    assert ollama("ps", "m").out.count("\n") == 1


def test_stop_of_an_unknown_model(ollama: Ollama) -> None:
    assert ollama("stop", "nosuch") == Result(1, "", 'Error: couldn\'t find model "nosuch" to stop\n')


def test_show(ollama: Ollama) -> None:
    result = ollama("show", "m")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("  Model\n    architecture        llama    \n")
    assert '  Parameters\n    stop    "<|x|>"    \n\n' in result.out
    assert result.out.endswith("  License\n    MIT     \n    Text    \n\n")


def test_parts_of_show(ollama: Ollama) -> None:
    assert ollama("show", "m", "--license") == Result(0, "MIT\nText\n", "")
    assert ollama("show", "--parameters", "m").out == 'stop                           "<|x|>"\n'
    assert ollama("show", "m", "--system") == Result(0, "", "")
    assert not ollama("show", "m", "--template").out.endswith("\n\n")
    assert "FROM " in ollama("show", "m", "--modelfile").out
    assert ollama("show", "m", "--license", "--system") == Result(
        1,
        "",
        "Error: only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be "
        "specified\n",
    )
    assert "  Metadata\n" in ollama("show", "m", "-v").out


def test_cp_and_rm(ollama: Ollama) -> None:
    assert ollama("cp", "m", "copy") == Result(0, "copied 'm' to 'copy'\n", "")
    assert ollama("cp", "m", "copy2").code == 0
    assert ollama("rm", "copy", "copy2") == Result(0, "deleted 'copy'\ndeleted 'copy2'\n", "")
    assert ollama("rm", "copy") == Result(1, "", "Error: model 'copy' not found\n")
    assert ollama("cp", "nosuch", "x") == Result(1, "", 'Error: model "nosuch" not found\n')


@pytest.mark.parametrize(
    ("arguments", "stdin", "answer"),
    [
        (["m", "SAY", "one two"], "", "one two"),
        (["m"], "SAY from the pipe", "from the pipe"),
        (["m", "and then"], "SAY both", "both and then"),
        (["--verbose=false", "m", "SAY -v", "--", "--x"], "", "-v --x"),
        (["m", "--think=false", "SAY no"], "", "no"),
    ],
)
def test_run_answers_a_prompt(ollama: Ollama, arguments: list[str], stdin: str, answer: str) -> None:
    assert ollama("run", *arguments, stdin=stdin) == Result(0, f"{answer}\n\n", "")


def test_run_with_an_empty_prompt_prints_nothing(ollama: Ollama) -> None:
    assert ollama("run", "m") == Result(0, "", "")


def test_run_prints_thinking_unless_hidden(ollama: Ollama) -> None:
    prompt = "SAY <think>Let me see. </think>Four.\n"
    assert ollama("run", "thinker", prompt).out == "Thinking...\nLet me see. \n...done thinking.\n\nFour.\n\n"
    assert ollama("run", "thinker", "--hidethinking", prompt).out == "Four.\n\n"
    # The word after --think is the prompt.
    assert ollama("run", "thinker", "--think", prompt).out.endswith("Four.\n\n")


def test_flags_before_run_are_its_flags(ollama: Ollama) -> None:
    assert "eval rate: " in ollama("--verbose", "run", "m", "SAY one").err
    assert ollama("--verbose", "list") == Result(1, "", "Error: unknown flag: --verbose\n")


def test_run_verbose_prints_the_timings_on_standard_error(ollama: Ollama) -> None:
    result = ollama("run", "m", "SAY one two", "--verbose")
    assert result.out == "one two\n\n"
    assert [line.split(":")[0] for line in result.err.splitlines()] == [
        "total duration",
        "load duration",
        "prompt eval count",
        "prompt eval duration",
        "prompt eval rate",
        "eval count",
        "eval duration",
        "eval rate",
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["m", "--think=x"],
            'invalid value for --think: "x" (must be true, false, high, medium, low, or max)',
        ),
        (["m", "--keepalive", "5"], 'time: missing unit in duration "5"'),
        (
            ["m", "--verbose=x"],
            'invalid argument "x" for "--verbose" flag: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        (
            ["m", "--dimensions", "x"],
            'invalid argument "x" for "--dimensions" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        ([], "requires at least 1 arg(s), only received 0"),
        (
            ["thinker", "SAY x", "--think=true", "--format", "{"],
            "invalid value for --format: neither json nor a JSON ",
        ),
        pytest.param(
            ["thinker", "SAY x", "--format", "[" * 10_000],
            "invalid value for --format: neither json nor a JSON schema: it is nested ",
            id="a schema that is nested too deeply",
        ),
        (
            ["m", "SAY BREAK"],
            "500 Internal Server Error: an error was encountered while running the model: the engine",
        ),
        (["m", "hi", "--think"], '400 Bad Request: "m" does not support thinking'),
        (["a/b/c/d", "hi"], "invalid model name"),
    ],
)
def test_run_fails_in_one_line(ollama: Ollama, arguments: list[str], error: str) -> None:
    result = ollama("run", *arguments)
    assert (result.code, result.out.strip()) == (1, "")
    assert result.err.startswith(f"Error: {error}")
    assert result.err.count("\n") == 1


def test_json(ollama: Ollama, scripted: Server) -> None:
    listed = json.loads(ollama("list", "m", "--json").out)
    assert [model["name"] for model in listed["models"]] == ["m:latest"]
    assert json.loads(ollama("ps", "nosuch", "--json").out) == {"models": []}
    assert json.loads(ollama("show", "m", "--json").out)["license"] == "MIT\nText"
    assert json.loads(ollama("show", "m", "--license", "--json").out) == {"license": "MIT\nText"}
    records = [json.loads(line) for line in ollama("run", "m", "SAY a b", "--json").out.splitlines()]
    assert "".join(record["response"] for record in records) == "a b"
    assert records[-1]["done"] is True


def test_create_uploads_what_the_server_lacks(ollama: Ollama, scripted: Server, tmp_path: Path) -> None:
    weights = write_gguf(tmp_path / "weights.gguf", metadata={"llama.context_length": 7})
    (tmp_path / "Modelfile").write_text(
        f"FROM ./{weights.name}\nSYSTEM Be brief.\nPARAMETER mirostat 1\nPARAMETER stop x\n"
        "MESSAGE user SAY hi\n"
    )
    upload = f"POST /api/blobs/sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}"
    assert ollama("create", "made") == Result(0, "warning: parameter mirostat is deprecated\n", "")
    assert ollama("show", "made", "--system").out == "Be brief."
    records = ollama("create", "made2", "-f", "Modelfile", "--json", "-q", "f16").out.splitlines()
    assert json.loads(records[-1]) == {"status": "success"}
    # The second creation has nothing to send. What comes before this in the log has been read then.
    scripted.get("/after-made2")
    scripted.wait_for("/after-made2")
    assert scripted.log.count(upload) == 1
    assert ollama("rm", "made", "made2").code == 0


def test_create_from_a_model_and_from_a_folder(ollama: Ollama, tmp_path: Path) -> None:
    (tmp_path / "derived").write_text("FROM m\nPARAMETER temperature 0.5\n")
    assert ollama("create", "derived", "-f", "derived") == Result(0, "", "")
    assert "temperature" in ollama("show", "derived", "--parameters").out
    # An absent Modelfile means this directory.
    write_gguf(tmp_path / "model.gguf", metadata={"llama.context_length": 9})
    assert ollama("create", "folder", "-f", "absent") == Result(0, "", "")
    assert ollama("rm", "derived", "folder").code == 0


@pytest.mark.parametrize(
    ("modelfile", "error"),
    [
        ("FROM ./absent.gguf\n", "400 Bad Request: invalid model name"),
        ("SYSTEM x\n", "no FROM line"),
        ("FROM m\nADAPTER ./absent\n", "stat {}/absent: no such file or directory"),
        ("FROM m\nPARAMETER numa 1\n", "unknown parameter 'numa'"),
    ],
)
def test_create_fails_in_one_line(ollama: Ollama, tmp_path: Path, modelfile: str, error: str) -> None:
    (tmp_path / "Modelfile").write_text(modelfile)
    assert ollama("create", "x") == Result(1, "", f"Error: {error.format(tmp_path)}\n")


def test_create_of_tensors_needs_no_server(ollama: Ollama, scripted: Server, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    write_safetensors(tmp_path / "weights/model.safetensors", {"a": numpy.ones(3, dtype=numpy.float32)})
    (tmp_path / "weights/config.json").write_text('{"model_type": "llama", "max_position_embeddings": 9}')
    (tmp_path / "Modelfile").write_text("FROM ./weights\nSYSTEM Be brief.\n")
    models = {"OLLAMA_MODELS": str(scripted.home / ".ollama/models")}
    create = ("create", "tensors", "--experimental")
    assert ollama(*create, OLLAMA_HOST="127.0.0.1:1", **models) == Result(0, "", "")
    shown = ollama("show", "tensors").out
    assert re.search(r"context length +9 ", shown)
    assert "Be brief." in shown
    records = ollama(*create, "--json", **models).out.splitlines()
    assert json.loads(records[-1]) == {"status": "success"}
    remote = ollama(*create, OLLAMA_HOST="http://example.com", **models)
    assert remote == Result(1, "", "Error: remote safetensor model creation not yet supported\n")
    quantized = ollama(*create, "-q", "int4", **models)
    assert (
        quantized.err == "Error: quantizing for MLX is not supported: create the model without --quantize\n"
    )
    (tmp_path / "Modelfile").write_text("FROM ./nothing\n")
    absent = f"Error: no config.json and safetensors files in {tmp_path}/nothing\n"
    assert ollama(*create, **models) == Result(1, "", absent)
    assert ollama("rm", "tensors").code == 0


def test_create_without_files(ollama: Ollama) -> None:
    assert ollama("create", "x") == Result(1, "", "Error: no Modelfile or safetensors files found\n")
    assert ollama("create", "a b") == Result(1, "", "Error: invalid model name: a b\n")


def test_help(ollama: Ollama) -> None:
    assert ollama("help").out == ollama("--help").out == ollama().out
    assert ollama("help", "rm").out == ollama("rm", "--help").out
    assert "OLLAMA_HOST" in ollama("list", "-h").out
    result = ollama("help", "x")
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("Unknown help topic [`x`]\n")


def test_version(ollama: Ollama) -> None:
    assert ollama("-v").out.startswith("ollama version is 0.34.2 (ollama_tw ")
