"""Backend for the models of OpenAI-compatible engines (llama-server, vLLM, SGLang)."""

import os
from collections.abc import Sequence
from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw import interfaces as tw
from ollama_tw.support.http import HTTPEngine
from ollama_tw.support.runs import Runs
from ollama_tw_upstream.runner import UpstreamRunner, context_length, properties


@implementer(IPlugin, tw.IBackend, tw.IModelSource)
class UpstreamBackend:
    """Lists and loads the models of the servers in OLLAMA_TW_UPSTREAM."""

    name = "upstream"
    version = "1.1.0"
    priority = -1000  # It cannot load files, only the models that it lists.

    def probe(self) -> tw.Probe:
        """Return one device for each server."""
        devices = tuple(tw.Device(server, "another engine", "accel", 0, 0) for server in _servers())
        return tw.Probe(devices, "" if devices else "OLLAMA_TW_UPSTREAM is not set")

    def models(self) -> Sequence[tw.RemoteModel]:
        """Return the models of all servers that can be reached."""
        return [model for server in _servers() for model in _models(server)]

    def load(self, plan: tw.LoadPlan, progress: tw.Progress) -> tw.IRunner:
        """Connect to the server of the model. Raises LoadError."""
        server, _, model = plan.model_path.partition("#")
        if not model:
            raise tw.LoadError("the backend upstream does not load files, only models of other engines")
        try:
            for entry in _connect(server).ask("/v1/models")["data"]:
                if entry["id"] == model:
                    return UpstreamRunner(plan, entry, lambda runs: _connect(server, runs))
        except tw.RunnerError as error:
            raise tw.LoadError(str(error)) from error
        raise tw.LoadError(f"the engine at {server} no longer has the model {model}")


def _servers() -> Sequence[str]:
    return os.environ.get("OLLAMA_TW_UPSTREAM", "").replace(",", " ").split()


def _connect(server: str, runs: Runs | None = None, timeout: float = 60) -> HTTPEngine:
    key = os.environ.get("OLLAMA_TW_UPSTREAM_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return HTTPEngine(server, runs or Runs(1), headers=headers, timeout=timeout)


def _models(server: str) -> list[tw.RemoteModel]:
    """Return the models of ``server``, none if it cannot be reached."""
    engine = _connect(server, timeout=1)
    try:
        entries = engine.ask("/v1/models")["data"]
    except tw.RunnerError:
        return []
    template = properties(engine).get("chat_template", "")
    return [_model(server, entry, template) for entry in entries]


def _model(server: str, entry: dict[str, Any], template: str) -> tw.RemoteModel:
    # llama-server's default for the name is the path of its file.
    name = entry["id"].rpartition("/")[2] if entry["id"].startswith("/") else entry["id"]
    metadata: dict[str, str | int] = {
        "general.architecture": "remote",
        "remote.context_length": context_length(entry),
        "tokenizer.chat_template": template,
    }
    return tw.RemoteModel(name.removesuffix(".gguf"), f"{server}#{entry['id']}", server, metadata)
