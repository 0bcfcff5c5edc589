from collections.abc import Iterator

import pytest

from tests.helpers.application import Application
from tests.helpers.models import application_with_models


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with application_with_models(tmp_path_factory.mktemp("edge-cases"), OLLAMA_NO_CLOUD="1") as application:
        yield application


@pytest.fixture
def app(installed: Application) -> Application:
    """Server with the models of :func:`tests.helpers.models.install`, whose output is ``Hello``."""
    installed.set_reply("Hel", "lo")
    return installed
