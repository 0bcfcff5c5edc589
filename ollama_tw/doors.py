"""The doors of the server: the routes of all subjects on one site, behind one guard."""

import socket
from collections.abc import Callable
from typing import Any

import psutil

from ollama_tw.http.account import AccountRoutes
from ollama_tw.http.anthropic import AnthropicRoutes
from ollama_tw.http.app import Health, Routes
from ollama_tw.http.backends import BackendRoutes
from ollama_tw.http.blobs import Blobs
from ollama_tw.http.cloud import CloudDoor, CloudRoutes
from ollama_tw.http.completions import CompletionRoutes
from ollama_tw.http.guard import Guard, HostPolicy, OriginPolicy
from ollama_tw.http.health import HealthRoutes
from ollama_tw.http.models import ModelRoutes
from ollama_tw.http.openai import OpenAIEmbeddingRoutes, OpenAIModelRoutes, OpenAIRoutes
from ollama_tw.http.openai_responses import ResponsesRoutes
from ollama_tw.http.rerank import RerankRoutes
from ollama_tw.http.site import ApiSite, make_site
from ollama_tw.http.tokens import TokenRoutes
from ollama_tw.http.transcriptions import TranscriptionRoutes
from ollama_tw.http.transfers import TransferRoutes
from ollama_tw.http.websocket import WebSocketDoor
from ollama_tw.metrics import Metrics
from ollama_tw.rooms import Rooms
from ollama_tw.settings import Settings


def make_doors(
    reactor: Any,
    settings: Settings,
    rooms: Rooms,
    metrics: Metrics,
    *,
    bound_host: str,
    ready: Callable[[], bool],
) -> ApiSite:
    """The site that serves ``rooms``. ``bound_host``: an address that tells whether the server can be
    reached from elsewhere; ``ready``: whether new requests are still welcome."""
    routes = Routes()
    Health().register(routes)
    HealthRoutes(metrics, ready).register(routes)
    BackendRoutes(rooms.backends, rooms.backend, rooms.disk).register(routes)
    AccountRoutes(rooms.account, rooms.cloud_status).register(routes)
    cloud = CloudDoor(reactor, rooms.cloud, rooms.policy)
    CloudRoutes(cloud, rooms.policy, rooms.recommendations).register(routes)

    blobs = Blobs(rooms.store.blobs, rooms.disk.run)
    blobs.register(routes)
    models = ModelRoutes(
        reactor,
        rooms.store,
        rooms.disk,
        rooms.scheduler,
        rooms.creations,
        rooms.remotes,
        cloud,
        settings.go_template,
    )
    models.register(routes)
    transfers = TransferRoutes(reactor, rooms.store, rooms.disk.run, rooms.pulls, rooms.pushes)
    transfers.register(routes)

    completions = CompletionRoutes(reactor, rooms.completions, rooms.embeddings, cloud)
    completions.register(routes)
    RerankRoutes(reactor, rooms.reranking).register(routes)
    TokenRoutes(rooms.tokens).register(routes)

    OpenAIRoutes(reactor, rooms.completions, cloud.takes_body).register(routes)
    OpenAIModelRoutes(rooms.store, rooms.disk, rooms.remotes, cloud).register(routes)
    OpenAIEmbeddingRoutes(reactor, rooms.embeddings, rooms.tokens, cloud.takes_body).register(routes)
    ResponsesRoutes(reactor, rooms.completions, cloud.takes_body).register(routes)
    TranscriptionRoutes(reactor, rooms.completions).register(routes)
    AnthropicRoutes(reactor, rooms.completions, rooms.tokens, cloud.takes_body).register(routes)

    websocket = WebSocketDoor(
        reactor,
        {
            "/api/generate": completions.generate,
            "/api/chat": completions.chat,
            "/api/embed": completions.embed,
            "/api/create": models.create,
            "/api/pull": transfers.pull,
            "/api/push": transfers.push,
        },
    )
    guard = Guard(
        OriginPolicy(settings.origins),
        HostPolicy(bound_host, _local_addresses(), socket.gethostname()),
    )
    return make_site(
        routes.resource(),
        guard,
        reactor=reactor,
        uploads=[blobs.upload],
        observe=metrics.request,
        door=websocket,
    )


def _local_addresses() -> set[str]:
    """The addresses of this machine's interfaces."""
    return {
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    }
