"""Plugin module of ``twistd ollama`` and ``twist ollama``."""

import os

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.usage import UsageError

from ollama_tw.config.declaration import SettingsError
from ollama_tw.config.twistd_options import Options
from ollama_tw.configfile.load import Configuration, read_configuration
from ollama_tw.process.logs import forward_stdlib_logging

__all__ = ["Options", "makeService"]

_log = Logger()


def makeService(options: Options) -> IService:
    """Return the server as a service.

    Its settings are those of the configuration file, overridden by the environment, and that by the options.

    Raises UsageError for an invalid setting.
    """
    from twisted.internet import reactor

    from ollama_tw.server.daemon import Daemon

    def read() -> Configuration:
        return read_configuration(options.environ(os.environ), lambda text: _log.warn("{text}", text=text))

    try:
        configuration = read()
    except SettingsError as error:
        raise UsageError(str(error)) from error
    settings = configuration.settings
    forward_stdlib_logging(settings.debug)
    service: IService = Daemon(
        reactor, settings, options["listen"] or None, document=configuration.document, reread=read
    )
    return service
