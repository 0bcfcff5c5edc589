"""llama.cpp's quantizer in its child process, on a tiny model."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import gguf
import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.llama.quantizer import quantize
from tests.security.llamas import SHAPES, write_llama

WIDE = {
    "token_embd.weight": (260, 256),
    "output_norm.weight": (256,),
    **{name: (256, 256) if len(shape) == 2 else (256,) for name, shape in SHAPES.items() if name[0] == "b"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model with rows of 256 elements, which every type supports."""
    path = tmp_path_factory.mktemp("quantizer") / "m.gguf"
    metadata = {
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 256,
        "llama.rope.dimension_count": 128,
    }
    write_llama(path, metadata, WIDE)
    return path


@pytest.mark.parametrize(
    ("file_type", "number", "weights"),
    [
        ("F32", 0, "F32"),
        ("F16", 1, "F16"),
        ("BF16", 32, "BF16"),
        ("Q8_0", 7, "Q8_0"),
        ("Q4_K_S", 14, "Q4_K"),
        ("Q4_K_M", 15, "Q4_K"),
    ],
)
def test_every_type(model: Path, tmp_path: Path, file_type: str, number: int, weights: str) -> None:
    target = tmp_path / "q.gguf"
    target.touch()
    names = [name for name in quantize(model, target, file_type) if name]
    assert sorted(names) == sorted(WIDE)
    reader = gguf.GGUFReader(target)
    assert reader.fields["general.file_type"].contents() == number
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["blk.0.attn_q.weight"] == weights
    assert types["output_norm.weight"] == "F32"


def test_a_file_that_llama_cpp_rejects(tmp_path: Path) -> None:
    source = tmp_path / "secret" / "bad.gguf"
    source.parent.mkdir()
    source.write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(OllamaError) as caught:
        list(quantize(source, tmp_path / "q", "Q8_0"))
    assert caught.value.status == 500
    assert caught.value.message.startswith("llama-quantize failed: ")
    assert "secret" not in caught.value.message


@contextmanager
def instead(code: str) -> Iterator[None]:
    """Run another program as the child."""
    with patch("ollama_tw.llama.quantizer.child_command", lambda *_: [sys.executable, "-c", code]):
        yield


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import os; os.abort()", "llama-quantize failed: killed by SIGABRT"),
        (
            "print('{nonsense'); print('out of /very/secret/paths'); exit(1)",
            "llama-quantize failed: out of the file",
        ),
        (
            'print(\'{"error": "no"}\'); exit(3)',
            "llama-quantize unavailable: llama-cpp-python cannot be used",
        ),
    ],
)
def test_a_child_that_fails(tmp_path: Path, code: str, fault: str) -> None:
    with instead(code), pytest.raises(OllamaError) as caught:
        list(quantize(tmp_path / "s", tmp_path / "t", "Q8_0"))
    assert (caught.value.status, caught.value.message) == (500, fault)


OLDER_LIBRARY = """
import ctypes, sys
import llama_cpp

older = type("llama_model_quantize_params", (ctypes.Structure,), {"_fields_": [("ftype", ctypes.c_int)]})
llama_cpp.llama_model_quantize_default_params = older
llama_cpp.__version__ = "9.9.9"
from ollama_tw.llama.quantize import main
sys.exit(main(["source", "target", "Q8_0"]))
"""


def test_a_library_without_a_field_is_refused(tmp_path: Path) -> None:
    with instead(OLDER_LIBRARY), pytest.raises(OllamaError) as caught:
        list(quantize(tmp_path / "s", tmp_path / "t", "Q8_0"))
    assert caught.value.status == 500
    assert caught.value.message == (
        "llama-quantize failed: the installed llama-cpp-python 9.9.9 is not supported: "
        "llama_model_quantize_params has no field nthread"
    )


HANGING = 'import os, time; print(\'{"tensor": "%d"}\' % os.getpid(), flush=True); time.sleep(3600)'


def test_closing_kills_the_child(tmp_path: Path) -> None:
    with instead(HANGING):
        names = quantize(tmp_path / "s", tmp_path / "t", "Q8_0")
        child = int(next(name for name in names if name))
        # Without output of the child, control returns to the caller.
        assert next(names) == ""
        second = quantize(tmp_path / "s", tmp_path / "u", "Q8_0")
        assert next(second) == ""
        second.close()
        names.close()
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
        third = quantize(tmp_path / "s", tmp_path / "u", "Q8_0")
        assert next(name for name in third if name)
        third.close()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux has process descriptors")
def test_the_child_ends_with_its_parent(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "q.gguf"
    os.mkfifo(target)
    # Opening a pipe for writing blocks until there is a reader: the child is stopped there.
    code = (
        "import sys; from pathlib import Path; from ollama_tw.llama.quantizer import quantize\n"
        f"names = quantize(Path({str(model)!r}), Path({str(target)!r}), 'Q8_0')\n"
        "print(next(names), flush=True)\nnext(names); print('still', flush=True)\n"
        "for _ in names: pass"
    )
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.stdout.readline()
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == 1
    watch = os.pidfd_open(int(children[0]))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert select.select([watch], [], [], 60)[0]
    os.close(watch)
