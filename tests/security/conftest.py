from collections.abc import Iterator

import pytest

from tests.helpers.application import Application
from tests.helpers.models import application_with_models


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with application_with_models(tmp_path_factory.mktemp("security")) as application:
        yield application


@pytest.fixture
def app(installed: Application) -> Iterator[Application]:
    """Server with the models of :func:`tests.helpers.models.install`; it must still reply after each test."""
    installed.set_reply("Hel", "lo")
    yield installed
    installed.set_reply("Hel", "lo")
    assert installed.generate().json["response"] == "Hello"
