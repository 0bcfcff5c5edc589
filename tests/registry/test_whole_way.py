"""Create, push, delete, pull and run: real servers, a real registry, TLS and tokens before it."""

import hashlib
import os
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
from tests.registry.docker import BINARY, MISSING, DockerRegistry
from tests.registry.fakes import MANIFEST
from tests.registry.gateway import ISSUER, SERVICE, Gateway, TokenIssuer

pytestmark = pytest.mark.skipif(BINARY is None, reason=MISSING)

StartServer = Callable[..., Server]
StartRegistry = Callable[..., DockerRegistry]

SUCCESS = {"status": "success"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def start(tmp_path: Path, authority: Authority) -> Iterator[StartServer]:
    """Starts servers that trust the authority, each with a home and a key of its own."""
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
def start_registry(tmp_path: Path) -> Iterator[StartRegistry]:
    registries: list[DockerRegistry] = []

    def start(**options: Any) -> DockerRegistry:
        registries.append(DockerRegistry(tmp_path / f"registry{len(registries)}", **options))
        return registries[-1].wait_until_up()

    yield start
    for registry in registries:
        registry.stop()


@pytest.fixture
def pem(tmp_path: Path, authority: Authority) -> Path:
    """The certificate and the key of 127.0.0.1."""
    path = tmp_path / "server.pem"
    path.write_bytes(authority.pem("127.0.0.1"))
    return path


@pytest.fixture
def guarded(pem: Path, authority: Authority, start_registry: StartRegistry) -> Iterator[Gateway]:
    """A registry behind TLS that lets in only those who have a token."""
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
    """What a pull or push of the model says, each run of the same status once."""
    found: list[str] = []
    for record in server.post(path, {"model": model}).records:
        said = record.get("status") or record["error"]
        if found[-1:] != [said]:
            found.append(said)
    return found


def delete(server: Server, model: str) -> None:
    assert server.request("DELETE", "/api/delete", {"model": model}).status == 200


def blobs(server: Server) -> dict[str, str]:
    """The files of the store's blobs with the digests of what is in them."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (server.home / ".ollama/models/blobs").iterdir()
    }


def key_of(server: Server) -> str:
    return (server.home / ".ollama/id_ed25519.pub").read_text().strip()


def there_and_back(host: str, here: Server, there: Server, data: bytes) -> None:
    """Create and push at ``here``, delete it there, pull it at ``there``, and again at ``here``."""
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


def test_tls_from_an_authority_of_ones_own(
    tmp_path: Path, start: StartServer, start_registry: StartRegistry, pem: Path
) -> None:
    registry = start_registry(pem=pem)
    data = write_gguf(tmp_path / "m.gguf").read_bytes()
    there_and_back(registry.host, start("here"), start("there"), data)
    # Without the bundle nothing is sent.
    stranger = start("stranger", SSL_CERT_FILE="")
    name = f"{registry.host}/library/tiny"
    assert stranger.post("/api/pull", {"model": name, "stream": False}).json == {
        "error": f'pull model manifest: Get "https://{registry.host}/v2/library/tiny/manifests/latest": '
        "tls: failed to verify certificate: certificate signed by unknown authority"
    }


def test_tls_and_tokens(tmp_path: Path, start: StartServer, guarded: Gateway) -> None:
    here, there = start("here"), start("there")
    issuer = guarded.issuer
    assert issuer is not None
    issuer.known |= {key_of(here), key_of(there)}
    data = write_gguf(tmp_path / "m.gguf").read_bytes()
    there_and_back(guarded.host, here, there, data)
    assert issuer.refused == []
    # One token to look for blobs and one to send them (the weights say which file they are from, so
    # that the registry is asked for a repository of that name); one for each of the pulls.
    assert [sorted(scopes) for scopes in issuer.granted] == [
        ["repository:library/tiny:pull"],
        ["repository:library/model.gguf:pull", "repository:library/tiny:pull,push"],
        ["repository:library/tiny:pull"],
        ["repository:library/tiny:pull"],
    ]


def test_a_key_that_is_not_known(start: StartServer, guarded: Gateway, tmp_path: Path) -> None:
    server = start("here")
    name = f"{guarded.host}/library/tiny"
    server.create(name, write_gguf(tmp_path / "m.gguf").read_bytes())
    refusal = '401: {"details": "unknown key"}'
    assert statuses(server, "/api/push", name) == ["retrieving manifest", refusal]
    assert statuses(server, "/api/pull", name) == ["pulling manifest", f"pull model manifest: {refusal}"]
    assert not [passed for passed in guarded.passed if passed.status < 400]


def test_a_layer_of_another_repository_is_mounted(
    tmp_path: Path, start: StartServer, guarded: Gateway
) -> None:
    server = start("here")
    issuer = guarded.issuer
    assert issuer is not None
    issuer.known.add(key_of(server))
    data = write_gguf(tmp_path / "m.gguf").read_bytes()
    base, child = f"{guarded.host}/library/base", f"{guarded.host}/someone/child"
    server.create(base, data)
    assert statuses(server, "/api/push", base)[-1] == "success"
    body = {"model": child, "from": base, "system": "Be brief.", "stream": False}
    assert server.post("/api/create", body).json == SUCCESS

    del guarded.passed[:]
    assert statuses(server, "/api/push", child)[-1] == "success"
    weights = f"mount=sha256%3A{hashlib.sha256(data).hexdigest()}"
    (mount,) = [passed for passed in guarded.passed if weights in passed.path and passed.status == 201]
    assert (mount.method, mount.sent) == ("POST", 0)
    assert "from=library%2Fbase" in mount.path
    # The system prompt, the configuration and the manifest are new; the weights are not among them.
    sent = [passed.sent for passed in guarded.passed if passed.method == "PATCH" and passed.status == 202]
    assert sorted(sent)[0] == len("Be brief.")
    assert sum(sent) < len(data)
    assert len(sent) == 2

    other = start("there")
    issuer.known.add(key_of(other))
    assert statuses(other, "/api/pull", child)[-1] == "success"
    assert hashlib.sha256(data).hexdigest() in blobs(other).values()


def test_what_the_registry_deletes_is_gone(
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
    # What is here is not the registry's to delete; and it can be pushed again.
    assert server.generate("Hi", model=name).json["response"] == "Hello"
    assert statuses(server, "/api/push", name)[-1] == "success"
    ask("GET", "latest").close()


@pytest.mark.skipif("OLLAMA_TW_SMOLLM2" not in os.environ, reason="OLLAMA_TW_SMOLLM2 names no model")
def test_a_real_model(start: StartServer, guarded: Gateway) -> None:
    """The weights of 98 MB go there, come back into another store, and speak."""
    here, there = (start(name, OLLAMA_LLM_LIBRARY="cpu") for name in ("here", "there"))
    assert guarded.issuer is not None
    guarded.issuer.known |= {key_of(here), key_of(there)}
    name = f"{guarded.host}/library/smollm2:135m"
    here.create(name, Path(os.environ["OLLAMA_TW_SMOLLM2"]).read_bytes())
    assert statuses(here, "/api/push", name)[-1] == "success"
    before = blobs(here)
    here.stop()
    assert statuses(there, "/api/pull", name)[-1] == "success"
    assert blobs(there) == before
    reply = there.generate("The capital of France is", model=name, raw=True).json
    assert "Paris" in reply["response"]
