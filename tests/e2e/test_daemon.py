"""Start, addresses and stop of the server process."""

import contextlib
import os
import re
import signal
import socket
import stat
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import StartServer
from tests.helpers import PATIENCE
from tests.helpers.server import MODEL

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_it_says_where_it_listens_and_which_version_it_is(start: StartServer) -> None:
    server = start().ready()
    assert re.search(
        rf"time=\S+ level=INFO source=ollama_tw\.server\.daemon "
        rf'msg="Listening on 127\.0\.0\.1:{server.port} \(version 0\.6\.0\)"\n',
        server.log,
    )
    steps = ["created key pair", "bound to 127.0.0.1:", "model library", "Listening on"]
    assert sorted(steps, key=server.log.index) == steps


def test_the_key_pair_is_made_once_and_the_private_key_is_private(start: StartServer) -> None:
    server = start().ready()
    private = server.home / ".ollama/id_ed25519"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(private.with_suffix(".pub").stat().st_mode) == 0o644
    key = private.read_bytes()
    assert server.stop() == 0
    again = start().ready()
    assert "found key pair" in again.log
    assert private.read_bytes() == key


def test_models_lie_where_the_variable_says(start: StartServer, tmp_path: Path) -> None:
    server = start(OLLAMA_MODELS=str(tmp_path / "elsewhere")).ready()
    assert (tmp_path / "elsewhere/blobs").is_dir()
    assert not (server.home / ".ollama/models").exists()


def test_a_port_that_is_taken(start: StartServer) -> None:
    first = start().ready()
    second = start(OLLAMA_HOST=f"127.0.0.1:{first.port}")
    assert second.wait() == 1
    error = f"Error: listen tcp 127.0.0.1:{first.port}: bind: address already in use\n"
    assert second.log.endswith(error)
    assert "Traceback" not in second.log
    assert first.get("/api/version").status == 200


def test_a_models_directory_that_is_a_file(start: StartServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = start(OLLAMA_MODELS=str(tmp_path / "file"))
    assert server.wait() == 1
    assert server.log.splitlines()[-1].startswith("Error: failed to create directory: not a directory")
    assert "Traceback" not in server.log


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_models_directory_that_may_not_be_made(start: StartServer, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    server = start(OLLAMA_MODELS=str(tmp_path / "closed/models"))
    assert server.wait() == 1
    assert server.log.splitlines()[-1].startswith("Error: failed to create directory: permission denied")


def test_an_origin_that_is_none(start: StartServer) -> None:
    server = start(OLLAMA_ORIGINS="example.com")
    assert server.wait() == 1
    assert server.log.startswith('Error: OLLAMA_ORIGINS: the origin "example.com" must contain a *')


def test_a_backend_that_does_not_exist(start: StartServer) -> None:
    server = start(OLLAMA_LLM_LIBRARY="abacus")
    assert server.wait() == 1
    error = server.log.splitlines()[-1]
    assert error.startswith("Error: ")
    assert "abacus" in error
    assert "Traceback" not in server.log


def test_a_value_that_is_none_is_told_and_replaced(start: StartServer) -> None:
    server = start(OLLAMA_NUM_PARALLEL="many").ready()
    assert re.search(r'level=WARN .*OLLAMA_NUM_PARALLEL=\\"many\\" .*default 1', server.log)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6(start: StartServer) -> None:
    server = start(OLLAMA_HOST="[::1]:0").ready()
    assert server.host == "::1"
    assert server.get("/api/version").body == b'{"version":"0.34.2"}'


def test_all_interfaces(start: StartServer) -> None:
    server = start(OLLAMA_HOST="0.0.0.0:0").ready()
    assert "Listening on 0.0.0.0:" in server.log
    assert re.search(r"level=WARN .*can be reached from other machines", server.log)
    assert server.get("/api/version", Host="ollama.example").status == 200


def test_debug_messages_come_when_they_are_asked_for(start: StartServer) -> None:
    quiet = start().ready()
    quiet.get("/api/version")
    quiet.stop()
    loud = start(OLLAMA_DEBUG="1").ready()
    loud.get("/api/version")
    loud.stop()
    assert "level=DEBUG" not in quiet.log
    assert "level=DEBUG" in loud.log
    for server in (quiet, loud):
        assert re.search(r"msg=\"200 \S+s \d+B GET /api/version 127\.0\.0\.1:\d+\"", server.log)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_idle_server_ends_at_the_first_signal(start: StartServer, number: signal.Signals) -> None:
    server = start().ready()
    with server.socket():
        assert server.stop(number) == 0
    assert server.log.endswith("msg=stopped\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_replies_under_way_are_finished_and_those_that_wait_are_refused(
    start: StartServer, models: str, number: signal.Signals
) -> None:
    server = start(OLLAMA_MODELS=models).ready()
    # Every record repeats the name: more than sockets hold, so the reply cannot end before it is read.
    padded = " " * 500_000 + MODEL
    with server.counting(48, model=padded, receive_buffer=65536) as stream:
        first = stream.record()
        with server.counting(3) as waiting:
            # It has been read when a later request is answered.
            server.get("/api/version")
            server.send_signal(number)
            server.wait_for("stopping: ")
            assert waiting.refusal()[0] == 503
            with pytest.raises(ConnectionRefusedError):
                server.socket()
            records = [first, *stream.rest()]
    last = records[-1]
    assert last is not None
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "length", 48)
    assert server.wait() == 0
    assert "unloaded smollm2:135m" in server.log
    assert server.log.endswith("msg=stopped\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(
    start: StartServer, models: str, number: signal.Signals, status: int
) -> None:
    server = start(OLLAMA_MODELS=models, OLLAMA_CONTEXT_LENGTH="8192").ready()
    with server.counting(-1) as stream:
        assert stream.record() is not None
        server.send_signal(number)
        server.wait_for("stopping: 1 running request")
        assert server.stop(number) == status
    assert "msg=stopped" not in server.log


def test_a_drain_has_a_limit(start: StartServer, models: str) -> None:
    server = start(OLLAMA_MODELS=models, OLLAMA_CONTEXT_LENGTH="8192", OLLAMA_DRAIN_TIMEOUT="10ms").ready()
    with server.counting(-1) as stream:
        assert stream.record() is not None
        assert server.stop() == 0
        with contextlib.suppress(ConnectionError):
            assert not any(record["done"] for record in stream.rest())
    assert "closed 1 connections that did not finish in time" in server.log


def test_nothing_stays_open_or_running(start: StartServer, models: str) -> None:
    server = start(OLLAMA_MODELS=models).ready()
    process = psutil.Process(server.process.pid)

    def descriptors() -> int:
        """Return the number of open files once all models are unloaded and all connections are closed."""
        server.wait_for("unloaded smollm2", count=server.log.count('msg="loaded smollm2'))
        deadline = time.monotonic() + PATIENCE
        while any(one.status != psutil.CONN_LISTEN for one in process.net_connections("tcp")):
            assert time.monotonic() < deadline
        return int(process.num_fds())

    server.generate("Hi", options={"num_predict": 2}, keep_alive=0)
    before = descriptors()
    for _ in range(5):
        server.generate("Hi", options={"num_predict": 2}, keep_alive=0)
        with server.counting(-1) as stream:
            stream.record()
    server.wait_for(r"POST /api/generate \S+ \(client disconnected\)", count=5)
    server.generate("", keep_alive=0)
    assert descriptors() <= before
