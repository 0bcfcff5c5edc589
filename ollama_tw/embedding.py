"""The server inside an application of others."""

import os
from collections.abc import Mapping
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger

from ollama_tw.daemon import Daemon
from ollama_tw.settings import Settings

_log = Logger()


def make(reactor: Any, settings: Mapping[str, str]) -> IService:
    """See :func:`ollama_tw.make_service`."""
    environ = {**os.environ, **settings}
    daemon = Daemon(reactor, Settings.read(environ, lambda text: _log.warn("{text}", text=text)))
    daemon.owns_process = False
    service: IService = daemon
    return service
