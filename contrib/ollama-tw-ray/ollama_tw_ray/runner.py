"""Runner of a model on a Ray cluster: jobs are sent to replicas, pieces come back in bundles."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayError, TaskCancelledError
from zope.interface import alsoProvides, implementer

from ollama_tw import interfaces as tw
from ollama_tw.runner.failures import to_exception
from ollama_tw.runner.messages import Failure
from ollama_tw.support.router import block_hashes
from ollama_tw.support.runner import SlotRunner
from ollama_tw_ray import states
from ollama_tw_ray.cluster import Application
from ollama_tw_ray.replica import job_fields

_ATTEMPTS = 2


@implementer(tw.IReplicated)
class RayRunner(SlotRunner):
    """The model of an ``application``.

    There are as many slots as the replicas have lanes, and those of one replica more while another one may be
    added: Ray adds one when more jobs wait than the replicas run. A job whose replica dies before its first
    output is sent once more.
    """

    def __init__(
        self, plan: tw.LoadPlan, application: Application, vocabulary: tw.IVocabulary | None
    ) -> None:
        """Tokens are counted with ``vocabulary``, or by the replicas if it is None."""
        about = application.about
        super().__init__(replace(plan, slots=about["slots"]), "remote")
        self._application = application
        self._vocabulary = vocabulary
        self._lanes: int = about["slots"]
        self.size = about["size"]
        self.size_gpu = about["size_gpu"]
        self.context_length = about["context_length"]
        self.metadata = about["metadata"]
        self.bos_text, self.eos_text = about["bos_text"], about["eos_text"]
        self.adds_bos = about["adds_bos"]
        if about["ranks"]:
            alsoProvides(self, tw.IReranker)
        self._nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        self._states: Sequence[states.RunningState] = ()
        states.watch(application.name, self._replicas_changed)

    # ---------------------------------------------------------------------------------- replicas

    @property
    def replicas(self) -> Sequence[tw.ReplicaState]:
        """The replicas. See IReplicated."""
        return [
            tw.ReplicaState(
                f"{self._nodes.get(one.node, one.node)} {one.name}", "ready", one.lanes, one.running
            )
            for one in self._states
        ]

    def _replicas_changed(self, states: Sequence[states.RunningState]) -> None:
        self._states = states
        wanted = min(len(states) + 1, self._application.max_replicas)
        self.resize(max(1, wanted) * self._lanes)

    # ------------------------------------------------------------------------------------ tokens

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the tokens of ``text``."""
        if self._vocabulary is not None:
            return self._vocabulary.tokenize(text, add_special=add_special)
        return cast(Sequence[int], self._ask("tokenize", text, add_special))

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""
        self.check(tokens)
        if self._vocabulary is not None:
            return str(self._vocabulary.detokenize(tokens))
        return str(self._ask("detokenize", list(tokens)))

    def _ask(self, method: str, *arguments: Any, cancel: threading.Event | None = None) -> Any:
        """Return the result of a call of a replica; it is repeated on another one if that one dies."""
        if self.runs.closed:
            raise tw.RunnerError("the model was unloaded")
        cancel = cancel or threading.Event()
        for attempt in range(_ATTEMPTS):
            call = getattr(self._application.handle, method).remote(*arguments)
            try:
                with self.runs.interrupting(cancel, call.cancel):
                    answer = call.result()
                break
            except RayError as error:
                if attempt + 1 == _ATTEMPTS or not isinstance(error, RayActorError):
                    raise tw.RunnerError(f"no replica of the model answers: {_text(error)}") from error
        if isinstance(answer, Failure):
            raise to_exception(answer)
        return answer

    # ---------------------------------------------------------------------------------------- jobs

    def generate(self, job: tw.Job) -> Iterator[tw.Piece]:
        """Yield the pieces of ``job``. See IRunner."""
        if not job.images:
            yield from super().generate(job)
            return
        with self.runs.slot(job.cancel) as taken:
            if taken:
                yield from self._run(job, ())
            else:
                yield _cancelled(0)

    def run(self, job: tw.Job, prompt: Sequence[int], limit: int) -> Iterator[tw.Piece]:
        """Yield a piece for each bundle of a replica, which observes the limits itself."""
        yield from self._run(replace(job, prompt=tuple(prompt)), prompt)

    def _run(self, job: tw.Job, prompt: Sequence[int]) -> Iterator[tw.Piece]:
        fields, blocks = job_fields(job), block_hashes(prompt)
        for attempt in range(_ATTEMPTS):
            output = False
            call = self._application.handle.options(stream=True).generate.remote(fields, blocks=blocks)
            try:
                with self.runs.interrupting(job.cancel, call.cancel):
                    for piece in call:
                        if isinstance(piece, Failure):
                            raise to_exception(piece)
                        output = output or bool(piece.text or piece.logprobs)
                        yield piece
                        if piece.done is not None:
                            return
            except TaskCancelledError:
                pass
            except RayActorError as error:
                if output:
                    raise tw.RunnerError("the reply broke off: its replica died") from error
                if attempt + 1 == _ATTEMPTS:
                    raise tw.RunnerError(f"two replicas of the model died: {_text(error)}") from error
                continue
            except RayError as error:
                raise tw.RunnerError(f"Ray failed to run the request: {_text(error)}") from error
            finally:
                with suppress(Exception):  # it may have ended meanwhile
                    call.cancel()
            if self.runs.ended(job.cancel):
                yield _cancelled(len(prompt))
                return
            raise tw.RunnerError("the replica gave no end of the reply")

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[tw.Embedding]:
        """Return one embedding for each input, from a replica."""
        return cast(Sequence[tw.Embedding], self._ask("embed", list(inputs), cancel=cancel))

    def rank(self, query: str, documents: Sequence[str], cancel: threading.Event) -> Sequence[tw.Ranking]:
        """Return one ranking for each document, from a replica. See IReranker."""
        return cast(Sequence[tw.Ranking], self._ask("rank", query, list(documents), cancel=cancel))

    def close(self) -> None:
        """End all jobs, and stop the replicas."""
        super().close()
        # The child process that reads the vocabulary ends with the last reference.
        self._vocabulary = None
        states.forget(self._application.name)
        self._application.delete()


def _cancelled(prompt_tokens: int) -> tw.Piece:
    return tw.Piece("", done=tw.DoneReason.CANCELLED, usage=tw.Usage(prompt_tokens, 0, 0, 0, 0))


def _text(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
