from collections.abc import Iterator

import pytest

from tests.helpers.application import Application
from tests.helpers.models import install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    directory = tmp_path_factory.mktemp("edge-cases")
    application = Application(directory / "home", OLLAMA_NO_CLOUD="1")
    install(application, directory)
    yield application
    application.close()


@pytest.fixture
def app(installed: Application) -> Application:
    """Server with the models of :func:`tests.helpers.models.install`, whose output is ``Hello``."""
    installed.says("Hel", "lo")
    return installed
