"""Create, push, delete, pull and run with server processes and a registry behind TLS and tokens."""

import hashlib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.gguf_files import write_gguf
from tests.helpers.server import PLUGINS, Server
from tests.registry.authority import Authority
from tests.registry.docker import DockerRegistry
from tests.registry.fakes import MANIFEST
from tests.registry.gateway import ISSUER, SERVICE, Gateway, TokenIssuer

StartServer = Callable[..., Server]
StartRegistry = Callable[..., DockerRegistry]

SUCCESS = {"status": "success"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def start(tmp_path: Path, authority: Authority) -> Iterator[StartServer]:
    """Start servers that trust the authority, each with its own home and key."""
    servers: list[Server] = []

    def start(name: str, **variables: str) -> Server:
        scripted: dict[str, Any] = {
            "OLLAMA_LLM_LIBRARY": "scripted",
            "SSL_CERT_FILE": str(authority.bundle),
        }
        servers.append(Server(tmp_path / name, plugin_paths=[PLUGINS], **{**scripted, **variables}))
        return servers[-1].ready()

    yield start
    for server in servers:
        server.discard()


@pytest.fixture
def start_registry(registry_program: str, tmp_path: Path) -> Iterator[StartRegistry]:
    registries: list[DockerRegistry] = []

    def start(**options: Any) -> DockerRegistry:
        registries.append(
            DockerRegistry(registry_program, tmp_path / f"registry{len(registries)}", **options)
        )
        return registries[-1].wait_until_up()

    yield start
    for registry in registries:
        registry.stop()


@pytest.fixture
def pem(tmp_path: Path, authority: Authority) -> Path:
    """Return the path of certificate and key of 127.0.0.1."""
    path = tmp_path / "server.pem"
    path.write_bytes(authority.pem("127.0.0.1"))
    return path


@pytest.fixture
def gateway(pem: Path, authority: Authority, start_registry: StartRegistry) -> Iterator[Gateway]:
    """Start a registry behind a gateway with TLS and tokens."""
    gateway = Gateway(str(pem), TokenIssuer(authority))
    auth = {
        "realm": f"https://{gateway.host}/token",
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": str(authority.bundle),
    }
    gateway.target = start_registry(auth=auth).host
    yield gateway
    gateway.stop()


def statuses(server: Server, path: str, model: str) -> list[str]:
    """Return the statuses of a pull or push, without consecutive repetitions."""
    found: list[str] = []
    for record in server.post(path, {"model": model}).records:
        said = record.get("status") or record["error"]
        if found[-1:] != [said]:
            found.append(said)
    return found


def delete(server: Server, model: str) -> None:
    assert server.request("DELETE", "/api/delete", {"model": model}).status == 200


def blobs(server: Server) -> dict[str, str]:
    """Return the names of the store's blobs and the digests of their contents."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (server.home / ".ollama/models/blobs").iterdir()
    }


def key_of(server: Server) -> str:
    return (server.home / ".ollama/id_ed25519.pub").read_text().strip()


def round_trip(host: str, here: Server, there: Server, data: bytes) -> None:
    """Create a model on ``here``, push and delete it, pull it on ``there``, then on ``here``."""
    name = f"{host}/library/tiny"
    here.create(name, data, template="{{ .Prompt }}", system="Be brief.")
    before = blobs(here)
    assert len(before) == 4
    said = statuses(here, "/api/push", name)
    assert (said[0], said[-2:]) == ("retrieving manifest", ["pushing manifest", "success"])
    assert sorted(text[8:] for text in said[1:-2]) == sorted(name[7:19] for name in before)
    shown = here.post("/api/show", {"model": name}).json
    delete(here, name)
    assert blobs(here) == {}
    for server in (there, here):
        said = statuses(server, "/api/pull", name)
        assert (said[0], said[-3:]) == (
            "pulling manifest",
            ["verifying sha256 digest", "writing manifest", "success"],
        )
        assert blobs(server) == before
        assert all(name[7:] == digest for name, digest in before.items())
        pulled = server.post("/api/show", {"model": name}).json
        for field in ("template", "system", "details", "model_info"):
            assert pulled[field] == shown[field]
        reply = server.generate("Hi", model=name).json
        assert (reply["response"], reply["done"]) == ("Hello", True)


def with_sorted_actions(scope: str) -> str:
    """Return a scope with its actions sorted: the registry lists them in any order."""
    resource, _, actions = scope.rpartition(":")
    return f"{resource}:{','.join(sorted(actions.split(',')))}"


def test_tls_with_a_private_authority(
    tmp_path: Path, start: StartServer, start_registry: StartRegistry, pem: Path
) -> None:
    registry = start_registry(pem=pem)
    data = write_gguf(tmp_path / "m.gguf").read_bytes()
    round_trip(registry.host, start("here"), start("there"), data)
    # Without SSL_CERT_FILE, no request is sent.
    stranger = start("stranger", SSL_CERT_FILE="")
    name = f"{registry.host}/library/tiny"
    assert stranger.post("/api/pull", {"model": name, "stream": False}).json == {
        "error": f'pull model manifest: Get "https://{registry.host}/v2/library/tiny/manifests/latest": '
        "tls: failed to verify certificate: certificate signed by unknown authority"
    }


def test_tls_and_tokens(tmp_path: Path, start: StartServer, gateway: Gateway) -> None:
    here, there = start("here"), start("there")
    issuer = gateway.issuer
    assert issuer is not None
    issuer.known_keys |= {key_of(here), key_of(there)}
    data = write_gguf(tmp_path / "m.gguf").read_bytes()
    round_trip(gateway.host, here, there, data)
    assert issuer.refused == []
    # One token for checking blobs and one for sending them; one for each pull.
    assert [sorted(map(with_sorted_actions, scopes)) for scopes in issuer.granted] == [
        ["repository:library/tiny:pull"],
        ["repository:library/tiny:pull,push"],
        ["repository:library/tiny:pull"],
        ["repository:library/tiny:pull"],
    ]


def test_an_unknown_key(start: StartServer, gateway: Gateway, tmp_path: Path) -> None:
    server = start("here")
    name = f"{gateway.host}/library/tiny"
    server.create(name, write_gguf(tmp_path / "m.gguf").read_bytes())
    refusal = '401: {"details": "unknown key"}'
    assert statuses(server, "/api/push", name) == ["retrieving manifest", refusal]
    assert statuses(server, "/api/pull", name) == ["pulling manifest", f"pull model manifest: {refusal}"]
    assert not [request for request in gateway.forwarded if request.status < 400]


def test_mounts_a_layer_of_another_repository(tmp_path: Path, start: StartServer, gateway: Gateway) -> None:
    server = start("here")
    issuer = gateway.issuer
    assert issuer is not None
    issuer.known_keys.add(key_of(server))
    data = write_gguf(tmp_path / "m.gguf").read_bytes()
    base, child = f"{gateway.host}/library/base", f"{gateway.host}/someone/child"
    server.create(base, data)
    assert statuses(server, "/api/push", base)[-1] == "success"
    body = {"model": child, "from": base, "system": "Be brief.", "stream": False}
    assert server.post("/api/create", body).json == SUCCESS

    del gateway.forwarded[:]
    assert statuses(server, "/api/push", child)[-1] == "success"
    weights = f"mount=sha256%3A{hashlib.sha256(data).hexdigest()}"
    (mount,) = [request for request in gateway.forwarded if weights in request.path and request.status == 201]
    assert (mount.method, mount.sent) == ("POST", 0)
    assert "from=library%2Fbase" in mount.path
    # System prompt, configuration and manifest are sent, but not the weights.
    sent = [
        request.sent for request in gateway.forwarded if request.method == "PATCH" and request.status == 202
    ]
    assert sorted(sent)[0] == len("Be brief.")
    assert sum(sent) < len(data)
    assert len(sent) == 2

    other = start("there")
    issuer.known_keys.add(key_of(other))
    assert statuses(other, "/api/pull", child)[-1] == "success"
    assert hashlib.sha256(data).hexdigest() in blobs(other).values()


def test_deletes_in_the_registry(
    tmp_path: Path, start: StartServer, start_registry: StartRegistry, pem: Path, authority: Authority
) -> None:
    registry = start_registry(pem=pem)
    server = start("here")
    name = f"{registry.host}/library/tiny"
    server.create(name, write_gguf(tmp_path / "m.gguf").read_bytes())
    assert statuses(server, "/api/push", name)[-1] == "success"
    url = f"https://{registry.host}/v2/library/tiny/manifests/"
    trusting = ssl.create_default_context(cafile=str(authority.bundle))

    def ask(method: str, reference: str) -> Any:
        request = urllib.request.Request(url + reference, headers={"Accept": MANIFEST}, method=method)
        return urllib.request.urlopen(request, context=trusting)

    with ask("GET", "latest") as reply:
        digest = reply.headers["Docker-Content-Digest"]
    ask("DELETE", digest).close()
    with pytest.raises(urllib.error.HTTPError):
        ask("GET", "latest")
    assert statuses(server, "/api/pull", name) == [
        "pulling manifest",
        "pull model manifest: file does not exist",
    ]
    # The local model is not affected, and can be pushed again.
    assert server.generate("Hi", model=name).json["response"] == "Hello"
    assert statuses(server, "/api/push", name)[-1] == "success"
    ask("GET", "latest").close()


def test_a_real_model(smollm2_gguf: str, start: StartServer, gateway: Gateway) -> None:
    """Weights of 98 MB are pushed, pulled into another store and generate."""
    here, there = (start(name, OLLAMA_LLM_LIBRARY="cpu") for name in ("here", "there"))
    assert gateway.issuer is not None
    gateway.issuer.known_keys |= {key_of(here), key_of(there)}
    name = f"{gateway.host}/library/smollm2:135m"
    here.create(name, Path(smollm2_gguf).read_bytes())
    assert statuses(here, "/api/push", name)[-1] == "success"
    before = blobs(here)
    here.stop()
    assert statuses(there, "/api/pull", name)[-1] == "success"
    assert blobs(there) == before
    reply = there.generate("The capital of France is", model=name, raw=True).json
    assert "Paris" in reply["response"]
