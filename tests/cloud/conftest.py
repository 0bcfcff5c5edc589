"""Servers whose cloud is another server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.remote import Remote
from tests.helpers.application import Application
from tests.helpers.models import application_with_models


@pytest.fixture(scope="session")
def far_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with application_with_models(tmp_path_factory.mktemp("far")) as application:
        yield application


@pytest.fixture
def far(far_server: Application) -> Application:
    """Another server, with the models of :func:`tests.helpers.models.install`, which reply ``Hello``."""
    far_server.set_reply("Hel", "lo")
    return far_server


@pytest.fixture(scope="session")
def near_server(tmp_path_factory: pytest.TempPathFactory, far_server: Application) -> Iterator[Application]:
    application = Application(
        tmp_path_factory.mktemp("near") / "home",
        OLLAMA_CLOUD_BASE_URL=f"http://127.0.0.1:{far_server.port}",
        OLLAMA_REMOTES="127.0.0.1, ollama.com",
    )
    for name in ("m", "thinker", "tools", "embedder", "nowhere"):
        add_stub(application, f"far-{name}", f"http://127.0.0.1:{far_server.port}", name)
    add_stub(application, "sly", "http://127.0.0.2:9", "m")
    yield application
    application.close()


@pytest.fixture
def near(near_server: Application, far: Application) -> Application:
    """Return the server under test. Its cloud, and the host of its stubs, is ``far``."""
    return near_server


@pytest.fixture(scope="module")
def scripted() -> Iterator[Remote]:
    remote = Remote()
    yield remote
    remote.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, scripted: Remote) -> Iterator[Application]:
    """Start a server whose cloud is ``scripted``."""
    application = Application(
        tmp_path_factory.mktemp("home") / "home",
        OLLAMA_CLOUD_BASE_URL=scripted.url,
        OLLAMA_REMOTES="127.0.0.1,localhost,ollama.com",
    )
    add_stub(application, "stub", f"http://localhost:{scripted.port}", "big:7b")
    add_stub(application, "signed", "https://ollama.com:443", "big:7b")
    add_stub(application, "prefixed", f"http://localhost:{scripted.port}/gpu/1/", "big:7b")
    yield application
    application.close()


@pytest.fixture
def app(home: Application, scripted: Remote) -> Application:
    scripted.asked.clear()
    scripted.gone.clear()
    scripted.reply_with(b"")
    return home


def add_stub(
    app: Application, name: str, host: str, model: str, layers: list[dict[str, object]] | None = None
) -> None:
    """Install a stub."""
    config = {"model_format": "", "model_family": "", "remote_host": host, "remote_model": model}
    content = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": app.upload(content),
            "size": len(content),
        },
        "layers": layers or [],
    }
    model_name, _, tag = name.partition(":")
    path: Path = app.home / ".ollama/models/manifests/registry.ollama.ai/library" / model_name
    path.mkdir(parents=True, exist_ok=True)
    (path / (tag or "latest")).write_text(json.dumps(manifest))


def add_layer(app: Application, kind: str, content: bytes) -> dict[str, object]:
    """Add a layer for :func:`add_stub`: ``system``, ``params``, ``messages``."""
    return {
        "mediaType": f"application/vnd.ollama.image.{kind}",
        "digest": app.upload(content),
        "size": len(content),
    }
