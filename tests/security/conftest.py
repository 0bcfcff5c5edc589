from collections.abc import Iterator

import pytest

from tests.helpers.application import Application
from tests.helpers.models import install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    directory = tmp_path_factory.mktemp("security")
    application = Application(directory / "home")
    install(application, directory)
    yield application
    application.close()


@pytest.fixture
def app(installed: Application) -> Iterator[Application]:
    """Server with the models of :func:`tests.helpers.models.install`; it must still reply after each test."""
    installed.says("Hel", "lo")
    yield installed
    installed.says("Hel", "lo")
    assert installed.generate().json["response"] == "Hello"
