"""Plugin module of ``twistd ollama`` and ``twist ollama``."""

import os

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.usage import UsageError

from ollama_tw.config.settings import Settings
from ollama_tw.config.twistd_options import Options
from ollama_tw.config.variables import SettingsError
from ollama_tw.process.logs import forward_stdlib_logging

__all__ = ["Options", "makeService"]

_log = Logger()


def makeService(options: Options) -> IService:
    """Return the server as a service; its settings are the environment, overridden by the options.

    Raises UsageError for an invalid setting.
    """
    from twisted.internet import reactor

    from ollama_tw.server.daemon import Daemon

    try:
        settings = Settings.read(options.environ(os.environ), lambda text: _log.warn("{text}", text=text))
    except SettingsError as error:
        raise UsageError(str(error)) from error
    forward_stdlib_logging(settings.debug)
    service: IService = Daemon(reactor, settings, options["listen"] or None)
    return service
