"""The Ray cluster, and the models that run on it as applications of Ray Serve.

Ray is imported here, and by what is imported together with this module.
"""

import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import ray
from ray import serve
from ray.exceptions import ActorDiedError
from ray.serve.config import AutoscalingConfig, ProxyLocation, RequestRouterConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ollama_tw.interfaces import Device, LoadCancelled, LoadError, LoadPlan, Progress
from ollama_tw_ray.files import BlobSource, files_of
from ollama_tw_ray.replica import Replica
from ollama_tw_ray.routing import PATH
from ollama_tw_ray.settings import Settings
from ollama_tw_ray.signals import kept_sigterm

_DEPLOYMENT = "model"
_POLL = 0.2
_STOP_SECONDS = 10.0
"""Seconds for the jobs of a replica to end when it is stopped."""

_UPSCALE_SECONDS = 2.0
"""Seconds for which the load must be higher before a replica is added."""

_lock = threading.Lock()

logging.getLogger("ray.serve").setLevel(logging.WARNING)


def connect(address: str) -> None:
    """Connect this process to the cluster at ``address``, unless it is connected. Raises ConnectionError."""
    with _lock:
        if ray.is_initialized():
            return
        try:
            with kept_sigterm():
                ray.init(address=address, namespace="ollama_tw", log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConnectionError(str(error).splitlines()[0]) from error


def devices() -> tuple[Device, ...]:
    """Return a device for each node that is alive."""
    return tuple(_device(node) for node in ray.nodes() if node["Alive"])


def _device(node: dict[str, Any]) -> Device:
    resources = node["Resources"]
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    kind = next((key.partition(":")[2] for key in resources if key.startswith("accelerator_type:")), "")
    parts = [f"{cpus:g} CPUs", *([f"{gpus:g} GPUs {kind}".strip()] if gpus else [])]
    # With a total of 0 the layers are placed by each node, not by the front.
    return Device(node["NodeManagerAddress"], ", ".join(parts), "gpu" if gpus else "cpu", 0, 0)


class RemoteFront:
    """The front of ``application``, seen from a replica; ``source`` is its actor."""

    def __init__(self, application: str, source: Any) -> None:
        self._application = application
        self._source = source

    def read(self, digest: str, offset: int, length: int) -> bytes:
        """Return a part of a model file."""
        data: bytes = ray.get(self._source.read.remote(digest, offset, length))
        return data

    def alive(self) -> bool:
        """Return whether the front's actor runs, which ends with it."""
        try:
            return bool(ray.get(self._source.alive.remote()))
        except ActorDiedError:
            return False

    def clear_up(self) -> None:
        """Delete the application."""
        serve.delete(self._application)


@dataclass(frozen=True)
class Application:
    """A model on the cluster."""

    name: str
    handle: Any
    about: dict[str, Any]
    """Description of a replica, returned by :meth:`Replica.describe`."""
    max_replicas: int
    source: Any

    def delete(self) -> None:
        """Stop all replicas."""
        _delete(self.name, self.source)


def _delete(name: str, source: Any) -> None:
    with suppress(Exception):  # the cluster may be gone
        serve.delete(name)
    with suppress(Exception):
        ray.kill(source)


def run(plan: LoadPlan, given: Settings, progress: Progress) -> Application:
    """Start the model of ``plan`` with one replica. Raises LoadError, and LoadCancelled by ``progress``."""
    files = files_of(plan)
    here = ray.get_runtime_context().get_node_id()
    paths = dict(
        zip(plan.digests, (plan.model_path, *plan.adapter_paths, *plan.projector_paths), strict=False)
    )
    pinned = NodeAffinitySchedulingStrategy(here, soft=False)
    source = ray.remote(BlobSource).options(num_cpus=0, scheduling_strategy=pinned).remote(paths)
    # Each load is an application of its own, also while an earlier one of the same model is being deleted.
    name = f"ollama-tw-{uuid4().hex[:16]}"
    gpus = _gpus(plan, given)
    most = given.max_replicas or _most_replicas(gpus)
    deployment = serve.deployment(Replica).options(
        name=_DEPLOYMENT,
        ray_actor_options={"num_cpus": plan.threads or 1, "num_gpus": gpus},
        # Without a number of threads a replica uses all cores of its node.
        **({} if plan.threads or gpus else {"max_replicas_per_node": 1}),
        max_ongoing_requests=plan.slots,
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=_STOP_SECONDS,
        autoscaling_config=AutoscalingConfig(
            min_replicas=given.min_replicas,
            initial_replicas=1,
            max_replicas=max(1, most),
            target_ongoing_requests=plan.slots,
            upscale_delay_s=_UPSCALE_SECONDS,
            downscale_delay_s=given.idle_seconds,
        ),
        request_router_config=RequestRouterConfig(request_router_class=PATH),
    )
    bound = deployment.bind(plan, files, given.backend, given.store, RemoteFront(name, source))
    started = _Starting(name, bound)
    size = sum(file.size for file in files)
    try:
        handle = started.wait(lambda: progress(min(ray.get(source.sent.remote()) / max(size, 1), 1.0)))
        about = handle.describe.remote().result()
    except BaseException:
        started.undo(source)
        raise
    return Application(name, handle, about, max(1, most), source)


def _gpus(plan: LoadPlan, given: Settings) -> float:
    if plan.gpu_layers == 0:
        return 0.0
    if given.gpus is not None:
        return given.gpus
    return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0


def _most_replicas(gpus: float) -> int:
    if gpus:
        return int(ray.cluster_resources().get("GPU", 0) / gpus)
    return sum(bool(node["Alive"] and node["Resources"].get("CPU")) for node in ray.nodes())


class _Starting:
    """Start of an application, on a thread: Ray's call blocks until it runs or has failed."""

    def __init__(self, name: str, bound: Any) -> None:
        self._name = name
        self._outcome: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(bound,), daemon=True, name="ray serve")
        self._thread.start()

    def _run(self, bound: Any) -> None:
        try:
            # Requests come through handles: no node serves HTTP.
            serve.start(proxy_location=ProxyLocation.Disabled)
            self._outcome.append(serve.run(bound, name=self._name, route_prefix=None))
        except BaseException as error:
            self._outcome.append(error)

    def undo(self, source: Any) -> None:
        """Delete the application as soon as Ray's call has returned, on a thread."""

        def delete() -> None:
            self._thread.join()
            _delete(self._name, source)

        threading.Thread(target=delete, daemon=True, name="ray serve").start()

    def wait(self, goes_on: Callable[[], bool]) -> Any:
        """Return the handle. Raises LoadError, and LoadCancelled when ``goes_on`` returns False."""
        while self._thread.is_alive():
            self._thread.join(_POLL)
            if not goes_on():
                raise LoadCancelled("the load was cancelled")
        (outcome,) = self._outcome
        if isinstance(outcome, BaseException):
            raise LoadError(_reason(self._name, outcome)) from outcome
        return outcome


def _reason(name: str, error: BaseException) -> str:
    """Return the text of the error of a replica, which Ray reports with a traceback."""
    text = str(error)
    with suppress(Exception):
        application = serve.status().applications[name]
        text = "\n".join([text, application.message, *(d.message for d in application.deployments.values())])
    found = re.findall(r"LoadError: (.*)", text)
    return found[-1].strip() if found else f"Ray could not start the model: {text.splitlines()[0]}"
