"""Backend of the engine that fails, for server processes."""

from twisted.plugin import IPlugin
from zope.interface import alsoProvides

from tests.runner.faulty import FaultyBackend

backend = FaultyBackend()
alsoProvides(backend, IPlugin)
