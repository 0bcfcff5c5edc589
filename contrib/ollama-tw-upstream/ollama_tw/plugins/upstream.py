"""Models of other engines. Imported at every start, so that it imports nothing heavy itself."""

import os
from collections.abc import Sequence

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import (
    Device,
    IBackend,
    IModelSource,
    IRunner,
    LoadPlan,
    Probe,
    Progress,
    RemoteModel,
)


@implementer(IPlugin, IBackend, IModelSource)
class UpstreamBackend:
    name = "upstream"
    version = "1.0.0"
    priority = -1000  # It cannot load files: it serves what it lists itself, beside the chosen backend.

    @property
    def servers(self) -> list[str]:
        return os.environ.get("OLLAMA_TW_UPSTREAM", "").replace(",", " ").split()

    def probe(self) -> Probe:
        if not self.servers:
            return Probe(reason="OLLAMA_TW_UPSTREAM names no server")
        return Probe(tuple(Device(server, "another engine", "accel", 0, 0) for server in self.servers))

    def models(self) -> Sequence[RemoteModel]:
        from ollama_tw_upstream import models

        return [model for server in self.servers for model in models(server)]

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        from ollama_tw_upstream import load

        return load(plan, progress)


backend = UpstreamBackend()
