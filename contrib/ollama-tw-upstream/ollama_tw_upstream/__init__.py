"""Serve the models of an OpenAI-compatible engine (llama-server, vLLM, SGLang) as if they were here."""

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
    name = "upstream"
    version = "1.1.0"
    priority = -1000  # It cannot load files: it serves what it lists itself, beside the chosen backend.

    def probe(self) -> tw.Probe:
        devices = tuple(tw.Device(server, "another engine", "accel", 0, 0) for server in _servers())
        return tw.Probe(devices, "" if devices else "OLLAMA_TW_UPSTREAM names no server")

    def models(self) -> Sequence[tw.RemoteModel]:
        return [model for server in _servers() for model in _models(server)]

    def load(self, plan: tw.LoadPlan, progress: tw.Progress) -> tw.IRunner:
        server, _, model = plan.model_path.partition("#")
        if not model:
            raise tw.LoadError("the backend upstream runs no files: it serves what another engine has")
        try:
            for entry in _connect(server).ask("/v1/models")["data"]:
                if entry["id"] == model:
                    return UpstreamRunner(plan, entry, lambda runs: _connect(server, runs))
        except tw.RunnerError as error:
            raise tw.LoadError(str(error)) from error
        raise tw.LoadError(f"the engine at {server} has no model {model} any more")


def _servers() -> Sequence[str]:
    return os.environ.get("OLLAMA_TW_UPSTREAM", "").replace(",", " ").split()


def _connect(server: str, runs: Runs | None = None, timeout: float = 60) -> HTTPEngine:
    key = os.environ.get("OLLAMA_TW_UPSTREAM_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return HTTPEngine(server, runs or Runs(1), headers=headers, timeout=timeout)


def _models(server: str) -> list[tw.RemoteModel]:
    """What ``server`` serves; nothing while it cannot be reached."""
    engine = _connect(server, timeout=1)
    try:
        entries = engine.ask("/v1/models")["data"]
    except tw.RunnerError:
        return []
    template = properties(engine).get("chat_template", "")
    return [_model(server, entry, template) for entry in entries]


def _model(server: str, entry: dict[str, Any], template: str) -> tw.RemoteModel:
    # Where llama-server was given no name it is the path of its file.
    name = entry["id"].rpartition("/")[2] if entry["id"].startswith("/") else entry["id"]
    metadata: dict[str, str | int] = {
        "general.architecture": "remote",
        "remote.context_length": context_length(entry),
        "tokenizer.chat_template": template,
    }
    return tw.RemoteModel(name.removesuffix(".gguf"), f"{server}#{entry['id']}", server, metadata)
