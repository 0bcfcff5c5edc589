"""Replica of a model on a node: llama.cpp, or another backend of the node, in a process of Ray Serve."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from ollama_tw.engine.backends import NoBackend, choose, discover
from ollama_tw.engine.memory import DoesNotFit, place_layers
from ollama_tw.engine.model_shape import model_shape
from ollama_tw.gguf.reader import GGUFError, is_gguf, read_header
from ollama_tw.interfaces import IBackend, IReranker, IRunner, Job, LoadError, LoadPlan, Piece
from ollama_tw.runner.failures import to_failure
from ollama_tw.runner.messages import Failure
from ollama_tw_ray.bundles import Bundler
from ollama_tw_ray.files import ModelFile, with_local_files

OWN = ("ray", "upstream")
"""Backends that do not run models on this node."""

_ABOUT = ("size", "size_gpu", "context_length", "slots", "bos_text", "eos_text", "adds_bos")


def job_fields(job: Job) -> dict[str, Any]:
    """Return the fields of ``job`` that cross to a replica: all but its event."""
    return {
        field.name: getattr(job, field.name) for field in dataclasses.fields(job) if field.name != "cancel"
    }


def local_backend(name: str) -> IBackend:
    """Return the backend called ``name`` on this node, or the best one if it is "". Raises LoadError."""
    try:
        return choose((one for one in discover() if one.name not in OWN), name).backend
    except NoBackend as error:
        raise LoadError(str(error)) from error


class Front(Protocol):
    """The interface of the front to its replicas."""

    def read(self, digest: str, offset: int, length: int) -> bytes:
        """Return a part of a model file. Blocking."""

    def alive(self) -> bool:
        """Return whether it runs. Blocking."""

    def clear_up(self) -> None:
        """Stop all replicas of the model, if the front cannot do it any more. Blocking."""


class Replica:
    """The model of ``plan`` on this node; the ``front`` has the files that are not here.

    Methods that fail return the failure, so that its class and arguments survive the way.
    """

    def __init__(
        self, plan: LoadPlan, files: list[ModelFile], backend: str, store: str, front: Front
    ) -> None:
        self._front = front
        plan = with_local_files(plan, files, Path(store).expanduser(), front.read)
        chosen = local_backend(backend)
        self._runner: IRunner = chosen.load(_placed(plan, chosen), lambda done: True)
        # One thread more than jobs can run, for other calls.
        self._threads = ThreadPoolExecutor(self._runner.slots + 2, thread_name_prefix="jobs")

    def describe(self) -> dict[str, Any]:
        """Return the attributes of the runner."""
        about = {name: getattr(self._runner, name) for name in _ABOUT}
        return about | {
            "metadata": dict(self._runner.metadata),
            "ranks": IReranker.providedBy(self._runner),
        }

    async def generate(
        self, fields: dict[str, Any], blocks: Sequence[int] = ()
    ) -> AsyncIterator[Piece | Failure]:
        """Yield bundles of the pieces of a job. ``blocks`` are for the router."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Queue[Piece | Failure | None] = asyncio.Queue()
        job = Job(**fields)

        def give(item: Piece | Failure | None) -> None:
            loop.call_soon_threadsafe(ready.put_nowait, item)

        def work() -> None:
            try:
                Bundler(give).run(self._runner.generate(job))
                give(None)
            except Exception as error:
                give(to_failure(error))

        self._threads.submit(work)
        try:
            while (item := await ready.get()) is not None:
                yield item
        finally:
            # Also when the front has cancelled the call, or is gone.
            job.cancel.set()

    async def check_health(self) -> None:
        """Stop the replicas if the front has died without having done it. Serve calls this regularly."""
        if not await self._call(lambda cancel: self._front.alive()):
            await self._call(lambda cancel: self._front.clear_up())

    async def embed(self, inputs: Sequence[str]) -> Any:
        """Return the embeddings of ``inputs``."""
        return await self._call(lambda cancel: list(self._runner.embed(inputs, cancel)))

    async def rank(self, query: str, documents: Sequence[str]) -> Any:
        """Return the rankings of ``documents``."""
        reranker: Any = self._runner
        return await self._call(lambda cancel: list(reranker.rank(query, documents, cancel)))

    async def tokenize(self, text: str, add_special: bool) -> Any:
        """Return the tokens of ``text``."""
        return await self._call(lambda cancel: list(self._runner.tokenize(text, add_special=add_special)))

    async def detokenize(self, tokens: Sequence[int]) -> Any:
        """Return the text of ``tokens``."""
        return await self._call(lambda cancel: self._runner.detokenize(tokens))

    async def _call(self, work: Callable[[Event], Any]) -> Any:
        cancel = Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, work, cancel)
        except Exception as error:
            return to_failure(error)
        finally:
            cancel.set()

    def __del__(self) -> None:
        """Free the model's memory; Serve calls this when it stops a replica."""
        runner = getattr(self, "_runner", None)
        if runner is not None:
            runner.close()


def _placed(plan: LoadPlan, backend: IBackend) -> LoadPlan:
    """Return ``plan`` with its layers on the devices of this node."""
    path = Path(plan.model_path)
    devices = backend.probe().devices
    if not devices or not is_gguf(path):
        return plan
    try:
        shape = model_shape(read_header(path), (*plan.adapter_paths, *plan.projector_paths))
        return place_layers(shape, plan, devices)
    except (GGUFError, OSError, DoesNotFit) as error:
        raise LoadError(str(error)) from error
