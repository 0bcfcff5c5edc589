"""Selection of the backend that loads model files, on a thread, while the server already answers requests."""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from threading import Thread
from typing import TypeVar

from twisted.logger import Logger

from ollama_tw.engine.backends import DiscoveredBackend, NoBackend, choose, probed
from ollama_tw.engine.queue import shutting_down
from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import IModelSource

T = TypeVar("T")

_log = Logger()


class BackendSelection:
    """The backends that ``installed`` finds, probed on a thread, and the first available one of them.

    ``wanted`` is the name of the backend to select, "" for any. :meth:`all`, :meth:`chosen` and
    :meth:`model_sources` block: call them on worker threads. They raise :class:`OllamaError` 500 if no
    backend is available, 503 after :meth:`cancel`.
    """

    def __init__(self, installed: Callable[[], Sequence[DiscoveredBackend]], wanted: str = "") -> None:
        self._installed: Future[Sequence[DiscoveredBackend]] = Future()
        self._probed: Future[Sequence[DiscoveredBackend]] = Future()
        self._chosen: Future[DiscoveredBackend] = Future()
        thread = Thread(target=self._select, args=(installed, wanted), daemon=True, name="backends")
        thread.start()

    def _select(self, installed: Callable[[], Sequence[DiscoveredBackend]], wanted: str) -> None:
        try:
            found = installed()
            self._installed.set_result(found)
            found = [probed(one) for one in found]
            self._probed.set_result(found)
            _log_probes(found)
            chosen = choose(found, wanted)
            self._chosen.set_result(chosen)
            _log.info("models run on backend {name}", name=chosen.name)
        except InvalidStateError:
            # Cancelled meanwhile.
            return
        except NoBackend as error:
            self._chosen.set_exception(OllamaError(500, str(error)))
        except Exception:
            _log.failure("the backends could not be probed")
            reason = OllamaError(500, "the backends could not be probed; see the server's log")
            for future in (self._installed, self._probed, self._chosen):
                if not future.done():
                    future.set_exception(reason)

    def all(self) -> Sequence[DiscoveredBackend]:
        """Return all backends, by descending priority."""
        return _result(self._probed)

    def chosen(self) -> DiscoveredBackend:
        """Return the backend that loads model files."""
        return _result(self._chosen)

    def model_sources(self) -> list[DiscoveredBackend]:
        """Return the available backends that list models of their own.

        If none is installed, this does not wait for the devices of the others.
        """
        found = _result(self._installed)
        if not any(_lists_models(one) for one in found):
            return []
        return [one for one in self.all() if one.probe.available and _lists_models(one)]

    @property
    def ready(self) -> bool:
        """True once a backend is chosen."""
        return self._chosen.done() and self.failure is None

    @property
    def failure(self) -> OllamaError | None:
        """Why no backend is chosen; None if one is, or may be yet."""
        if not self._chosen.done():
            return None
        try:
            self.chosen()
        except OllamaError as error:
            return error
        return None

    def when_done(self, call: Callable[[], None]) -> None:
        """Call ``call`` once on some thread when a backend is chosen, or none is available."""
        self._chosen.add_done_callback(lambda _: call())

    def cancel(self) -> None:
        """Fail the calls that wait for the selection. No effect if it is over."""
        for future in (self._installed, self._probed, self._chosen):
            future.cancel()


def _lists_models(one: DiscoveredBackend) -> bool:
    return bool(IModelSource.providedBy(one.backend))


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except CancelledError:
        raise shutting_down() from None


def _log_probes(found: Sequence[DiscoveredBackend]) -> None:
    for one in found:
        _log.info(
            "backend {name} ({file}): {what}",
            name=one.name,
            file=one.file,
            what=one.probe.reason
            or ", ".join(f"{device.name} ({device.description})" for device in one.probe.devices),
        )
