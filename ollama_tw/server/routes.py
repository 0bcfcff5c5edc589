"""Registers all routes on one site, behind the CORS and Host checks."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import psutil

from ollama_tw.access.keyring import Keyring
from ollama_tw.config.settings import Settings
from ollama_tw.http.cloud import CloudRelay, CloudRoutes
from ollama_tw.http.gate import Gate
from ollama_tw.http.native.account import AccountRoutes
from ollama_tw.http.native.backends import BackendRoutes
from ollama_tw.http.native.blobs import BlobRoutes
from ollama_tw.http.native.health import HealthRoutes, Readiness
from ollama_tw.http.native.models import ModelRoutes
from ollama_tw.http.native.requests import RequestRoutes
from ollama_tw.http.native.transfers import TransferRoutes
from ollama_tw.http.native.version import VersionRoutes
from ollama_tw.http.server.guard import Guard, HostPolicy, OriginPolicy
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.site import ApiSite, make_site
from ollama_tw.http.ui.routes import PageRoutes
from ollama_tw.http.websocket.endpoint import WebSocketEndpoint
from ollama_tw.metrics import Metrics
from ollama_tw.server.components import Components
from ollama_tw.tracking.register import RequestRegister

if TYPE_CHECKING:
    from ollama_tw.server.inference_routes import Inference


@dataclass(frozen=True)
class Api:
    """The site, and what is done with its services beside requests."""

    site: ApiSite
    apply: Callable[[Settings], None]
    """Uses other settings for the requests from now on."""
    preload: Callable[[str], Awaitable[None]]
    """Loads a model. Raises OllamaError."""


def make_api_site(
    reactor: Any,
    settings: Settings,
    components: Components,
    metrics: Metrics,
    *,
    keyring: Keyring,
    bound_host: str,
    readiness: Callable[[], Readiness],
) -> Api:
    """Return the site with the routes of ``components``.

    Requests are checked against the keys of ``keyring``, and against their ``Host`` header if ``bound_host``
    is a loopback address.
    """
    routes = Routes()
    VersionRoutes(settings.version).register(routes)
    HealthRoutes(metrics, readiness).register(routes)
    requests = RequestRegister()
    RequestRoutes(requests, components.scheduler.positions).register(routes)
    if settings.ui:
        PageRoutes().register(routes)
    BackendRoutes(components.backends, components.disk).register(routes)
    AccountRoutes(components.account, components.cloud_status).register(routes)
    cloud = CloudRelay(reactor, components.cloud, components.policy, components.configured)
    CloudRoutes(cloud, components.policy, components.recommendations).register(routes)

    blobs = BlobRoutes(components.store.blobs, components.disk.run)
    blobs.register(routes)
    models = ModelRoutes(reactor, components.models, components.creation, cloud)
    models.register(routes)
    transfers = TransferRoutes(
        reactor, components.store, components.disk.run, components.pulls, components.pushes
    )
    transfers.register(routes)

    in_force = settings

    @cache
    def inference() -> "Inference":
        from ollama_tw.server.inference_routes import Inference

        return Inference(reactor, in_force, components, metrics, cloud)

    routes.add_later(lambda: inference().register(routes))

    websocket = WebSocketEndpoint(
        reactor,
        {
            "/api/generate": lambda request: inference().routes.generate(request),
            "/api/chat": lambda request: inference().routes.chat(request),
            "/api/embed": lambda request: inference().routes.embed(request),
            "/api/create": models.create,
            "/api/pull": transfers.pull,
            "/api/push": transfers.push,
        },
    )
    guard = Guard(_origin_policy(settings), HostPolicy(bound_host, _local_addresses(), socket.gethostname()))

    def apply(new: Settings) -> None:
        nonlocal in_force
        in_force = new
        guard.origins = _origin_policy(new)
        if inference.cache_info().currsize:
            inference().apply(new)

    site = make_site(
        routes.resource(),
        guard,
        reactor=reactor,
        uploads=[blobs.upload],
        observe=metrics.request,
        upgrade=websocket,
        requests=requests,
        admission=Gate(
            reactor,
            keyring,
            components.limits,
            routes.access_of,
            metrics,
            shares_prompts=settings.prompt_cache_shared,
        ),
    )
    return Api(site, apply, lambda model: inference().preload(model))


def _origin_policy(settings: Settings) -> OriginPolicy:
    return OriginPolicy(settings.origins, guards_models=not settings.origins_listed)


def _local_addresses() -> set[str]:
    """Return the addresses of this machine's interfaces."""
    return {
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    }
