"""Inherited sockets, Twisted endpoints and reloaded certificates of a server process."""

import datetime
import json
import signal
import socket
import ssl
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.helpers.process import SERVE
from tests.process.harness import Connection, PuppetServer, SystemdManager, make_model, serving
from tests.process.puppet import WORDS

TWIST = (sys.executable, "-m", "twisted", "--log-format=text", "ollama")
TWISTD = (
    sys.executable,
    "-c",
    "from twisted.scripts.twistd import run; run()",
    "--nodaemon",
    "--pidfile=",
    "ollama",
)
_EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="ollama.socket")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_model(tmp_path / "home")
    return tmp_path / "home"


def with_socket(descriptor: int, command: tuple[str, ...] = SERVE) -> tuple[str, ...]:
    """Return a command that passes the socket as systemd does."""
    return (sys.executable, "-c", _EXEC, str(descriptor), *command)


def test_socket_activation(home: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        # Connections made before the start are queued.
        early = Connection(sock.getsockname()).request("GET", "/api/version")
        with serving(home, command=with_socket(sock.fileno()), fds=[sock.fileno()]) as server:
            assert server.addresses == [sock.getsockname()]
            assert b'"version"' in early.read_all()
            assert server.get("/healthz") == (200, b"ok\n")
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0


def test_twistd_uses_sockets_of_systemd_by_index(home: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        command = with_socket(sock.fileno(), (*TWISTD, "--listen", "systemd:domain=INET:index=0"))
        with serving(home, command=command, fds=[sock.fileno()]) as server:
            assert server.addresses == [sock.getsockname()]
            assert server.get("/healthz") == (200, b"ok\n")
            running = server.generate()
            running.read_until(b"word0")
            server.send_signal(signal.SIGTERM)
            server.wait_for("stopping")
            server.open_gate()
            assert b'"done":true' in running.read_all()
            server.wait()


def test_a_descriptor_that_is_not_a_listening_socket(home: Path) -> None:
    with socket.socket() as sock:
        server = PuppetServer(home, command=with_socket(sock.fileno()), fds=[sock.fileno()])
        assert server.wait() == 1
        assert server.log.splitlines()[-1] == (
            "Error: listen: inherited file descriptor 3 is not a listening stream socket"
        )


def test_sockets_of_another_process_are_ignored(home: Path) -> None:
    with serving(home, LISTEN_PID="1", LISTEN_FDS="1") as server:
        assert server.get("/healthz")[0] == 200


def test_sighup_reloads_the_configuration_file(home: Path) -> None:
    path = home / ".ollama/ollama.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("num_parallel = 2\n")
    with serving(home) as server:
        path.write_text("num_parallel = 3\nmax_queue = 'x'\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for(f'configuration not reloaded, .*{path}:2: max_queue = .*"x.*" is not a whole number')
        path.write_text("num_parallel = 3\nprompt_cache = 0\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for("configuration reloaded; changed: OLLAMA_NUM_PARALLEL")
        server.wait_for("a restart is needed for the changed values of OLLAMA_PROMPT_CACHE")
        assert server.get("/healthz")[0] == 200


def test_notifies_systemd(home: Path, tmp_path: Path) -> None:
    manager = SystemdManager(tmp_path)
    with serving(home, NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="100000") as server:
        manager.until("READY=1")
        assert any(line.startswith("STATUS=Listening on 127.0.0.1:") for line in manager.told)
        manager.until("WATCHDOG=1")
        manager.told.clear()
        manager.until("WATCHDOG=1")
        # The signal of ExecReload has no effect without certificates.
        server.send_signal(signal.SIGHUP)
        assert server.get("/healthz")[0] == 200
        stream = server.generate()
        stream.read_until(b"word0")
        server.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        assert "STATUS=Finishing 1 requests" in manager.told
        # Keep-alives are sent during the drain, too.
        manager.told.clear()
        manager.until("WATCHDOG=1")
        server.open_gate()
        stream.read_all()
        assert server.wait() == 0
    manager.close()


def write_certificate(folder: Path, serial: int) -> None:
    """Write a key and a certificate for localhost to ``folder``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(begin)
        .not_valid_after(begin.replace(year=2100))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def over_tls(sock: socket.socket, *protocols: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)


def serial_of(connection: Connection) -> int:
    return x509.load_der_x509_certificate(connection.certificate).serial_number


def test_endpoints_and_a_certificate_reloaded_during_a_stream(home: Path, tmp_path: Path) -> None:
    write_certificate(tmp_path, 1)
    # The path of a UNIX socket has at most 107 bytes.
    unix = str(tmp_path / "o.sock")
    listen = (
        "tcp:0:interface=127.0.0.1",
        f"unix:{unix}",
        f"ssl:0:interface=127.0.0.1:privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem",
    )
    options = [word for description in listen for word in ("--listen", description)]
    with serving(home, command=(*TWIST, *options)) as server:
        plain, by_path, secure = server.addresses
        assert by_path == unix
        for address in (plain, by_path):
            assert b'"version"' in Connection(address).request("GET", "/api/version").read_all()

        # As curl and browsers do.
        stream = Connection(secure, lambda sock: over_tls(sock, "h2", "http/1.1"))
        assert stream.protocol == "http/1.1"
        assert serial_of(stream) == 1
        stream.request("POST", "/api/generate", {"model": "tiny", "prompt": "one"})
        stream.read_until(b"word0")

        write_certificate(tmp_path, 2)
        server.send_signal(signal.SIGHUP)
        server.wait_for("certificate reloaded")
        fresh = Connection(secure, over_tls)
        assert serial_of(fresh) == 2
        assert b"ok" in fresh.request("GET", "/healthz").read_all()

        (tmp_path / "cert.pem").write_text("nonsense")
        server.send_signal(signal.SIGHUP)
        server.wait_for("certificate not reloaded, the previous one stays in use")
        assert serial_of(Connection(secure, over_tls)) == 2

        server.open_gate()
        records = [json.loads(line) for line in stream.read_all().splitlines() if line.startswith(b"{")]
        assert "".join(record["response"] for record in records) == "".join(WORDS)


@pytest.mark.parametrize(
    ("listen", "error"),
    [
        ("carrier-pigeon:8", "listen carrier-pigeon:8: "),
        ("unix:/nonexistent/o.sock", "listen unix:/nonexistent/o.sock: no such file or directory\n"),
    ],
)
def test_an_invalid_endpoint(home: Path, listen: str, error: str) -> None:
    server = PuppetServer(home, command=(*TWIST, "--listen", listen))
    assert server.wait() != 0
    assert error in server.log
